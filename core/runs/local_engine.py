"""Workers on this machine: a session of its own for each, which outlives whoever started it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from core.processes import detached
from core.runs.engine import Engine, State
from core.runs.run import Run
from core.settings import settings
from core.storage import is_held

# A worker found without its lock may still be starting.
SECONDS_TO_START = 30.0
# The slot of a machine without graphics processors.
MACHINE = "machine"


def devices() -> list[str]:
    """What workers can be given: one slot a graphics processor, or one for the whole machine."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name] or [MACHINE]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return [MACHINE]
    try:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        return [MACHINE]
    numbers = [
        str(k) for k, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")
    ]
    return numbers or [MACHINE]


def lock_of(place: str) -> Path:
    """Held by the worker of a place for as long as it lives."""
    return settings().home / "places" / f"{place.replace(',', '+')}.lock"


@dataclass
class Process:
    """A worker and the run that it began with; `process` is None for one that was found alive."""

    run: Run
    process: subprocess.Popen[bytes] | None
    since: float = field(default_factory=time.monotonic)


class LocalEngine:
    """Starts workers as processes; a place without a worker that it knows is free."""

    def __init__(self) -> None:
        self.found = devices()
        self.workers: dict[str, Process] = {}

    def slots(self) -> list[str]:
        """The devices of this machine, as they were when it began."""
        return self.found

    def submit(self, run: Run, place: str) -> None:
        """Start a worker; it takes the next trial of the same study by itself."""
        visible = {} if place == MACHINE else {"CUDA_VISIBLE_DEVICES": place}
        command = [sys.executable, "-m", "core.runs.worker", str(run.folder), "--place", place]
        process = detached(command, run.folder / "worker.log", visible)
        self.workers[place] = Process(run, process)

    def adopt(self, run: Run, place: str) -> None:
        """A worker of a supervisor that died."""
        self.workers[place] = Process(run, None)

    def state(self, place: str) -> State:
        """Whether its process lives; a child is asked for itself, so that it is reaped."""
        worker = self.workers.get(place)
        if worker is not None and worker.process is not None:
            return "working" if worker.process.poll() is None else "ended"
        young = worker is not None and time.monotonic() - worker.since < SECONDS_TO_START
        starting = worker is not None and young and not worker.run.events()
        return "working" if is_held(lock_of(place)) or starting else "ended"

    def stop(self, place: str, *, hard: bool) -> None:
        """A signal to a child; one that was found alive is nobody's child and is left alone."""
        process = self.process_of(place)
        if process is not None:
            (process.kill if hard else process.terminate)()

    def process_of(self, place: str) -> subprocess.Popen[bytes] | None:
        """The child that works in a place; None for one that was found alive."""
        worker = self.workers.get(place)
        return worker.process if worker is not None else None

    def words(self, place: str) -> str:
        """Its exit status; nothing of one that ended well."""
        process = self.process_of(place)
        if process is None or not process.returncode:
            return ""
        return f"exit status {process.returncode}"


def engine() -> Engine:
    """The engine of one machine."""
    return LocalEngine()
