from __future__ import annotations

import copy
import gzip
import io
import stat
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data import archive, zips
from core.errors import ArchiveRefused, HeadstartError, ImageRefused

CLIMBING = [
    "../evil.jpg",
    "a/../../evil.jpg",
    "a/..",
    "..\\evil.jpg",
    "a\\..\\evil.jpg",
    "/etc/evil.jpg",
    "\\\\server\\share\\evil.jpg",
    "C:\\evil.jpg",
    "c:evil.jpg",
    "C:/evil.jpg",
]
CENTRAL = b"PK\x01\x02"
BOMB_BYTES = archive.SMALL + 1_000_000


@pytest.mark.parametrize("folders", [256, 20_000])
def test_folders_too_deep_inside_each_other_are_refused_with_the_limit(tmp_path, folders: int):
    path = zip_of(tmp_path / "deep.zip", ("d/" * folders + "1.jpg", b"content"))
    with pytest.raises(ArchiveRefused, match=rf"{folders:,} folders deep .* the limit is 255"):
        contents(path)


def test_a_file_as_deep_as_the_limit_is_taken(tmp_path):
    path = zip_of(tmp_path / "deep.zip", ("d/" * 255 + "1.jpg", b"content"))
    assert list(contents(path).values()) == [b"content"]


def contents(path: Path) -> dict[str, bytes]:
    with archive.opened(path) as source:
        return {member.name: source.read(member) for member in source.members}


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of doubled names.
        for name, content in members:
            file.writestr(name, content)
    return path


def zip_with_raw_name(path: Path, raw: bytes) -> Path:
    """A zip with one member whose name is `raw`, no flag saying how it is encoded."""
    zip_of(path, ("Q" * len(raw), b"content"))
    path.write_bytes(path.read_bytes().replace(b"Q" * len(raw), raw))
    return path


def with_central(path: Path, offset: int, value: bytes) -> Path:
    """The zip after bytes in its first central header were overwritten."""
    content = bytearray(path.read_bytes())
    place = content.index(CENTRAL) + offset
    content[place : place + len(value)] = value
    path.write_bytes(content)
    return path


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def tar_link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def test_a_zip_gives_back_what_was_packed(make_zip: Callable[..., Path]):
    layout = {"a/1.jpg": b"one", "b/2.jpg": b"", "readme": bytes(100_000)}
    assert contents(make_zip(layout)) == layout


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_gives_back_what_was_packed(tmp_path: Path, mode: str):
    members = [(tarfile.TarInfo("a/1.jpg"), b"one"), (tarfile.TarInfo("./b/2.jpg"), b"two")]
    path = tar_of(tmp_path / "photos.tar", *members, mode=mode)
    assert contents(path) == {"a/1.jpg": b"one", "b/2.jpg": b"two"}


def test_a_folder_gives_back_what_is_in_it(make_folder: Callable[..., Path]):
    layout = {"a/1.jpg": b"one", "b/c/2.jpg": b"two"}
    assert contents(make_folder(layout)) == layout


def test_folders_in_an_archive_are_no_files(tmp_path: Path):
    path = zip_of(tmp_path / "a.zip", ("a/", b""), ("a/1.jpg", b"one"))
    assert contents(path) == {"a/1.jpg": b"one"}
    folder = tar_link("a", tarfile.DIRTYPE)
    path = tar_of(tmp_path / "a.tar", (folder, b""), (tarfile.TarInfo("a/1.jpg"), b"one"))
    assert contents(path) == {"a/1.jpg": b"one"}


@pytest.mark.parametrize("name", CLIMBING)
def test_a_name_that_climbs_out_of_a_zip_is_refused(tmp_path: Path, name: str):
    path = zip_of(tmp_path / "a.zip", ("a/1.jpg", b"one"), (name, b"evil"))
    with pytest.raises(ArchiveRefused, match="leads out of the archive"):
        contents(path)


@pytest.mark.parametrize("name", CLIMBING)
def test_a_name_that_climbs_out_of_a_tar_is_refused(tmp_path: Path, name: str):
    path = tar_of(tmp_path / "a.tar", (tarfile.TarInfo(name), b"evil"))
    with pytest.raises(ArchiveRefused, match="leads out of the archive"):
        contents(path)


