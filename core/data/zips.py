"""Zips: judged whole before a member is opened, then read by several threads at once."""

from __future__ import annotations

import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from core.data.members import (
    PACK_AGAIN,
    SMALL,
    Member,
    Source,
    clean_name,
    guarded,
    read_all,
    too_many,
)
from core.errors import ArchiveRefused
from core.settings import settings

UTF8_FLAG, ENCRYPTED_FLAGS = 0x800, 0x1 | 0x40 | 0x2000
UNICODE_PATH = 0x7075
# Signature, lengths of name and extra field; what lies between stands in the list of contents too
# (PKWARE's APPNOTE 6.3.10, 4.3.7).
LOCAL_HEADER = struct.Struct("<4s22xHH")
# Lengths of name, extra field and comment in the list of contents (4.3.12); bytes of an entry.
ENTRY, USUAL_ENTRY = struct.Struct("<28xHHH12x"), 500
ZIP64_END = 56 + 20  # Its end record and where that lies (4.3.14, 4.3.15).
USUAL_EXTRA, MOST_OVERHEAD = 64, 100_000


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a member lies in a zip, and what reading it needs to know: no more, for there are many.

    name: as the list of contents has it; it must stand before the content too.
    """

    offset: int
    size: int
    method: int
    crc: int
    name: bytes


def packed(info: zipfile.ZipInfo) -> Packed:
    """What of a member's entry in the list of contents is kept."""
    encoding = "utf-8" if info.flag_bits & UTF8_FLAG else "cp437"
    name = info.orig_filename.encode(encoding)
    return Packed(info.header_offset, info.compress_size, info.compress_type, info.CRC, name)


@contextmanager
def opened_zip(path: Path) -> Iterator[Source]:
    """A zip; only stored and deflated members that do not overlap, none encrypted or a link."""
    judge_contents(path)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        for info in infos:
            judge_zip_member(info)
        judge_overlap(infos)
        names = [clean_name(decoded_name(info)) for info in infos]
    members = [
        Member(name, i.file_size, packed(i))
        for name, i in zip(names, infos, strict=True)
        if not i.is_dir()
    ]
    folders = [name for name, info in zip(names, infos, strict=True) if info.is_dir() and name]
    with path.open("rb", buffering=0) as file:
        reader = Reader(file, settings().max_file_bytes)
        yield Source(members, guarded(reader.read), folders=folders)


def judge_contents(path: Path) -> None:
    """Refuse a list of contents that is too long before it is read: a million take a minute."""
    limit = settings().max_files
    with path.open("rb") as file:
        # As zipfile finds it, for two programs may find two of them.
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end is None:
            return
        size = end[5]
        if size > max(SMALL, limit * USUAL_ENTRY):
            raise ArchiveRefused("Its list of contents is too large.", PACK_AGAIN)
        start = end[9] - size - (ZIP64_END if end[0] == b"PK\6\6" else 0)
        # The number of members that is written there may lie.
        if size > limit * ENTRY.size and start >= 0:
            file.seek(start)
            entries = counted(file.read(size), limit + 1)
            if entries > limit:
                raise too_many(entries, limit)


def counted(contents: bytes, most: int) -> int:
    """How many members a list of contents has; counted to `most`."""
    count = place = 0
    while count < most and place + ENTRY.size <= len(contents):
        place += ENTRY.size + sum(ENTRY.unpack_from(contents, place))
        count += 1
    return count


class Reader:
    """Reads members of a zip; several threads may, and only the disk makes one wait for another.

    zipfile's own costs five times as much for a small image, most of it while others wait.
    """

    def __init__(self, file: FileIO, limit: int) -> None:
        self.file, self.limit = file, limit
        self.one_at_a_time = threading.Lock()

    def read(self, member: Member) -> bytes:
        """The content of a member, its sum checked."""
        entry: Packed = member.handle
        if entry.size > 2 * member.size + MOST_OVERHEAD:
            raise zipfile.BadZipFile("it is far larger packed than unpacked")

        def read(most: int) -> bytes:
            return unpacked(entry, self.bytes_of(entry), most)

        return read_all(read, member, self.limit)

    def bytes_of(self, entry: Packed) -> bytes | memoryview:
        """What lies in the zip of a member, still packed."""
        guess = LOCAL_HEADER.size + len(entry.name) + USUAL_EXTRA
        block = self.read_at(entry.offset, guess + entry.size)
        signature, name_length, extra_length = LOCAL_HEADER.unpack_from(block)
        start = LOCAL_HEADER.size + name_length
        if signature != b"PK\3\4" or block[LOCAL_HEADER.size : start] != entry.name:
            raise zipfile.BadZipFile("its name differs from that in the list of contents")
        start += extra_length
        if start > guess:
            return self.read_at(entry.offset + start, entry.size)
        return memoryview(block)[start : start + entry.size]

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes at a place; fewer where the file ends."""
        with self.one_at_a_time:
            self.file.seek(offset)
            return self.file.read(size)


def unpacked(entry: Packed, content: bytes | memoryview, most: int) -> bytes:
    """A member's content, at most so many bytes; its sum is checked if that is all of it."""
    if len(content) < entry.size:
        raise zipfile.BadZipFile("it is cut off")
    if entry.method == zipfile.ZIP_STORED:
        found, whole = bytes(content[:most]), len(content) <= most
    else:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        found = inflate.decompress(content, most)
        whole = inflate.eof
        if not whole and len(found) < most:
            raise zipfile.BadZipFile("it is cut off")
    if whole and zlib.crc32(found) != entry.crc:
        raise zipfile.BadZipFile("its sum is wrong")
    return found


def decoded_name(info: zipfile.ZipInfo) -> str:
    """A zip member's name, UTF-8 recognized even where the flag for it is missing."""
    if info.flag_bits & UTF8_FLAG:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def judge_zip_member(info: zipfile.ZipInfo) -> None:
    """Refuse a member before it is opened: some compressions take gigabytes for one byte."""
    mode = info.external_attr >> 16
    if info.flag_bits & ENCRYPTED_FLAGS:
        raise ArchiveRefused(
            f"{info.filename[:80]!r} is protected by a password.",
            "Pack the photos again without a password.",
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveRefused(
            f"{info.filename[:80]!r} is compressed in an unusual way "
            f"(method {info.compress_type}).",
            PACK_AGAIN,
        )
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveRefused(f"{info.filename[:80]!r} is a link or a device.", PACK_AGAIN)
    for name in renamed(info.extra):
        clean_name(name)


def renamed(extra: bytes) -> Iterator[str]:
    """Names that Info-ZIP's Unicode path field gives a member behind its first name's back."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == UNICODE_PATH:
            yield extra[9 : 4 + size].decode("utf-8", "replace")
        extra = extra[4 + size :]


def judge_overlap(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse members that share bytes: 60 kB of those unpack to gigabytes (Fifield 2019)."""
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end:
            raise ArchiveRefused("Files in it overlap, as in a zip bomb.", PACK_AGAIN)
        end = info.header_offset + LOCAL_HEADER.size + info.compress_size
