"""The whole job of one run: `python -m core.runs.worker RUN_FOLDER`.

It may be started by the supervisor, by a cluster or by hand; it talks to nobody and leaves
everything in the run folder. It ends with status 0 when the run has ended, whatever the reason.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from filelock import Timeout

from core import machine
from core.errors import HeadstartError, NotNow
from core.runs import run as runs
from core.runs.run import Run
from core.storage import held, mend_lines
from core.telling import Teller
from core.training.events import Ended, Event

SECONDS_TO_GET_THE_LOCK = 5.0


def work(run: Run) -> Iterator[Event]:
    """Train a run here and now: each event is appended to its log and then handed on.

    Raises: NotNow when another worker has it.
    """
    machine.share_cores()
    machine.keep_heap()
    try:
        with held(run.lock, SECONDS_TO_GET_THE_LOCK):
            mend_lines(run.folder / "events.jsonl")
            for event in happening(run):
                runs.append(run, event)
                yield event
    except Timeout as error:
        raise NotNow(f"{run.name} is being trained already.", "Watch it on Train.") from error


def happening(run: Run) -> Iterator[Event]:
    """The events of a run; a fault of ours ends it too, its traceback in worker.log alone."""
    from core.data import split
    from core.training.doctor import attended
    from core.training.fit import fit

    stop_file = run.folder / "stop"
    try:
        data = runs.data_of(run)
        training = fit(data, run.recipe, run.folder, stop_file.exists)
        yield from attended(
            training, run.recipe, data.classes, run.events(), own_split=split.is_given(data)
        )
    except HeadstartError as error:
        yield Ended("failed", what=error.what, remedy=error.remedy)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        yield Ended(
            "failed",
            what=f"Headstart made a mistake ({type(error).__name__}: {error}).",
            remedy="The run's log has the details; please report them.",
        )


def main(folder: Path) -> int:
    """Work on the run in a folder; SIGTERM is the same as the stop file."""
    run = runs.load(folder.resolve().name)

    def stop(number: int, frame: FrameType | None) -> None:
        (run.folder / "stop").touch()

    signal.signal(signal.SIGTERM, stop)
    try:
        tell = Teller(quiet=False)
        for event in work(run):
            tell(event)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
