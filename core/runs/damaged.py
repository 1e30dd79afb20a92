"""Runs that cannot be read: lists leave them out, and pages show them with their reason."""

from __future__ import annotations

import shutil

from core import damage
from core.damage import DamagedItem
from core.errors import HeadstartError, NotFound, NotNow
from core.runs import run as runs
from core.settings import settings
from core.storage import checked_id


def damaged() -> list[DamagedItem]:
    """The runs that cannot be read, each with its reason."""
    found = []
    for path in settings().runs.glob("[!.]*/run.json"):
        try:
            runs.load_readable(path.parent)
        except NotFound:
            continue  # It is just being removed.
        except HeadstartError as error:
            found.append(damage.item("run", path.parent, error))
    return found


def remove(run_id: str) -> None:
    """Remove a run that cannot be read.

    Raises: NotNow for one that can.
    """
    if all(one.id != run_id for one in damaged()):
        raise NotNow(f"The run {run_id} is not damaged.", "Delete it where runs are listed.")
    shutil.rmtree(settings().runs / checked_id(run_id), ignore_errors=True)
