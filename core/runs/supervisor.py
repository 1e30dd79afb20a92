"""Starts a worker for each free device, in the order of the queue, and lets it finish alone.

One supervisor serves one home on one machine; it holds a lock for as long as it lives. Workers
are sessions of their own: they outlive the page, the app and the supervisor, and a new supervisor
finds those that are still alive by their locks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

from filelock import Timeout

from core.errors import NotFound
from core.processes import detached
from core.runs import queue
from core.runs import run as runs
from core.runs.run import Run
from core.settings import settings
from core.storage import held, is_held
from core.training.events import Ended

SECONDS_BETWEEN_LOOKS = 0.3
# A worker that was asked to stop scores its best epoch first, and tells how far it is. Only one
# that has told nothing for so long is pressed.
SECONDS_OF_SILENCE, SECONDS_TO_TERMINATE = 900.0, 15.0
# A worker found without its lock may still be importing torch.
SECONDS_TO_START = 30.0


def ensure() -> None:
    """Start a supervisor in the background if none is alive and somebody waits."""
    if queue.entries() and not is_held(queue.supervisor_lock()):
        log = settings().home / "supervisor.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        detached([sys.executable, "-m", "core", "worker", "--until-idle"], log, {})


def devices() -> list[str]:
    """What workers can be given: one slot a graphics processor, or one for the whole machine."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name] or ["machine"]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ["machine"]
    try:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        return ["machine"]
    numbers = [
        str(k) for k, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")
    ]
    return numbers or ["machine"]


@dataclass
class Worker:
    """A worker under this supervisor's eye; `process` is None for one that was found alive."""

    run: Run
    device: str
    process: subprocess.Popen[bytes] | None
    asked_at: float | None = None
    since: float = field(default_factory=time.monotonic)

    def alive(self) -> bool:
        """Whether it is still at work; a child is asked for itself, so that it is reaped."""
        if self.process is not None:
            return self.process.poll() is None
        young = time.monotonic() - self.since < SECONDS_TO_START
        return is_held(self.run.lock) or (young and not self.run.events())


def start(run: Run, device: str) -> Worker:
    """Start a worker for a run on a device."""
    visible = {} if device == "machine" else {"CUDA_VISIBLE_DEVICES": device}
    command = [sys.executable, "-m", "core.runs.worker", str(run.folder)]
    return Worker(run, device, detached(command, run.folder / "worker.log", visible))


def supervise(*, until_idle: bool) -> None:
    """Serve the queue until interrupted; with `until_idle`, until there was nothing for a while."""
    try:
        with held(queue.supervisor_lock(), 0):
            serve(settings().idle_seconds if until_idle else float("inf"))
    except Timeout:
        return  # Another one serves this home.


def serve(seconds_idle: float) -> None:
    """Look, start, wait, again."""
    slots = devices()
    workers = adopted()
    busy_at = time.monotonic()
    while time.monotonic() - busy_at < seconds_idle:
        workers = [worker for worker in workers if still_working(worker)]
        taken = {worker.device for worker in workers}
        for slot in (s for s in slots if s not in taken):
            claimed = queue.claim(slot)
            if claimed is None:
                break
            workers += started(claimed, slot)
        if workers:
            busy_at = time.monotonic()
        time.sleep(SECONDS_BETWEEN_LOOKS)


def started(run_id: str, slot: str) -> list[Worker]:
    """A worker for a claimed run; none if the run was deleted while it waited."""
    try:
        return [start(runs.load(run_id), slot)]
    except NotFound:
        queue.release(run_id)
        return []


def adopted() -> list[Worker]:
    """Workers of a supervisor that died: alive ones are kept in sight, dead ones let go."""
    found = []
    for entry in queue.entries():
        if entry.device is None:
            continue
        try:
            run = runs.load(entry.run)
        except NotFound:
            queue.release(entry.run)
            continue
        found.append(Worker(run, entry.device, None))
    return found


def still_working(worker: Worker) -> bool:
    """Whether a worker goes on; one that ended leaves the queue, one asked to stop is pressed."""
    if not worker.alive():
        queue.release(worker.run.id)
        note_silent_death(worker)
        return False
    if (worker.run.folder / "stop").exists():
        worker.asked_at = worker.asked_at or time.monotonic()
        log = worker.run.folder / "events.jsonl"
        silent = time.time() - log.stat().st_mtime if log.exists() else float("inf")
        press(worker, min(silent, time.monotonic() - worker.asked_at))
    return True


def press(worker: Worker, seconds: float) -> None:
    """End a worker that does not stop by itself: SIGTERM, then SIGKILL."""
    if worker.process is None:
        return
    if seconds > SECONDS_OF_SILENCE + SECONDS_TO_TERMINATE:
        worker.process.kill()
    elif seconds > SECONDS_OF_SILENCE:
        worker.process.terminate()


def note_silent_death(worker: Worker) -> None:
    """A worker that never wrote an event could not start at all: say so in its run."""
    if not worker.run.events() and worker.process is not None and worker.process.returncode:
        what = f"The worker could not start (exit status {worker.process.returncode})."
        remedy = "The run's log says why; `python -m core doctor` checks the installation."
        runs.append(worker.run, Ended("failed", what=what, remedy=remedy))