def test_a_second_name_that_climbs_out_is_refused(tmp_path: Path):
    info = zipfile.ZipInfo("a/1.jpg")
    name = b"../evil.jpg"
    body = b"\x01" + struct.pack("<I", zlib.crc32(b"a/1.jpg")) + name
    info.extra = struct.pack("<HH", zips.UNICODE_PATH, len(body)) + body
    with pytest.raises(ArchiveRefused, match="leads out of the archive"):
        contents(zip_of(tmp_path / "a.zip", (info, b"evil")))


def test_letters_that_only_look_like_dots_are_letters(tmp_path: Path):
    # U+2024 is one dot; compatibility normalization would make `..` of two of them.
    path = zip_of(tmp_path / "a.zip", ("\u2024\u2024/1.jpg", b"one"))
    assert contents(path) == {"\u2024\u2024/1.jpg": b"one"}


def test_dots_inside_a_name_are_letters(tmp_path: Path):
    path = zip_of(tmp_path / "a.zip", ("a..b/...jpg", b"one"))
    assert contents(path) == {"a..b/...jpg": b"one"}


def test_backslashes_part_folders(tmp_path: Path):
    path = zip_of(tmp_path / "a.zip", ("photos\\ants\\1.jpg", b"one"), ("./b//2.jpg", b"two"))
    assert contents(path) == {"photos/ants/1.jpg": b"one", "b/2.jpg": b"two"}


