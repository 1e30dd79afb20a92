"""Workers as Ray Jobs: Ray decides on which node of its cluster each of them runs.

The run folder in the shared home stays the truth: who holds the run's lock works, whatever Ray
says. Workers are given no place, so that the home's database is opened by the supervisor's
machine alone: SQLite's WAL does not work over a network file system.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import dataclass
from typing import Any

from core.processes import ROOT
from core.runs.engine import Engine, State, slots_of
from core.runs.ray_cluster import OVER, Cluster, Shape, connected
from core.runs.ray_train import LOST
from core.runs.run import Run
from core.settings import VARIABLES, settings
from core.storage import is_held

# So many jobs of one run may fail before it is not begun anew by itself.
MOST_JOBS = 20


@dataclass
class Job:
    """A run's job on the cluster. id: empty for the newest one that the run has there."""

    run: Run
    id: str = ""
    details: Any = None
    asked_to_stop: bool = False


class RayEngine:
    """Starts workers as jobs; what it knows of them is what the cluster said last."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.jobs: dict[str, Job] = {}

    def slots(self) -> list[str]:
        """One for each graphics processor, or each node; they come and go with the nodes."""
        return [f"ray-{k}" for k in range(self.cluster.shape_now().slots)]

    def submit(self, run: Run, place: str) -> None:
        """Start a worker in one slot, or a training over several."""
        job = Job(run, f"{run.id}-{time.time_ns() // 1_000_000}")
        shape, n = self.cluster.shape_now(), len(slots_of(place))
        # What starts workers on several nodes needs next to nothing itself.
        taken = shape if n == 1 else Shape()
        self.cluster.submit(job.id, entrypoint(run, n, shape), taken)
        self.jobs[place] = job

    def adopt(self, run: Run, place: str) -> None:
        """The newest job of a run, from a supervisor that died."""
        self.jobs[place] = Job(run)

    def state(self, place: str) -> State:
        """Working while its lock is held, or the cluster says so or is silent; else its end."""
        job = self.jobs.get(place)
        if job is None:
            return "ended"  # Workers of a cluster do one run alone, and that stands in the queue.
        if is_held(job.run.lock):
            return "working"
        known = self.cluster.jobs_now()
        if known is None:
            return "working"
        of_run = sorted(name for name in known if name and name.startswith(f"{job.run.id}-"))
        job.id = job.id or next(reversed(of_run), "")
        job.details = known.get(job.id)
        if job.details is None:
            return "lost"
        if job.details.status not in OVER:
            return "working"
        if job.details.status == "SUCCEEDED":
            self.cluster.forget(job.id)
        return "lost" if is_lost(job.details) and len(of_run) < MOST_JOBS else "ended"

    def stop(self, place: str, *, hard: bool) -> None:
        """Ask the cluster once: it kills by itself what does not end."""
        job = self.jobs[place]
        if not job.asked_to_stop:
            self.cluster.stop(job.id)
            job.asked_to_stop = True

    def words(self, place: str) -> str:
        """The last line of what the cluster says of a job that failed."""
        details = self.jobs[place].details
        lines = (details.message or "").strip().splitlines() if details is not None else []
        return lines[-1][:300] if lines and details.status == "FAILED" else ""


def is_lost(details: Any) -> bool:
    """Whether a job failed by no fault of its worker: its node is gone, or a signal ended it."""
    code = details.driver_exit_code
    return details.status == "FAILED" and (code is None or code == LOST or code < 0 or code > 128)


def entrypoint(run: Run, workers: int, shape: Shape) -> str:
    """The command of a run's job: the same code, Python and home at the same paths on each node."""
    given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    given["HEADSTART_HOME"] = str(settings().home)
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
    folder, python = shlex.quote(str(run.folder)), shlex.quote(sys.executable)
    many = f"core.runs.ray_train {folder} --workers {workers} --gpus {shape.gpus} --cpus "
    module = f"core.runs.worker {folder}" if workers == 1 else f"{many}{shape.cpus}"
    log = shlex.quote(str(run.folder / "worker.log"))
    # Its output is the run's own log, and a copy of the end is Ray's where it could not begin.
    return f"cd {shlex.quote(str(ROOT))} && exec env {variables} {python} -m {module} >> {log} 2>&1"


def engine() -> Engine:
    """The engine of a Ray cluster.

    Raises: MachineRefused without ray, or a cluster that answers.
    """
    return RayEngine(connected())
