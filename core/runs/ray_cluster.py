"""What is asked of a Ray cluster: its nodes and its jobs; silence is no answer, and no news.

Everything goes over HTTP to the cluster's dashboard. The token, where the cluster wants one, is
found by ray itself (RAY_AUTH_MODE=token with RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or
~/.ray/auth_token).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from core.errors import MachineRefused
from core.settings import settings

SECONDS_TO_ANSWER = 10
# The supervisor looks more often than a cluster should be asked.
SECONDS_BETWEEN_JOBS, SECONDS_BETWEEN_NODES = 1.0, 3.0
OVER = frozenset(("SUCCEEDED", "STOPPED", "FAILED"))
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Shape:
    """How many slots a cluster has, and what one of them takes: the words of `submit_job`."""

    slots: int = 0
    gpus: int = 0
    cpus: int = 0


def shape_of(nodes: list[dict[str, float]]) -> Shape:
    """The slots of a cluster, from the resources of each of its nodes.

    One for each graphics processor; without any, one for each node that has processors, taking as
    many as the smallest of them has, so that equal nodes get one worker each.
    """
    gpus = sum(int(resources.get("GPU", 0)) for resources in nodes)
    if gpus:
        return Shape(gpus, gpus=1)
    cpus = [int(resources["CPU"]) for resources in nodes if resources.get("CPU", 0) >= 1]
    return Shape(len(cpus), cpus=min(cpus)) if cpus else Shape()


@dataclass
class Cluster:
    """A cluster, and what it said last. jobs: by their submission id; None while it is silent."""

    client: Any
    shape: Shape = field(default_factory=Shape)
    jobs: dict[str, Any] | None = None
    jobs_asked: float = float("-inf")
    nodes_asked: float = float("-inf")
    complaint: str = ""

    def answered(self, ask: Callable[[], Answer]) -> Answer | None:
        """What the cluster answers; None when it does not, the reason told once on stderr."""
        from ray.exceptions import RayError

        try:
            found = ask()
        except (OSError, RuntimeError, ValueError, RayError) as error:
            # What is wrong with a cluster for a minute is no reason to give a run up.
            if str(error) != self.complaint:
                print(f"Ray: {error}", file=sys.stderr, flush=True)
            self.complaint = str(error)
            return None
        self.complaint = ""
        return found

    def shape_now(self) -> Shape:
        """Its slots as they are, or as they were when it last answered."""
        if time.monotonic() - self.nodes_asked > SECONDS_BETWEEN_NODES:
            self.nodes_asked = time.monotonic()
            nodes = self.answered(alive_nodes)
            self.shape = self.shape if nodes is None else shape_of(nodes)
        return self.shape

    def jobs_now(self) -> dict[str, Any] | None:
        """Its jobs by submission id; None while it does not answer."""
        if time.monotonic() - self.jobs_asked > SECONDS_BETWEEN_JOBS:
            found = self.answered(self.client.list_jobs)
            self.jobs = None if found is None else {job.submission_id: job for job in found}
            self.jobs_asked = time.monotonic()
        return self.jobs

    def submit(self, job: str, entrypoint: str, shape: Shape) -> None:
        """Start a job; one that the cluster does not take is missing among its jobs later."""
        self.answered(
            lambda: self.client.submit_job(
                entrypoint=entrypoint,
                submission_id=job,
                entrypoint_num_cpus=shape.cpus,
                entrypoint_num_gpus=shape.gpus,
            )
        )
        self.jobs, self.jobs_asked = None, float("-inf")

    def stop(self, job: str) -> None:
        """SIGTERM to a job, and SIGKILL after RAY_JOB_STOP_WAIT_TIME_S of its node."""
        self.answered(lambda: self.client.stop_job(job))

    def forget(self, job: str) -> None:
        """Take a job that is over from the cluster's list."""
        self.answered(lambda: self.client.delete_job(job))


def alive_nodes() -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    from ray.util.state import list_nodes

    nodes = list_nodes(settings().ray_address, timeout=SECONDS_TO_ANSWER)
    return [node.resources_total for node in nodes if node.state == "ALIVE"]


def connected() -> Cluster:
    """The cluster at HEADSTART_RAY_ADDRESS.

    Raises: MachineRefused when ray is not installed, nobody answers, or the token is not taken.
    """
    address = settings().ray_address
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise MachineRefused(
            "HEADSTART_ENGINE is ray, and ray is not installed here.",
            "pip install -r requirements-ray.txt, here and on all nodes.",
        ) from error
    try:
        client = JobSubmissionClient(address)
    except AuthenticationError as error:
        raise MachineRefused(
            f"The Ray cluster at {address} does not let this machine in.",
            "Set RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or its file in "
            "RAY_AUTH_TOKEN_PATH.",
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise MachineRefused(
            f"No Ray cluster answers at {address}.",
            "Start one as the README says, or correct HEADSTART_RAY_ADDRESS.",
        ) from error
    # The client itself waits without end for a dashboard that hangs.
    client._do_request = partial(client._do_request, timeout=SECONDS_TO_ANSWER)
    return Cluster(client)