def test_letters_and_their_accents_are_composed(tmp_path: Path, make_folder):
    path = zip_of(tmp_path / "a.zip", ("e\u0301/1.jpg", b"one"))
    assert list(contents(path)) == ["\u00e9/1.jpg"]
    assert list(contents(make_folder({"e\u0301/1.jpg": b"one"}))) == ["\u00e9/1.jpg"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_device_in_a_zip_is_refused(tmp_path: Path, kind: int):
    info = zipfile.ZipInfo("a/1.jpg")
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(ArchiveRefused, match="a link or a device"):
        contents(zip_of(tmp_path / "a.zip", (info, b"/etc/passwd")))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_refused(tmp_path: Path, kind: bytes):
    path = tar_of(tmp_path / "a.tar", (tar_link("a/1.jpg", kind), b""))
    with pytest.raises(ArchiveRefused, match="a link or a device"):
        contents(path)


def test_links_in_a_folder_are_not_followed(tmp_path: Path, make_folder):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.jpg").write_bytes(b"secret")
    folder = make_folder({"a/1.jpg": b"one"})
    (folder / "a" / "2.jpg").symlink_to(tmp_path / "secret" / "key.jpg")
    (folder / "b").symlink_to(tmp_path / "secret", target_is_directory=True)
    assert contents(folder) == {"a/1.jpg": b"one"}


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_a_password_is_refused(tmp_path: Path, flag: int):
    path = zip_of(tmp_path / "a.zip", ("a/1.jpg", b"one"))
    with pytest.raises(ArchiveRefused, match="password"):
        contents(with_central(path, 8, struct.pack("<H", flag)))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(tmp_path: Path, method: int):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as file:
        file.writestr("a/1.jpg", b"one" * 100)
    with pytest.raises(ArchiveRefused, match="compressed in an unusual way"):
        contents(tmp_path / "a.zip")


@pytest.mark.parametrize("shift", [0, 1, 30])
def test_members_that_share_bytes_are_refused(tmp_path: Path, shift: int):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a/1.jpg", b"one" * 100)
        twin = copy.copy(file.filelist[0])
        twin.filename, twin.header_offset = "b/1.jpg", twin.header_offset + shift
        file.filelist.append(twin)
    with pytest.raises(ArchiveRefused, match="overlap"):
        contents(tmp_path / "a.zip")


def test_a_zip_behind_other_bytes_is_read(tmp_path: Path):
    # As self-extracting archives are made.
    path = zip_of(tmp_path / "a.zip", ("a/1.jpg", b"one"), ("b/2.jpg", b"two"))
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert contents(path) == {"a/1.jpg": b"one", "b/2.jpg": b"two"}


def test_a_zip_that_grows_a_thousandfold_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("a/1.jpg", bytes(BOMB_BYTES))
    with pytest.raises(ArchiveRefused, match="would grow"):
        contents(tmp_path / "a.zip")


def test_a_tar_that_grows_a_thousandfold_is_refused(tmp_path: Path):
    path = tmp_path / "a.tar.gz"
    info = tarfile.TarInfo("a/1.jpg")
    info.size = BOMB_BYTES
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf() + bytes(BOMB_BYTES))
    with pytest.raises(ArchiveRefused, match="to 101,000,000 bytes or more"):
        contents(path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_tar_with_an_endless_name_does_not_fill_the_memory(tmp_path: Path, kind: bytes):
    path = tmp_path / "a.tar.gz"
    info = tarfile.TarInfo("name")
    info.type, info.size = kind, 64_000_000
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(info.size))
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefused):
            contents(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20_000_000


def test_a_small_archive_may_be_packed_well(make_zip: Callable[..., Path]):
    layout = {"a/1.bmp": bytes(1_000_000), "b/2.bmp": b"two"}
    assert contents(make_zip(layout)) == layout


def test_an_archive_beyond_the_unpacked_limit_is_refused(make_zip, make_folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_MAX_UNPACKED_BYTES", "1000")
    layout = {"a/1.jpg": bytes(600), "b/2.jpg": bytes(600)}
    for path in (make_zip(layout), make_folder(layout)):
        with pytest.raises(ArchiveRefused, match="HEADSTART_MAX_UNPACKED_BYTES"):
            contents(path)


def test_an_archive_of_too_many_files_is_refused(tmp_path, make_zip, make_folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_MAX_FILES", "3")
    layout = {f"a/{number}.jpg": b"" for number in range(5)}
    tar = tar_of(tmp_path / "a.tar", *((tarfile.TarInfo(name), b"") for name in layout))
    for path in (make_zip(layout), make_folder(layout), tar):
        with pytest.raises(ArchiveRefused):
            contents(path)


def test_a_zip_of_too_many_files_is_refused_before_they_are_listed(make_zip, monkeypatch):
    path = make_zip({f"a/{number}.jpg": b"" for number in range(5)})
    content = path.read_bytes()
    path.write_bytes(content[:-14] + struct.pack("<HH", 1, 1) + content[-10:])  # It says one.
    monkeypatch.setenv("HEADSTART_MAX_FILES", "5")
    assert len(contents(path)) == 5
    monkeypatch.setenv("HEADSTART_MAX_FILES", "4")
    monkeypatch.delattr(zipfile, "ZipFile")
    with pytest.raises(ArchiveRefused, match="holds 5 files or more, and the limit is 4"):
        contents(path)


def test_a_zip_whose_list_of_contents_is_huge_is_refused(make_zip, monkeypatch):
    path = make_zip({"a.jpg": b"", "b.jpg": b""})
    monkeypatch.setenv("HEADSTART_MAX_FILES", "2")
    monkeypatch.setattr(zips, "SMALL", 90)
    monkeypatch.setattr(zips, "USUAL_ENTRY", 46)
    with pytest.raises(ArchiveRefused, match="list of contents is too large"):
        contents(path)


def test_a_large_zip_with_a_long_comment_is_counted_too(make_zip, monkeypatch):
    path = make_zip({f"{number}.jpg": b"" for number in range(5)})
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"by a camera"
    monkeypatch.setenv("HEADSTART_MAX_FILES", "5")
    assert len(contents(path)) == 5
    monkeypatch.setenv("HEADSTART_MAX_FILES", "4")
    with pytest.raises(ArchiveRefused, match="files or more"):
        contents(path)


def test_a_zip_of_the_large_kind_is_counted_too(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    path = zip_of(tmp_path / "a.zip", *((f"{number}.jpg", b"") for number in range(5)))
    assert b"PK\6\6" in path.read_bytes()
    monkeypatch.setenv("HEADSTART_MAX_FILES", "5")
    assert len(contents(path)) == 5
    monkeypatch.setenv("HEADSTART_MAX_FILES", "4")
    monkeypatch.delattr(zipfile, "ZipFile")
    with pytest.raises(ArchiveRefused, match="files or more"):
        contents(path)


def test_a_file_over_the_limit_is_refused_alone(make_zip: Callable[..., Path], monkeypatch):
    monkeypatch.setenv("HEADSTART_MAX_FILE_BYTES", "1000")
    with archive.opened(make_zip({"a/1.jpg": bytes(1001), "b/2.jpg": bytes(1000)})) as source:
        large, small = source.members
        with pytest.raises(ImageRefused, match="It has 1,001 bytes and the limit is 1,000"):
            source.read(large)
        assert source.read(small) == bytes(1000)


def test_a_member_larger_than_it_says_is_refused(tmp_path: Path):
    path = zip_of(tmp_path / "a.zip", ("a/1.jpg", b"one" * 100))
    with_central(path, 24, struct.pack("<I", 10))
    with archive.opened(path) as source, pytest.raises(ImageRefused):
        source.read(source.members[0])


def test_a_damaged_member_is_refused_alone(tmp_path: Path):
    path = zip_of(tmp_path / "a.zip", ("a/1.jpg", b"one" * 100), ("b/2.jpg", b"two"))
    path.write_bytes(path.read_bytes().replace(b"oneone", b"oneOne", 1))
    with archive.opened(path) as source:
        with pytest.raises(ImageRefused, match="damaged"):
            source.read(source.members[0])
        assert source.read(source.members[1]) == b"two"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"words", "something else"),
        (b"", "something else"),
    ],
)
def test_a_file_that_is_no_archive_is_refused_saying_what_it_is(tmp_path, content, kind):
    (tmp_path / "photos.zip").write_bytes(content)
    with pytest.raises(ArchiveRefused, match=f"photos.zip is {kind}, not a zip"):
        contents(tmp_path / "photos.zip")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ArchiveRefused, match=r"photos\.zip is not there"):
        contents(tmp_path / "photos.zip")


