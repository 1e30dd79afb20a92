"""Tars, also compressed: judged as they are listed, read from front to back."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

from core.data.members import (
    BROKEN,
    PACK_AGAIN,
    SMALL,
    Member,
    Source,
    clean_name,
    guarded,
    read_all,
    too_many,
    too_much,
)
from core.errors import ArchiveRefused
from core.settings import MEGABYTE, settings

LONGEST_HEADER = 1 * MEGABYTE
UNPACKERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open,
}  # fmt: skip


class Bounded:
    """A file that refuses large reads until `names_read`.

    A tar may announce a name of gigabytes, and tarfile reads a name whole before anybody is asked.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.names_read = file, False
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes.

        Raises: ReadError (tarfile) for more than any honest name needs.
        """
        if not self.names_read and not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError("a header is too long")
        return self.file.read(size)


@contextmanager
def bounded_tar(path: Path) -> Iterator[tuple[tarfile.TarFile, Bounded]]:
    """A tar, unpacked as it is read, with its bounded file."""
    with path.open("rb") as file:
        start = file.read(6)
    unpack = next((f for magic, f in UNPACKERS.items() if start.startswith(magic)), Path.open)
    with closing(unpack(path, "rb")) as file:
        bounded = Bounded(file)
        with tarfile.open(fileobj=bounded, mode="r:", errors="surrogateescape") as archive:  # type: ignore[call-overload]
            yield archive, bounded


@contextmanager
def opened_tar(path: Path) -> Iterator[Source]:
    """A tar, also compressed; files and folders only."""
    with bounded_tar(path) as (archive, bounded):
        members = list(tar_members(archive, path))
        bounded.names_read = True
        limit = settings().max_file_bytes

        def read(member: Member) -> bytes:
            file = archive.extractfile(member.handle)
            return read_all(file.read, member, limit) if file else b""

        yield Source(members, guarded(read), in_order=True)


def tar_members(archive: tarfile.TarFile, path: Path) -> Iterator[Member]:
    """The files of a tar; counted as they come, since a tar has no list of contents."""
    limits = settings()
    packed = path.stat().st_size
    most = min(limits.max_unpacked_bytes, max(SMALL, packed * limits.max_ratio))
    total = 0
    for number, info in enumerate(archive, 1):
        total += info.size
        if number > limits.max_files:
            raise too_many(number, limits.max_files)
        if total > most:
            raise too_much(packed, total)
        if not (info.isreg() or info.isdir()):
            raise ArchiveRefused(f"{info.name[:80]!r} is a link or a device.", PACK_AGAIN)
        name = clean_name(info.name)
        if info.isreg():
            yield Member(name, info.size, info)


def is_tar(path: Path) -> bool:
    """Whether a file is a tar; tarfile itself raises on some that are not."""
    try:
        with bounded_tar(path):
            return True
    except BROKEN:
        return False
