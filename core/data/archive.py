"""A zip, a tar or a folder as one list of members, judged whole before anything is written."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

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
from core.data.tars import is_tar, opened_tar
from core.data.zips import opened_zip
from core.errors import ArchiveRefused
from core.settings import settings

KINDS = {
    b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive", b"\xfd7zXZ": "an xz file",
    b"%PDF": "a PDF", b"\xff\xd8\xff": "a JPEG image", b"\x89PNG": "a PNG image",
    b"PK": "a damaged zip",
}  # fmt: skip


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
            judge(source, path)
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


def judge(source: Source, path: Path) -> None:
    """Refuse what is too much; the real bytes are counted again while reading."""
    limits = settings()
    total = sum(member.size for member in source.members)
    if len(source.members) > limits.max_files:
        raise too_many(len(source.members), limits.max_files)
    packed = path.stat().st_size if path.is_file() else total
    if total > limits.max_unpacked_bytes or total > max(SMALL, packed * limits.max_ratio):
        raise too_much(packed, total)


@contextmanager
def opened_folder(path: Path) -> Iterator[Source]:
    """A folder on this machine; links are not followed."""
    found = sorted(p for p in path.rglob("*") if not p.is_symlink())
    named = [(clean_name(p.relative_to(path).as_posix()), p) for p in found]
    members = [Member(name, p.stat().st_size, p) for name, p in named if p.is_file()]
    folders = [name for name, p in named if p.is_dir()]

    limit = settings().max_file_bytes

    def read(member: Member) -> bytes:
        with member.handle.open("rb") as file:
            return read_all(file.read, member, limit)

    yield Source(members, guarded(read), folders=folders)


OPENERS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Any]], ...] = (
    (Path.is_dir, opened_folder),
    (zipfile.is_zipfile, opened_zip),
    (is_tar, opened_tar),
)
