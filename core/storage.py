"""Whole-file writes, JSON lines, locks and ids: how anything of ours reaches the disk."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from core.errors import MachineRefused, NotFound, NotNow

Json = dict[str, Any]
ID_ALPHABET = frozenset("0123456789abcdefghijklmnopqrstuvwxyz-")


def new_id() -> str:
    """A random name for a folder: 12 characters of 5 bits each, no meaning, no order."""
    return "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz023456789") for _ in range(12))


def checked_id(text: str) -> str:
    """`text` itself if it can be an id; so that no id ever climbs out of a folder.

    Raises: NotFound for anything else.
    """
    if not text or len(text) > 64 or not set(text) <= ID_ALPHABET:
        raise NotFound(f"There is nothing with the id {text[:64]!r}.", "Check the address.")
    return text


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; Windows does so by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name complete, or not at all.

    Raises: MachineRefused when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise MachineRefused(
            f"{path.name} could not be written: {error.strerror or error}.",
            "Free some disk space, or check who may write to HEADSTART_HOME.",
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole."""
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, content: Json) -> None:
    """Write a JSON file whole; NaN and infinity are refused, as JSON has none."""
    write_bytes(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False).encode())


def read_json(path: Path) -> Json:
    """The JSON object in a file."""
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name complete, or not at all; it replaces an older one."""
    with half_done(path) as aside:
        yield aside
        sync_tree(aside)
        put_in_place(aside, path)


@contextmanager
def half_done(path: Path) -> Iterator[Path]:
    """A folder for what is to become, or to go into, the folder `path`; gone afterwards.

    Raises: MachineRefused when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    lock = lock_of(aside)
    try:
        with held(lock):  # Says that somebody still works on it: see `remove_unfinished`.
            aside.mkdir()
            yield aside
    except OSError as error:
        raise MachineRefused(
            f"The folder {path.name} could not be written: {error.strerror or error}.",
            "Free some disk space, or check who may write to HEADSTART_HOME.",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        lock.unlink(missing_ok=True)


def put_in_place(aside: Path, path: Path) -> None:
    """Give a folder its name; one that has it already makes room."""
    if path.exists():
        former = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
        path.rename(former)
        aside.rename(path)
        shutil.rmtree(former, ignore_errors=True)
    else:
        aside.rename(path)
    sync_folder(path.parent)


def lock_of(aside: Path) -> Path:
    """The lock that is held for as long as somebody fills a folder."""
    return aside.with_suffix(".lock")


def remove_unfinished(folder: Path) -> None:
    """Remove the half-done folders that processes which died left in a folder.

    Those that somebody still works on are left alone.
    """
    for aside in folder.glob(".*.tmp"):
        if aside.is_dir() and not is_held(lock_of(aside)):
            shutil.rmtree(aside, ignore_errors=True)
            lock_of(aside).unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Put every file below a folder safely on the disk."""
    if hasattr(os, "sync") and sum(1 for _ in folder.rglob("*")) > 200:
        os.sync()  # One call is far cheaper than thousands of single ones.
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def append_line(path: Path, content: Json, *, durable: bool = False) -> None:
    """Add one JSON object as a line; `durable` waits until it is on the disk."""
    line = json.dumps(content, allow_nan=False, ensure_ascii=False) + "\n"
    with path.open("ab") as file:
        file.write(line.encode())
        if durable:
            file.flush()
            os.fsync(file.fileno())


def read_lines(path: Path) -> list[Json]:
    """The JSON objects of a file, one a line; an unfinished or torn line is passed over."""
    return parsed(path.read_bytes()) if path.exists() else []


def parsed(content: bytes) -> list[Json]:
    """The JSON objects of whole lines; what follows the last line's end is no line yet."""
    found = []
    for line in content.split(b"\n")[:-1]:
        try:
            one = json.loads(line)
        except ValueError:
            continue  # A line torn by a crash; the writer began a new one after it.
        if isinstance(one, dict):
            found.append(one)
    return found


def last_line(path: Path) -> Json | None:
    """The last whole line of a file that grows, read from its end; None if there is none yet."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        length = 4096
        while True:
            file.seek(max(0, size - length))
            content = file.read(length)
            # The first line may have been cut by where the reading began.
            lines = parsed(content if length >= size else content.partition(b"\n")[2])
            if lines or length >= size:
                return lines[-1] if lines else None
            length *= 8


def mend_lines(path: Path) -> None:
    """End a line that a killed writer left open, so that the next one starts afresh."""
    if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def cut_lines(path: Path) -> None:
    """Take away a line that a killed writer left open: nobody has ever read it."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


@contextmanager
def held(path: Path, seconds: float = 10.0) -> Iterator[None]:
    """A lock that the kernel frees when this process dies.

    Raises: Timeout (filelock) when another process has kept it for `seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A generator that holds it may be closed by another thread than the one that began it.
    with FileLock(path, timeout=seconds, thread_local=False):
        yield


@contextmanager
def in_turn(path: Path, seconds: float = 600.0) -> Iterator[None]:
    """A lock that others may have for minutes.

    Raises: NotNow when they have kept it for `seconds`.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(path, seconds))
        except Timeout as error:
            raise NotNow("Others are at work on the same data.", "Try again later.") from error
        yield


def is_held(path: Path) -> bool:
    """Whether some process has the lock; looking never takes it from anyone who waits for it."""
    if not path.exists():
        return False
    if sys.platform == "win32":
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
    import fcntl

    with path.open("rb") as file:
        try:
            # Shared, so that two who look at once do not take each other for the owner.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds (or will hold) a folder."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
