"""The process that drives one study: `python -m core.studies.driver STUDY_FOLDER`.

It starts runs and waits for them; the supervisor sees that each study which goes on has one. It
may be killed at any time: the next one goes on from the folders.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import Timeout

from core.errors import HeadstartError, MachineRefused
from core.runs import drivers, supervisor
from core.storage import held
from core.studies import crossval, search
from core.studies import study as studies
from core.studies.study import Kind, Study

SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_NOTES = 0.1, 2.0
KINDS: dict[Kind, Callable[[Study], Iterator[None]]] = {
    "search": search.conduct,
    "crossval": crossval.conduct,
}


def drive(study: Study) -> None:
    """Conduct a study to its end, or until it is to pause."""
    began, before, noted = time.monotonic(), search.seconds_at_work(study), time.monotonic()
    for _ in KINDS[study.kind](study):
        now = time.monotonic()
        if now - noted > SECONDS_BETWEEN_NOTES:
            search.note_seconds(study, before + now - began)
            supervisor.ensure()  # Somebody must work on the queue.
            noted = now
        time.sleep(SECONDS_BETWEEN_LOOKS)
    search.note_seconds(study, before + time.monotonic() - began)


def main(folder: Path) -> int:
    """Drive the study in a folder; the exit status."""
    study = studies.load(folder.resolve().name)
    try:
        with held(drivers.lock_of(study.folder), 0):
            if not study.result:
                drive(study)
    except Timeout:
        return 0  # Another one drives it.
    except MachineRefused as error:
        print(error, file=sys.stderr)  # The disk, or a cluster: another driver tries again soon.
        return 2
    except HeadstartError as error:
        studies.end(study, "failed", what=error.what, remedy=error.remedy)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        studies.end(
            study, "failed",
            what=f"Headstart made a mistake ({type(error).__name__}: {error}).",
            remedy="The study's driver.log has the details; please report them.",
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
