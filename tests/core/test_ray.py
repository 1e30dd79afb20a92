"""Runs as jobs of a real Ray cluster on this machine: stopped, adopted, and a node lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from core import recipe as recipes
from core.data import importing
from core.data.dataset import Dataset
from core.errors import MachineRefused
from core.processes import ROOT
from core.runs import queue, ray_cluster, ray_engine
from core.runs import run as runs
from core.runs.run import Run
from core.runs.status import status_of
from core.storage import is_held
from core.studies import study as studies
from core.studies.plan import Plan, start
from core.studies.space import read
from core.studies.trials import records_of
from core.training.events import Started, epochs_of
from tests.core.small_cluster import SmallCluster, started

pytest.importorskip("ray", reason="ray is an extra: pip install -r requirements-ray.txt")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Ray's clusters are not for Windows")
EPOCHS = 6
TUNE = ["image.size=32", "compute.batch_size=17", "compute.precision=fp32",
        "technique.name=finetune"]  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    with started() as found:
        yield found


@pytest.fixture
def dataset(class_photos, make_folder) -> Dataset:
    return importing.import_all(make_folder(class_photos("ants", "bees", each=24)))


@pytest.fixture
def on_ray(cluster: SmallCluster, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home whose engine is the cluster; its supervisors and drivers end with the test."""
    settings = {"HEADSTART_ENGINE": "ray", "HEADSTART_RAY_ADDRESS": cluster.address}
    for name, value in {**settings, **cluster.environment}.items():
        monkeypatch.setenv(name, value)
    yield
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("HEADSTART_HOME") == str(home)
        except psutil.Error:
            continue
        if ours and process.pid != os.getpid():
            process.kill()


def supervisor() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "core", "worker"], cwd=ROOT)


def made(dataset: Dataset, *changes: str) -> Run:
    return runs.create(dataset, recipes.with_settings(recipes.preset("quick"), [*TUNE, *changes]))


def wait(condition, seconds: float = 120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def starts(run: Run) -> int:
    return sum(isinstance(event, Started) for event in run.events())


def tuned(run: Run) -> list[int]:
    """The epochs of the network so far; that of its head alone come before."""
    return [epoch.epoch for epoch in epochs_of(run.events()) if epoch.phase == "tune"]


def last_epoch(run: Run) -> int:
    return max(tuned(run), default=0)


def runs_at(node: subprocess.Popen[bytes]) -> list[Run]:
    """The runs whose workers belong to a node."""
    found = []
    for process in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.Error):
            line = process.cmdline()
            if line[1:3] == ["-m", "core.runs.worker"]:
                found.append(runs.load(Path(line[3]).name))
    return found


