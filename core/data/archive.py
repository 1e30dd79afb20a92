"""A zip, a tar or a folder as one list of members, judged whole before anything is written.

No name from an archive ever becomes a path: content is stored under its hash, the name is text.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core.errors import ArchiveRefused, ImageRefused
from core.settings import MEGABYTE, settings

# Everything that the standard library raises on a hostile or broken archive.
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError, zlib.error, EOFError,
    lzma.LZMAError, OSError, UnicodeError, struct.error, IndexError, ValueError, OverflowError,
    MemoryError,
)  # fmt: skip
PACK_AGAIN = "Pack the photos again as an ordinary zip and upload that."
UTF8_FLAG, ENCRYPTED_FLAGS = 0x800, 0x1 | 0x40 | 0x2000
UNICODE_PATH = 0x7075
LOCAL_HEADER_BYTES = 30
LONGEST_HEADER = 1 * MEGABYTE
UNPACKERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open,
}  # fmt: skip
# Ratios mean little for archives that stay small when unpacked.
SMALL = 100 * MEGABYTE
KINDS = {
    b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive", b"\xfd7zXZ": "an xz file",
    b"%PDF": "a PDF", b"\xff\xd8\xff": "a JPEG image", b"\x89PNG": "a PNG image",
    b"PK": "a damaged zip",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One file of an archive: its name as text with `/`, its declared bytes, where to find it."""

    name: str
    size: int
    handle: Any


@dataclass(frozen=True)
class Source:
    """An opened archive or folder. `read` gives a member's bytes, at most as many as declared.

    `read` raises ImageRefused for a member that is damaged or too large.
    """

    members: Sequence[Member]
    read: Callable[[Member], bytes]


@contextmanager
def opened(path: Path, name: str = "") -> Iterator[Source]:
    """A zip, tar or folder, every name and size judged; refusals call it `name`.

    Raises: ArchiveRefused for what is hostile, broken, or no archive at all.
    """
    name = name or path.name
    opener = next((opener for test, opener in OPENERS if test(path)), None)
    if opener is None:
        raise ArchiveRefused(f"{name} is {kind_of(path)}, not a zip, tar or folder.", PACK_AGAIN)
    with ExitStack() as stack:
        try:
            source = stack.enter_context(opener(path))
            judge(source, path, name)
        except BROKEN as error:
            raise ArchiveRefused(f"{name} is damaged ({error}).", PACK_AGAIN) from error
        yield source


def kind_of(path: Path) -> str:
    """What a file is by its first bytes, in words."""
    if not path.exists():
        return "not there"
    with path.open("rb") as file:
        start = file.read(8)
    return next(
        (kind for magic, kind in KINDS.items() if start.startswith(magic)), "something else"
    )


def judge(source: Source, path: Path, name: str) -> None:
    """Refuse what is too much; the real bytes are counted again while reading."""
    limits = settings()
    total = sum(member.size for member in source.members)
    if len(source.members) > limits.max_files:
        raise ArchiveRefused(
            f"{name} holds {len(source.members):,} files and the limit is {limits.max_files:,}.",
            "Divide it, or raise HEADSTART_MAX_FILES.",
        )
    packed = path.stat().st_size if path.is_file() else total
    if total > limits.max_unpacked_bytes or total > max(SMALL, packed * limits.max_ratio):
        raise ArchiveRefused(
            f"{name} would grow from {packed:,} to {total:,} bytes; the limits are "
            f"{limits.max_ratio} times its size and {limits.max_unpacked_bytes:,} bytes.",
            "If it is honest, raise HEADSTART_MAX_RATIO or HEADSTART_MAX_UNPACKED_BYTES.",
        )


def clean_name(raw: str) -> str:
    """A member's name with `/` and composed letters, harmless parts (`.`, empty) left out.

    Raises: ArchiveRefused for a name that climbs out of the archive.
    """
    name = unicodedata.normalize("NFC", spelled(raw).replace("\\", "/"))
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise ArchiveRefused(
            f"It holds a file whose name leads out of the archive ({raw[:80]!r}).",
            "Such archives are made to do harm; get the photos from somebody you trust.",
        )
    return "/".join(parts)


def spelled(raw: str) -> str:
    """A name whose bytes are no UTF-8, as old programs in Europe wrote it; others as they are."""
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError:
        return raw.encode("utf-8", "surrogateescape").decode("latin-1")
    return raw


def decoded_name(info: zipfile.ZipInfo) -> str:
    """A zip member's name, UTF-8 recognized even where the flag for it is missing."""
    if info.flag_bits & UTF8_FLAG:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


@contextmanager
def opened_zip(path: Path) -> Iterator[Source]:
    """A zip; only stored and deflated members that do not overlap, none encrypted or a link."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        for info in infos:
            judge_zip_member(info)
        judge_overlap(infos)
        members = [
            Member(clean_name(decoded_name(i)), i.file_size, i) for i in infos if not i.is_dir()
        ]

        def read(member: Member) -> bytes:
            with archive.open(member.handle) as file:
                return read_all(file.read, member)

        yield Source(members, guarded(read))


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
        end = info.header_offset + LOCAL_HEADER_BYTES + info.compress_size


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

        def read(member: Member) -> bytes:
            file = archive.extractfile(member.handle)
            return read_all(file.read, member) if file else b""

        yield Source(members, guarded(read))


def tar_members(archive: tarfile.TarFile, path: Path) -> Iterator[Member]:
    """The files of a tar; counted as they come, since a tar has no list of contents."""
    limits = settings()
    total = 0
    for number, info in enumerate(archive):
        total += info.size
        most = max(SMALL, path.stat().st_size * limits.max_ratio)
        if number > limits.max_files or total > min(limits.max_unpacked_bytes, most):
            raise ArchiveRefused(f"{path.name} grows beyond the limits.", "Divide it.")
        if not (info.isreg() or info.isdir()):
            raise ArchiveRefused(f"{info.name[:80]!r} is a link or a device.", PACK_AGAIN)
        name = clean_name(info.name)
        if info.isreg():
            yield Member(name, info.size, info)


@contextmanager
def opened_folder(path: Path) -> Iterator[Source]:
    """A folder on this machine; links are not followed."""
    found = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    members = [
        Member(clean_name(p.relative_to(path).as_posix()), p.stat().st_size, p) for p in found
    ]

    def read(member: Member) -> bytes:
        with member.handle.open("rb") as file:
            return read_all(file.read, member)

    yield Source(members, guarded(read))


def read_all(read: Callable[[int], bytes], member: Member) -> bytes:
    """All bytes of a member, counted, since the declared size may lie."""
    limit = settings().max_file_bytes
    content = read(min(limit, member.size) + 1)
    if len(content) > limit:
        raise ImageRefused(f"It is larger than {limit:,} bytes.", "Save it smaller.")
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


def is_tar(path: Path) -> bool:
    """Whether a file is a tar; tarfile itself raises on some that are not."""
    try:
        with bounded_tar(path):
            return True
    except BROKEN:
        return False


OPENERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Any]], ...] = (
    (Path.is_dir, opened_folder),
    (zipfile.is_zipfile, opened_zip),
    (is_tar, opened_tar),
)
