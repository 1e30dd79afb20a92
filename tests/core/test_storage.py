from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from core import storage
from core.errors import MachineRefused, NotFound

# Takes the lock, says so, and keeps it until it is killed.
KEEPER = """
import sys, time
from pathlib import Path
from core.storage import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def keeper(tmp_path: Path):
    """Another process that has the lock `tmp_path/lock`."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_ids_are_random_and_pass_their_own_check():
    ids = [storage.new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(storage.checked_id(text) == text for text in ids)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:", "a\0b", "a\n", "A", "é", "x" * 65, "~"],
)
def test_nothing_but_an_id_is_taken_for_one(text: str):
    with pytest.raises(NotFound):
        storage.checked_id(text)


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "below" / "file"
    with storage.whole_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_former_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file"
    storage.write_bytes(path, b"former")
    with pytest.raises(ZeroDivisionError), storage.whole_file(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_refusal_in_our_words(tmp_path: Path):
    with (
        pytest.raises(MachineRefused, match="No space left"),
        storage.whole_file(tmp_path / "file"),
        Path("/dev/full").open("wb") as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "folder"
    with storage.whole_folder(path) as aside:
        (aside / "file").write_bytes(b"1")
        assert not path.exists()
    assert (path / "file").read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_one_of_its_name_whole(tmp_path: Path):
    for name in ("old", "new"):
        with storage.whole_folder(tmp_path / "folder") as aside:
            (aside / name).write_bytes(b"1")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "new"]


def test_a_folder_whose_writer_fails_leaves_the_former_one_and_nothing_else(tmp_path: Path):
    with storage.whole_folder(tmp_path / "folder") as aside:
        (aside / "former").write_bytes(b"1")
    with pytest.raises(ZeroDivisionError), storage.whole_folder(tmp_path / "folder") as aside:
        (aside / "new").write_bytes(b"1")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "former"]


def test_json_comes_back_as_it_went_in(tmp_path: Path):
    content = {"name": "Bienen & Käfer", "n": [1, 2.5, None, True]}
    storage.write_json(tmp_path / "facts.json", content)
    assert storage.read_json(tmp_path / "facts.json") == content


def test_a_number_that_json_lacks_is_never_written(tmp_path: Path):
    with pytest.raises(ValueError):
        storage.write_json(tmp_path / "facts.json", {"loss": float("nan")})
    with pytest.raises(ValueError):
        storage.append_line(tmp_path / "lines", {"loss": float("inf")})
    assert storage.read_lines(tmp_path / "lines") == []
    assert not (tmp_path / "facts.json").exists()


@pytest.mark.parametrize("durable", [False, True])
def test_lines_come_back_in_the_order_they_were_added(tmp_path: Path, durable: bool):
    for number in range(5):
        storage.append_line(tmp_path / "lines", {"n": number, "é": "\n"}, durable=durable)
    assert storage.read_lines(tmp_path / "lines") == [{"n": n, "é": "\n"} for n in range(5)]


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path):
    assert storage.read_lines(tmp_path / "lines") == []


@pytest.mark.parametrize("torn", [b'{"n": 1', b'{"n": 1}', b"\xff\xfe", b'{"name": "K\xc3'])
def test_an_unfinished_last_line_is_passed_over(tmp_path: Path, torn: bytes):
    storage.append_line(tmp_path / "lines", {"n": 0})
    with (tmp_path / "lines").open("ab") as file:
        file.write(torn)
    assert storage.read_lines(tmp_path / "lines") == [{"n": 0}]


def test_after_mending_a_torn_line_costs_no_line_but_itself(tmp_path: Path):
    path = tmp_path / "lines"
    storage.append_line(path, {"n": 0})
    with path.open("ab") as file:
        file.write(b'{"n": 1, "lo')
    storage.mend_lines(path)
    storage.append_line(path, {"n": 2})
    assert storage.read_lines(path) == [{"n": 0}, {"n": 2}]


@pytest.mark.parametrize("content", [None, b"", b'{"n": 0}\n'])
def test_mending_leaves_a_sound_file_as_it_is(tmp_path: Path, content: bytes | None):
    path = tmp_path / "lines"
    if content is not None:
        path.write_bytes(content)
    storage.mend_lines(path)
    assert (path.read_bytes() if path.exists() else None) == content


def test_a_lock_that_was_never_taken_is_free(tmp_path: Path):
    assert not storage.is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_a_lock_of_another_process_is_held_until_it_is_killed(tmp_path: Path, keeper):
    assert storage.is_held(tmp_path / "lock")
    assert storage.is_held(tmp_path / "lock")
    keeper.kill()  # SIGKILL: it cleans nothing up.
    keeper.wait()
    assert not storage.is_held(tmp_path / "lock")


def test_a_lock_of_another_process_cannot_be_taken(tmp_path: Path, keeper):
    with pytest.raises(Timeout), storage.held(tmp_path / "lock", seconds=0.05):
        pass


def test_a_lock_is_held_inside_and_free_after(tmp_path: Path):
    with storage.held(tmp_path / "lock"):
        assert storage.is_held(tmp_path / "lock")
    assert not storage.is_held(tmp_path / "lock")


def test_looking_at_a_free_lock_does_not_take_it(tmp_path: Path):
    with storage.held(tmp_path / "lock"):
        pass
    assert not storage.is_held(tmp_path / "lock")
    with storage.held(tmp_path / "lock", seconds=0.05):
        pass


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"abc")  # FIPS 180-2, appendix B.1.
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert storage.sha256_of(tmp_path / "file") == known


def test_free_space_is_known_before_the_folder_is_there(tmp_path: Path):
    free = storage.free_bytes(tmp_path / "not" / "yet")
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1e9


@pytest.mark.parametrize("length", [1, 4096, 5000, 100_000])
def test_the_last_line_of_a_growing_file_is_found_from_its_end(tmp_path: Path, length: int):
    path = tmp_path / "log"
    assert storage.last_line(path) is None
    for number in range(3):
        storage.append_line(path, {"n": number, "text": "é" * length})
    assert storage.last_line(path) == {"n": 2, "text": "é" * length}
    with path.open("ab") as file:
        file.write(b'{"n": 3, "te')
    assert storage.last_line(path) == {"n": 2, "text": "é" * length}


def test_half_done_folders_are_removed_but_not_while_somebody_fills_them(tmp_path: Path):
    (tmp_path / ".left.abcd.tmp").mkdir()
    (tmp_path / "whole").mkdir()
    with storage.whole_folder(tmp_path / "filled") as aside:
        (aside / "file").write_bytes(b"x")
        storage.remove_unfinished(tmp_path)
        assert (aside / "file").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filled", "whole"]
