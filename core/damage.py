"""What cannot be read or written: damaged items with their reason, disks with their free space."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import Damaged, HeadstartError, MachineRefused
from core.settings import settings

# What reading a file raises whose content is not what it should be.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError)
# What systems and SQLite say of a disk, and that in words.
OF_DISKS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no room left for this user",
    errno.EROFS: "cannot be written to",
    errno.EACCES: "may not be used by this user",
    errno.EPERM: "may not be used by this user",
    errno.EIO: "fails (input/output error)",
}
OF_SQLITE = {
    "disk is full": "is full",
    "readonly database": "cannot be written to",
    "unable to open": "cannot be written to",
    "disk i/o error": "fails (input/output error)",
}
# Torch and pyarrow tell of a full disk by text alone.
OF_WRITERS = ("no space left on device", "unexpected pos", "enforce fail at inline_container")


@dataclass(frozen=True)
class DamagedItem:
    """A dataset, run or study that cannot be read, the reason, and what can be done."""

    kind: str
    id: str
    what: str
    remedy: str


@contextmanager
def reading(kind: str, folder: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into one sentence that names the item.

    Raises: Damaged.
    """
    try:
        yield
    except HeadstartError:
        raise
    except UNREADABLE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise Damaged(
            f"The {kind} {folder.name} is damaged: {reason}.",
            f"Put back its folder {folder} from a copy, or delete it.",
        ) from error


def item(kind: str, folder: Path, error: HeadstartError) -> DamagedItem:
    """A damaged item as lists show it."""
    return DamagedItem(kind, folder.name, error.what, error.remedy)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what a full, read-only or failing disk raises into one sentence.

    Raises: MachineRefused.
    """
    try:
        yield
    except HeadstartError:
        raise
    except (OSError, sqlite3.Error, RuntimeError) as error:
        why = state_of_disk(error)
        if why is None:
            raise
        raise refusal(why) from error


def state_of_disk(error: BaseException) -> str | None:
    """What an error says of a disk; None for one that is about something else."""
    if isinstance(error, OSError):
        return OF_DISKS.get(error.errno or 0)
    text = str(error).lower()
    if isinstance(error, sqlite3.Error):
        return next((words for part, words in OF_SQLITE.items() if part in text), None)
    return "is full" if any(part in text for part in OF_WRITERS) else None


def refusal(why: str) -> MachineRefused:
    """The sentence: which disk, how much is free on it, and where to free some."""
    home = settings().home
    present = next(path for path in (home, *home.parents) if path.exists())
    disk = next(path for path in (present, *present.parents) if os.path.ismount(path))
    free = shutil.disk_usage(present).free
    return MachineRefused(
        f"The disk {disk} with Headstart's home {home} {why}; {free / 1e6:,.0f} MB are free.",
        f"Free some space: {home / 'cache'} may be removed at any time, and runs and datasets that "
        "are not needed any more take the most. Check who may write there.",
    )
