"""The processes that drive studies: which are wanted, and how one is started.

A study's folder holds `study.json`; `result.json` once it is over; `pause` while it is not to go
on. Everything else about it is said in `core.studies`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from core.processes import detached
from core.settings import settings


def lock_of(folder: Path) -> Path:
    """Held by the driver of a study for as long as it lives."""
    return folder / "alive.lock"


def wanted() -> list[Path]:
    """The folders of the studies that go on."""
    folders = (path.parent for path in settings().studies.glob("[!.]*/study.json"))
    return [f for f in folders if not ((f / "result.json").exists() or (f / "pause").exists())]


@dataclass(frozen=True)
class Driver:
    """A driver that was started, and when."""

    process: subprocess.Popen[bytes]
    since: float

    def is_over(self, seconds: float) -> bool:
        """Whether it has ended, and was started so long ago that another may be."""
        return self.process.poll() is not None and time.monotonic() - self.since > seconds


def start(folder: Path) -> Driver:
    """Start the driver of a study; it ends by itself where one is alive."""
    command = [sys.executable, "-m", "core.studies.driver", str(folder)]
    return Driver(detached(command, folder / "driver.log", {}), time.monotonic())
