"""The processes that drive studies: which are wanted, and how one is started.

A study's folder holds `study.json`; `result.json` once it is over; `pause` while it is not to go
on. Everything else about it is said in `core.studies`.
"""

from __future__ import annotations

import subprocess
import sys
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


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the driver of a study; it ends by itself where one is alive."""
    return detached(
        [sys.executable, "-m", "core.studies.driver", str(folder)], folder / "driver.log", {}
    )
