"""The whole job of one run: `python -m core.runs.worker RUN_FOLDER`.

It may be started by the supervisor, by a cluster or by hand; it talks to nobody and leaves
everything in the run folder. It ends with status 0 when the run has ended, whatever the reason.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

from filelock import Timeout

from core import machine
from core.errors import HeadstartError, NotNow
from core.runs import queue
from core.runs import run as runs
from core.runs.local_engine import lock_of
from core.runs.run import Run
from core.storage import held, mend_lines, read_json, write_json
from core.telling import Teller
from core.training.events import Ended, Event

SECONDS_TO_GET_THE_LOCK = 5.0
# In a run's folder: what ended a process that does not lead.
FOLLOWER = "follower.json"
# So long a worker waits for the next trial of its study.
SECONDS_TO_WAIT, SECONDS_BETWEEN_LOOKS = 4.0, 0.05


def work(run: Run) -> Iterator[Event]:
    """Train a run here and now: each event is appended to its log and then handed on.

    Raises: NotNow when another worker has it.
    """
    machine.share_cores()
    machine.keep_heap()
    if not leads():
        yield from followed(run)
        return
    try:
        with held(run.lock, SECONDS_TO_GET_THE_LOCK):
            (run.folder / FOLLOWER).unlink(missing_ok=True)
            mend_lines(run.folder / "events.jsonl")
            for event in happening(run):
                runs.append(run, event)
                yield event
    except Timeout as error:
        raise NotNow(f"{run.name} is being trained already.", "Watch it on Train.") from error


def followed(run: Run) -> Iterator[Event]:
    """Train as one of several; the leader writes it all down, but for what stopped this one."""
    for event in happening(run):
        if isinstance(event, Ended) and event.reason == "failed":
            write_json(run.folder / FOLLOWER, {"what": event.what, "remedy": event.remedy})
        yield event


def happening(run: Run) -> Iterator[Event]:
    """The events of a run; a fault of ours ends it too, its traceback in worker.log alone."""
    from core.data import split
    from core.training.doctor import attended
    from core.training.fit import Wanted, fit

    stop_file = run.folder / "stop"
    parts = tuple(part for part in split.SCORED if part not in run.held_back)
    try:
        data = runs.data_of(run)
        wanted = Wanted(parts, run.keeps_model, "milliseconds" not in run.held_back)
        training = fit(data, run.recipe, run.folder, stop_file.exists, wanted)
        yield from attended(
            training, run.recipe, data.classes, run.events(), own_split=split.is_given(data)
        )
    except HeadstartError as error:
        yield Ended("failed", what=error.what, remedy=error.remedy)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        ours = {
            "what": f"Headstart made a mistake ({type(error).__name__}: {error}).",
            "remedy": "The run's log has the details; please report them.",
        }
        other = run.folder / FOLLOWER  # One that ended takes the others with it.
        yield Ended("failed", **(read_json(other) if other.exists() else ours))


def main(folder: Path, place: str = "") -> int:
    """Work on the run in a folder; SIGTERM is the same as the stop file.

    place: the slots of this machine that it was given. With one, it also takes the trials of the
    same study that come next: what a process must read before it can train takes seconds.
    """
    run = runs.load(folder.resolve().name)
    if run.recipe.processes > 1 and not is_team():
        start_team(run, folder, place)
    if is_team():
        machine.die_with_parent()

    def stop(number: int, frame: FrameType | None) -> None:
        (run.folder / "stop").touch()

    signal.signal(signal.SIGTERM, stop)
    with place_of_its_own(place if leads() else ""):
        status = worked(run)
        warm = bool(place and run.study) and not is_team()
        while warm and (following := next_of(run, place)) is not None:
            run = following
            log_to(run)
            machine.forget_peak()
            status = worked(run)
    if is_team():
        from core.training import team

        team.leave()
    return status


def is_team() -> bool:
    """Whether this process is one of several that train a run, as torchrun or Ray says."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Whether this process writes and tells for all of them."""
    return not is_team() or os.environ["RANK"] == "0"


def start_team(run: Run, folder: Path, place: str) -> NoReturn:
    """Become what starts so many processes of this module as the recipe says."""
    n = run.recipe.processes
    own = ["-m", "core.runs.worker", str(folder), *(["--place", place] if place else [])]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}"]
    # Threads of each are set by the training itself; torchrun would only warn of them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, machine.cores() // n)))
    os.execv(sys.executable, [sys.executable, *torchrun, *own])


def place_of_its_own(place: str) -> AbstractContextManager[None]:
    """The lock that says that somebody works in a place; nothing without a place."""
    return held(lock_of(place), SECONDS_TO_GET_THE_LOCK) if place else nullcontext()


def worked(run: Run) -> int:
    """Work on a run to its end; the exit status.

    Of one that does not lead it is 1 if it failed, so that what started them all ends the others.
    """
    tell, last = Teller(quiet=False), None
    try:
        for last in work(run):
            tell(last)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    return int(not leads() and isinstance(last, Ended) and last.reason == "failed")


def next_of(run: Run, place: str) -> Run | None:
    """The next trial of a run's study, once it waits; None if others wait, or none comes."""
    queue.release(run.id)
    end = time.monotonic() + SECONDS_TO_WAIT
    while time.monotonic() < end:
        waiting = queue.first()
        if waiting is not None:
            following = runs.load(waiting)
            fitting = following.study == run.study and following.recipe.processes == 1
            return following if fitting and queue.claim(place, waiting) else None
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return None


def log_to(run: Run) -> None:
    """Let what is printed from now on go to a run's own log."""
    with (run.folder / "worker.log").open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())


def read_arguments(words: list[str]) -> tuple[Path, str]:
    """The run's folder, and the place given with --place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--place", default="")
    found = parser.parse_args(words)
    return found.folder, found.place


if __name__ == "__main__":
    sys.exit(main(*read_arguments(sys.argv[1:])))
