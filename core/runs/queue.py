"""The queue of runs, in SQLite: who waits, in which order, and who was given to a worker."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from core.settings import settings

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL UNIQUE,
    device TEXT  -- of the worker it was given to; NULL while it waits
)
"""
BUSY_MILLISECONDS = 10_000


def supervisor_lock() -> Path:
    """Held by the supervisor of this home for as long as it lives."""
    return settings().home / "supervisor.lock"


def starting_lock() -> Path:
    """Held by a supervisor that was started in the background, from its first moment on."""
    return settings().home / "supervisor.starting"


@dataclass(frozen=True)
class Entry:
    """A run in the queue; `place` counts the waiting ones from 1 and is 0 for a claimed one."""

    run: str
    place: int
    device: str | None

    @property
    def claimed(self) -> bool:
        """Whether a worker has been started for it."""
        return self.device is not None


@contextmanager
def connected() -> Iterator[sqlite3.Connection]:
    """A short transaction that writers wait for."""
    path = settings().home / "headstart.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        connection.execute(SCHEMA)
        yield connection
    finally:
        connection.close()


@contextmanager
def read_only() -> Iterator[sqlite3.Connection | None]:
    """The database for reading alone, also on a read-only disk; None if there is none."""
    path = settings().home / "headstart.db"
    if not path.exists():
        yield None
        return
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_MILLISECONDS / 1000
    )
    try:
        connection.execute("SELECT 1 FROM queue LIMIT 1")
    except sqlite3.OperationalError:
        connection.close()
        # Without its log beside it and no right to make one, or still without its table.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)
    try:
        yield connection
    finally:
        connection.close()


def add(run: str) -> None:
    """Put a run at the end; one that is in the queue already keeps its place."""
    with connected() as database:
        database.execute("INSERT OR IGNORE INTO queue (run) VALUES (?)", (run,))


def first() -> str | None:
    """The run that waits longest."""
    with connected() as database:
        row = database.execute(
            "SELECT run FROM queue WHERE device IS NULL ORDER BY number LIMIT 1"
        ).fetchone()
    return str(row[0]) if row else None


def claim(device: str, run: str) -> bool:
    """Give a waiting run to a device; one statement, so that two never get the same."""
    with connected() as database:
        cursor = database.execute(
            "UPDATE queue SET device = ? WHERE run = ? AND device IS NULL", (device, run)
        )
        return cursor.rowcount > 0


def put_back(run: str) -> None:
    """Let a run wait again, in the place that it had: what was to do it is lost."""
    with connected() as database:
        database.execute("UPDATE queue SET device = NULL WHERE run = ?", (run,))


def release(run: str) -> None:
    """Take a run out: its worker has ended."""
    with connected() as database:
        database.execute("DELETE FROM queue WHERE run = ?", (run,))


def withdraw(run: str) -> bool:
    """Take a run out if it still waits; whether it did."""
    with connected() as database:
        cursor = database.execute("DELETE FROM queue WHERE run = ? AND device IS NULL", (run,))
        return cursor.rowcount > 0


def entries() -> list[Entry]:
    """The whole queue in order."""
    rows: list[tuple[str, str | None]] = []
    with read_only() as database, suppress(sqlite3.OperationalError):  # No table yet.
        if database is not None:
            rows = database.execute("SELECT run, device FROM queue ORDER BY number").fetchall()
    place, found = 0, []
    for run, device in rows:
        place += device is None
        found.append(Entry(run, 0 if device else place, device))
    return found


def entry(run: str) -> Entry | None:
    """A run's entry, or None when it is not in the queue."""
    return next((one for one in entries() if one.run == run), None)
