"""Kinds of jobs as only tests have them: `python -m tests.core.odd_jobs FOLDER` does one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core import jobs
from core.errors import DatasetRefused
from core.jobs import Step
from core.settings import settings
from core.storage import whole_folder

Stop = Callable[[], bool]


def counting(stop: Stop, to: int, seconds: float = 0.0) -> Iterator[Step]:
    for number in range(1, to + 1):
        time.sleep(seconds)
        yield Step(number, to, f"counting to {to}", result={"sum": 6} if number == to else None)


def staged(stop: Stop) -> Iterator[Step]:
    """Two parts, the second of which goes on counting at a tenth of the pace."""
    for number in range(1, 11):
        yield Step(number, 20, "the quick part")
    for number in range(11, 21):
        time.sleep(0.3)
        yield Step(number, 20, "the slow part", result={} if number == 20 else None)


def refusing(stop: Stop) -> Iterator[Step]:
    yield Step(1, 2)
    raise DatasetRefused("There are no images in it.", "Add some.")


def mistaken(stop: Stop) -> Iterator[Step]:
    yield Step(1, 2)
    raise ZeroDivisionError("a secret detail")


def deaf(stop: Stop) -> Iterator[Step]:
    """Looks at no stop file, and has started a process of its own."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield Step(child.pid, 0)
    time.sleep(60)


def building(stop: Stop) -> Iterator[Step]:
    """Fills a folder, and never ends it."""
    with whole_folder(settings().datasets / "half") as folder:
        (folder / "image").write_bytes(b"x")
        while True:
            time.sleep(0.02)
            yield Step(1, 2)


def heavy(stop: Stop) -> Iterator[Step]:
    """Goes on until it is stopped."""
    while not stop():
        yield Step(1, 0)
        time.sleep(0.02)


KINDS = {
    f.__name__: f"{__name__}:{f.__name__}"
    for f in (counting, staged, refusing, mistaken, deaf, building, heavy)
}

if __name__ == "__main__":
    from tests.core import odd_jobs

    jobs.KINDS.update(odd_jobs.KINDS)
    jobs.HEAVY = ("heavy",)
    jobs.SECONDS_TO_OBEY = 1.0
    sys.exit(jobs.main(Path(sys.argv[1])))