def test_a_search_of_eight_trials_is_finished_though_a_node_is_lost(cluster, dataset, on_ray):
    node = cluster.add()
    recipe = recipes.with_settings(recipes.preset("quick"), [*TUNE, f"schedule.epochs={EPOCHS}"])
    space = read({"optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, recipe)
    study = start(dataset, recipe, Plan(space, "random", trials=8, pruning="none", parallel=2))

    def under_way() -> list[Run]:
        return [r for r in runs_at(node) if r.member.isdigit() and 1 <= last_epoch(r) < EPOCHS // 2]

    (lost,) = wait(under_way)
    cluster.lose(node)
    another = cluster.add()
    wait(lambda: runs_at(another))
    wait(lambda: study.result, 300)
    cluster.lose(another)
    records = records_of(study)
    assert sorted(record["number"] for record in records) == list(range(8))
    assert {record["state"] for record in records} == {"complete"}
    assert study.result["reason"] == "finished"
    members = studies.members(study)
    assert sorted(members) == sorted(["base", "winner", *map(str, range(8))])
    assert {runs.state_of(run) for run in members.values()} == {"finished"}
    assert runs.result_of(members["winner"].events())["test"]["n"] > 0
    # It went on from its checkpoint: no epoch was trained twice.
    assert starts(lost) == 2 and tuned(lost) == list(range(EPOCHS + 1))


def test_a_run_on_a_cluster_waits_tells_stops_and_goes_on_like_any_other(cluster, dataset, on_ray):
    wait(lambda: cluster.alive() == 1)
    first, second = made(dataset, "schedule.epochs=500"), made(dataset, "schedule.epochs=1")
    queue.add(first.id)
    queue.add(second.id)
    serving = supervisor()
    wait(lambda: last_epoch(first) > 0)
    assert [runs.state_of(run) for run in (first, second)] == ["running", "queued"]
    assert status_of(second, []).place == 1
    assert "epoch" in runs.log_of(first)
    serving.kill()
    serving.wait()
    serving = supervisor()
    wait(lambda: is_held(queue.supervisor_lock()))
    seen = last_epoch(first)
    wait(lambda: last_epoch(first) > seen + 3)
    assert starts(first) == 1 and runs.state_of(second) == "queued"
    runs.ask_to_stop(first)
    wait(lambda: runs.state_of(first) == "stopped")
    assert runs.result_of(first.events())["test"]["n"] > 0
    wait(lambda: runs.state_of(second) == "finished")
    runs.enqueue(first)
    before = runs.result_of(first.events())["epochs"]
    wait(lambda: starts(first) == 2 and last_epoch(first) > before)
    runs.ask_to_stop(first)
    wait(lambda: runs.state_of(first) == "stopped" and queue.entries() == [])
    serving.kill()
    serving.wait()


def test_a_cluster_lets_nobody_in_without_its_token(on_ray):
    environment = {**os.environ, "RAY_AUTH_TOKEN": "x" * 32}
    command = [sys.executable, "-m", "core", "worker"]
    refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "does not let this machine in" in refused.stderr
    assert "RAY_AUTH_TOKEN" in refused.stderr


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("HEADSTART_RAY_ADDRESS", "http://127.0.0.1:9")
    with pytest.raises(MachineRefused, match=r"No Ray cluster answers at http://127\.0\.0\.1:9"):
        ray_engine.engine()


def test_without_ray_the_refusal_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(MachineRefused, match=r"pip install -r requirements-ray\.txt"):
        ray_engine.engine()


def test_a_slot_is_a_graphics_processor_or_else_a_node():
    of = ray_cluster.shape_of
    assert of([{"CPU": 8}, {"CPU": 16, "GPU": 4}, {"GPU": 1}]) == ray_cluster.Shape(5, gpus=1)
    assert of([{"CPU": 8}, {"CPU": 4}, {"memory": 1e9}]) == ray_cluster.Shape(2, cpus=4)
    assert of([]).slots == 0


class Dashboard:
    """A cluster as the network shows it: jobs, or silence."""

    def __init__(self) -> None:
        self.jobs: list[SimpleNamespace] = []
        self.silent = False

    def list_jobs(self) -> list[SimpleNamespace]:
        if self.silent:
            raise ConnectionError("no route to host")
        return self.jobs


def job(name: str, status: str, code: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(submission_id=name, status=status, driver_exit_code=code,
                           message=f"died with {code}")  # fmt: skip


def test_only_what_a_cluster_says_outright_ends_a_run(dataset, monkeypatch):
    monkeypatch.setattr(ray_cluster, "SECONDS_BETWEEN_JOBS", -1.0)
    run, dashboard = made(dataset), Dashboard()
    engine = ray_engine.RayEngine(ray_cluster.Cluster(dashboard))
    engine.adopt(run, "ray-0")
    dashboard.jobs = [job(f"{run.id}-1", "FAILED", 1), job(f"{run.id}-2", "RUNNING")]
    assert engine.state("ray-0") == "working"
    dashboard.silent = True
    assert engine.state("ray-0") == "working"
    dashboard.silent = False
    outcomes = {("STOPPED", None): "ended", ("FAILED", 1): "ended", ("FAILED", None): "lost",
                ("FAILED", 137): "lost", ("FAILED", -9): "lost"}  # fmt: skip
    for (status, code), state in outcomes.items():
        dashboard.jobs[1] = job(f"{run.id}-2", status, code)
        assert engine.state("ray-0") == state, (status, code)
    assert engine.words("ray-0") == "died with -9"
    dashboard.jobs = []
    assert engine.state("ray-0") == "lost"


def test_a_run_whose_jobs_fail_again_and_again_is_given_up(dataset):
    run, dashboard = made(dataset), Dashboard()
    dashboard.jobs = [job(f"{run.id}-{k}", "FAILED") for k in range(10, 30)]
    engine = ray_engine.RayEngine(ray_cluster.Cluster(dashboard))
    engine.adopt(run, "ray-0")
    assert engine.state("ray-0") == "ended"


def test_a_worker_without_a_place_opens_no_database(dataset, home):
    run = made(dataset, "schedule.epochs=1")
    (home / "headstart.db").mkdir()  # SQLite could not open it.
    command = [sys.executable, "-m", "core.runs.worker", str(run.folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert runs.ended(run.events()).reason == "finished"


def test_a_run_over_two_nodes_is_trained_by_both_as_one(cluster, dataset, on_ray):
    node = cluster.add()
    wait(lambda: cluster.alive() == 2)
    run = made(dataset, "schedule.epochs=2", "compute.processes=2")
    queue.add(run.id)
    serving = supervisor()
    try:
        wait(lambda: runs.state_of(run) in runs.OVER, 240)
        entry_is_gone = wait(lambda: not queue.entries())
    finally:
        serving.kill()
        cluster.lose(node)
    assert entry_is_gone
    assert runs.state_of(run) == "finished", runs.log_of(run)
    assert starts(run) == 1 and tuned(run) == [0, 1, 2]
    assert runs.result_of(run.events())["test"]["n"] > 0
