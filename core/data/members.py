"""What archives of every kind have in common: members, their names, and reading them within limits.

No name from an archive ever becomes a path: content is stored under its hash, the name is text.
"""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import ArchiveRefused, ImageRefused
from core.settings import MEGABYTE, settings

# Everything that the standard library raises on a hostile or broken archive.
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError, zlib.error, EOFError,
    lzma.LZMAError, OSError, UnicodeError, struct.error, IndexError, ValueError, OverflowError,
    MemoryError,
)  # fmt: skip
PACK_AGAIN = "Pack the photos again as an ordinary zip and upload that."
# More folders inside each other than any system makes; each costs at every step that follows.
MOST_FOLDERS = 255
# Ratios mean little for archives that stay small when unpacked.
SMALL = 100 * MEGABYTE


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: its name as text with `/`, its declared bytes, where to find it."""

    name: str
    size: int
    handle: Any


@dataclass(frozen=True)
class Source:
    """An opened archive or folder. `read` gives a member's bytes, at most as many as declared.

    `read` raises ImageRefused for a member that is damaged or too large. in_order: only one thread
    may read, and from front to back. folders: those that the archive names, empty ones too.
    """

    members: Sequence[Member]
    read: Callable[[Member], bytes]
    in_order: bool = False
    folders: Sequence[str] = ()


def clean_name(raw: str) -> str:
    """A member's name with `/` and composed letters, harmless parts (`.`, empty) left out.

    Raises: ArchiveRefused for a name that climbs out of the archive, or leads too deep into it.
    """
    name = unicodedata.normalize("NFC", spelled(raw).replace("\\", "/"))
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise ArchiveRefused(
            f"It holds a file whose name leads out of the archive ({raw[:80]!r}).",
            "Such archives are made to do harm; get the photos from somebody you trust.",
        )
    if len(parts) - 1 > MOST_FOLDERS:
        raise ArchiveRefused(
            f"It holds a file {len(parts) - 1:,} folders deep ({raw[:80]!r}), and the limit is "
            f"{MOST_FOLDERS}.",
            "Pack the photos again with one folder for each class.",
        )
    return "/".join(parts)


def spelled(raw: str) -> str:
    """A name whose bytes are no UTF-8, as old programs in Europe wrote it; others as they are."""
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError:
        return raw.encode("utf-8", "surrogateescape").decode("latin-1")
    return raw


def too_many(files: int, limit: int) -> ArchiveRefused:
    """The refusal of an archive with more files than the limit; `files` is how many were seen."""
    return ArchiveRefused(
        f"The archive holds {files:,} files or more, and the limit is {limit:,}.",
        "Divide it, or raise HEADSTART_MAX_FILES.",
    )


def too_much(packed: int, total: int) -> ArchiveRefused:
    """The refusal of an archive that unpacks to more bytes than the limits."""
    limits = settings()
    return ArchiveRefused(
        f"The archive would grow from {packed:,} to {total:,} bytes or more; the limits are "
        f"{limits.max_ratio:,} times its size and {limits.max_unpacked_bytes:,} bytes.",
        "If it is honest, raise HEADSTART_MAX_RATIO or HEADSTART_MAX_UNPACKED_BYTES.",
    )


def read_all(read: Callable[[int], bytes], member: Member, limit: int) -> bytes:
    """All bytes of a member, counted, since the declared size may lie; `limit` is the most.

    read: gives at most as many bytes as it is asked for.
    Raises: ImageRefused.
    """
    if member.size > limit:
        raise ImageRefused(
            f"It has {member.size:,} bytes and the limit is {limit:,}.",
            "Save it smaller, or raise HEADSTART_MAX_FILE_BYTES.",
        )
    content = read(member.size + 1)
    if len(content) > member.size:
        raise ImageRefused("It is larger than the archive says.", PACK_AGAIN)
    return content


def guarded(read: Callable[[Member], bytes]) -> Callable[[Member], bytes]:
    """`read`, with every way in which a damaged member fails turned into one refusal."""

    def guarded_read(member: Member) -> bytes:
        try:
            return read(member)
        except BROKEN as error:
            raise ImageRefused(f"It is damaged in the archive ({error}).", PACK_AGAIN) from error

    return guarded_read