def test_a_photo_is_refused_as_a_photo(tmp_path: Path, photo: Callable[..., bytes]):
    (tmp_path / "1.jpg").write_bytes(photo(0))
    with pytest.raises(ArchiveRefused, match="a JPEG image"):
        contents(tmp_path / "1.jpg")


@pytest.mark.parametrize("kept", [4, 40, 0.5, 0.9, -1])
def test_a_truncated_zip_is_refused(make_zip: Callable[..., Path], kept: float):
    path = make_zip({f"a/{number}.jpg": bytes(1000) for number in range(20)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(ArchiveRefused, match="a damaged zip"):
        contents(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_tar_is_refused_as_a_whole_or_in_its_last_file(tmp_path: Path, mode: str):
    noise = np.random.default_rng(0)
    members = [(tarfile.TarInfo(f"a/{n}.jpg"), noise.bytes(2000)) for n in range(20)]
    path = tar_of(tmp_path / "a.tar", *members, mode=mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 700])
    with pytest.raises((ArchiveRefused, ImageRefused)):
        contents(path)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Käfer/1.jpg".encode(), "Käfer/1.jpg"),
        ("写真/1.jpg".encode(), "写真/1.jpg"),
        ("Käfer/1.jpg".encode("cp437"), "Käfer/1.jpg"),
        (b"ants/1.jpg", "ants/1.jpg"),
    ],
)
def test_a_name_without_a_flag_is_read_as_utf8_or_else_as_dos_wrote_it(tmp_path, raw, name):
    assert list(contents(zip_with_raw_name(tmp_path / "a.zip", raw))) == [name]


def test_a_name_flagged_as_utf8_is_utf8(tmp_path: Path):
    # Its bytes are also valid cp437-in-UTF-8; the flag decides.
    path = zip_of(tmp_path / "a.zip", ("\u251c\u00f1/1.jpg", b"one"))
    assert list(contents(path)) == ["\u251c\u00f1/1.jpg"]


def test_both_files_of_one_name_are_there(tmp_path: Path):
    path = zip_of(tmp_path / "a.zip", ("a/1.jpg", b"one"), ("a/1.jpg", b"two"))
    with archive.opened(path) as source:
        assert [source.read(member) for member in source.members] == [b"one", b"two"]


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), kind=st.booleans())
def test_one_wrong_byte_never_fails_in_an_unforeseen_way(tmp_path_factory, place, value, kind):
    folder = tmp_path_factory.mktemp("damaged")
    members = {"a/1.jpg": b"one" * 20, "b/2.jpg": b"two" * 20}
    if kind:
        path = zip_of(folder / "a.zip", *members.items())
    else:
        path = tar_of(folder / "a.tar", *((tarfile.TarInfo(n), c) for n, c in members.items()))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    try:
        with archive.opened(path) as source:
            for member in source.members:
                assert len(source.read(member)) <= member.size
    except HeadstartError as refusal:
        assert refusal.what and refusal.remedy
