"""What the shell and the supervisor import, how much memory they take, and that one starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from core import processes
from core.runs import queue, supervisor
from core.storage import is_held

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "scipy",
    "pandas",
    "numpy",
    "streamlit",
    "plotly",
)
NETWORKS = ("torch", "timm", "sklearn", "plotly")
EVERY_HELP = """
import json, sys
from typer.testing import CliRunner
from core.__main__ import app
import typer.main
runner, found = CliRunner(), {}
for name in [None, *typer.main.get_command(app).commands]:
    answer = runner.invoke(app, [*([name] if name else []), "--help"])
    found[name or ""] = [answer.exit_code, [m for m in HEAVY if m in sys.modules]]
print(json.dumps(found))
"""
LIGHT_VERBS = """
import json, sys
from typer.testing import CliRunner
from core.__main__ import app
runner, found = CliRunner(), {}
for name in ("runs", "datasets", "fields", "studies"):
    answer = runner.invoke(app, [name, "--json"])
    found[name] = [answer.exit_code, [m for m in NETWORKS if m in sys.modules]]
print(json.dumps(found))
"""


def answer_of(code: str) -> dict[str, list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY, NETWORKS = {HEAVY}, {NETWORKS}\n{code}"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_no_help_text_imports_a_library_that_takes_long():
    found = answer_of(EVERY_HELP)
    assert len(found) > 30 and {"", "train", "ensemble", "runs", "worker"} <= set(found)
    assert {name: one for name, one in found.items() if one != [0, []]} == {}


def test_the_verbs_that_only_list_import_no_network():
    found = answer_of(LIGHT_VERBS)
    assert {name: one for name, one in found.items() if one != [0, []]} == {}


@pytest.mark.skipif(os.name == "nt", reason="a lock is inherited on POSIX alone")
def test_one_process_holds_the_lock_from_its_birth_until_its_death(tmp_path):
    lock, command = tmp_path / "lock", [sys.executable, "-c", "import time; time.sleep(60)"]
    first = processes.start_once(command, tmp_path / "log", lock)
    assert first is not None
    try:
        # The child has done nothing for it yet, and need not.
        assert is_held(lock)
        assert processes.start_once(command, tmp_path / "log", lock) is None
    finally:
        first.kill()
        first.wait()
    assert not is_held(lock)
    second = processes.start_once(command, tmp_path / "log", lock)
    assert second is not None
    second.kill()
    second.wait()


def serves(process: psutil.Process, home: Path) -> bool:
    return process.environ().get("HEADSTART_HOME") == str(home)


def supervisors(home: Path) -> list[psutil.Process]:
    """The supervisors that serve a home."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        lives = process.info["status"] != psutil.STATUS_ZOMBIE
        if line[1:4] == ["-m", "core", "worker"] and lives and serves(process, home):
            found.append(process)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of other processes")
def test_many_who_start_a_supervisor_at_once_start_one_and_it_is_small(home, monkeypatch):
    monkeypatch.setattr(supervisor.queue, "entries", lambda: [queue.Entry("x", 1, None)])
    monkeypatch.setenv("HEADSTART_IDLE_SECONDS", "60")
    started = [supervisor.ensure() for _ in range(6)]
    assert started == [None] * 6
    try:
        assert len(supervisors(home)) == 1
        end = time.monotonic() + 120
        while not is_held(queue.supervisor_lock()):
            assert time.monotonic() < end, "the supervisor did not begin"
            assert len(supervisors(home)) == 1
            supervisor.ensure()
            time.sleep(0.05)
        time.sleep(0.5)
        (one,) = supervisors(home)
        assert one.memory_info().rss < 80e6
    finally:
        for process in supervisors(home):
            processes.kill_with_children(process.pid)
