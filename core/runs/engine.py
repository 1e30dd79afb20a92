"""Where workers run: one small protocol, so that nobody above can tell one engine from another.

A *slot* is what one worker needs (a graphics processor, or a whole machine without one); a *place*
is the slots of one worker, joined by commas. `HEADSTART_ENGINE` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Literal, Protocol

from core.errors import MachineRefused
from core.runs.run import Run
from core.settings import settings

State = Literal["working", "ended", "lost"]


class Engine(Protocol):
    """What starts workers and keeps them in sight."""

    def slots(self) -> list[str]:
        """The slots that there are now, whether they are taken or not."""

    def submit(self, run: Run, place: str) -> None:
        """Start a worker for a run in a place."""

    def adopt(self, run: Run, place: str) -> None:
        """Take a worker in sight that was started before this engine was."""

    def state(self, place: str) -> State:
        """How the worker of a place is, started by this engine or not.

        lost: it ended by no fault of its own, so that it may go on.
        """

    def stop(self, place: str, *, hard: bool) -> None:
        """End a worker that does not end by itself: asked to (SIGTERM), or not (SIGKILL)."""

    def words(self, place: str) -> str:
        """How a worker that ended came to its end, for a run that has no other word of it."""


ENGINES = {"local": "core.runs.local_engine", "ray": "core.runs.ray_engine"}


def chosen() -> Engine:
    """The engine of this home.

    Raises: MachineRefused for an unknown one, or one whose library is not installed.
    """
    name = settings().engine
    if name not in ENGINES:
        raise MachineRefused(
            f"HEADSTART_ENGINE is {name}, and there is no such engine.",
            f"Set it to {' or '.join(ENGINES)}.",
        )
    make: Callable[[], Engine] = import_module(ENGINES[name]).engine
    return make()


def slots_of(place: str) -> list[str]:
    """The slots of a place."""
    return place.split(",")
