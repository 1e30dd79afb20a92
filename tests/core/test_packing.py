from __future__ import annotations

import csv
import io
import os
import time
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import jobs
from core.data import importing, journal
from core.data.dataset import Dataset
from core.errors import HeadstartError, MachineRefused
from core.serving import packing
from tests.conftest import make_photo
from tests.core.conftest import sentence

ODD_CLASSES = (
    "=cmd|' /C calc'!A0", "'quoted", "CON", "nul.txt", ".hidden", "a/b", 'x<y>:"z"|?*', "trail. ",
    "Ants", "ants", "ANTS", "train", "__MACOSX", "labels.csv", "journal.csv", "e\u0301t\u00e9",
    "\u5c0f\u718a", "tab\tand\nline", "x" * 120, "\u202eright", "Thumbs.db",
)  # fmt: skip


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=3)), "Insects")


def packed(dataset: Dataset, path: Path) -> Path:
    for _ in packing.pack(dataset, path):
        pass
    return path


def content(dataset: Dataset) -> set[tuple[str, str, str, str]]:
    columns = [dataset.table[c] for c in ("name", "label", "part", "sha256")]
    return set(zip(*columns, strict=True))


def test_a_packed_dataset_is_taken_in_again_with_the_same_content(insects: Dataset, tmp_path):
    journal.record(insects.id, {"action": "relabel", "names": ["ants/0.jpg"], "to": "bees"})
    journal.record(insects.id, {"action": "exclude", "names": ["bees/1.jpg"]})
    corrected = journal.record(insects.id, {"action": "rename", "from": "wasps", "to": "Wasps"})
    again = importing.import_all(packed(corrected, tmp_path / "a.zip"))
    assert again.id != insects.id
    assert content(again) == content(corrected)
    assert again.digest == corrected.digest and again.classes == corrected.classes


def test_images_lie_in_a_folder_of_their_class_with_their_own_bytes(insects: Dataset, tmp_path):
    journal.record(insects.id, {"action": "rename", "from": "ants", "to": "Ants"})
    relabel = {"action": "relabel", "names": ["bees/0.jpg"], "to": "Ants"}
    path = packed(journal.record(insects.id, relabel), tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("Ants/1.jpg") == make_photo(1, kind=0)
        assert archive.read("Ants/0 (2).jpg") == make_photo(0, kind=1)
        assert not [name for name in archive.namelist() if name.startswith("ants")]


def test_a_fixed_split_is_in_the_folders_and_is_taken_in_again(insects: Dataset, tmp_path):
    split = {"action": "split", "shares": [0.4, 0.3, 0.3], "seed": 3}
    divided = journal.record(insects.id, split)
    path = packed(divided, tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
    assert folders == {"train", "val", "test"}
    assert content(importing.import_all(path)) == content(divided)


def odd(insects: Dataset) -> Dataset:
    """The insects, and an image of each class with an odd name, as archives might bring them."""
    rows = [
        {"file": f"odd/{number}.jpg", "label": label} for number, label in enumerate(ODD_CLASSES)
    ]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, ["file", "label"])
    writer.writeheader()
    writer.writerows([*rows, *rows[:1]])
    path = insects.folder.parent.parent / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.csv", buffer.getvalue())
        for number, row in enumerate(rows):
            archive.writestr(row["file"], make_photo(number + 50))
    return importing.import_all(path)


def test_odd_class_names_become_safe_folders_and_come_back_as_they_were(insects, tmp_path):
    found = odd(insects)
    path = packed(found, tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert len({name.casefold() for name in names}) == len(names) == len(ODD_CLASSES) + 2
    for folder in {name.partition("/")[0] for name in names if "/" in name}:
        assert packing.safe(folder) == folder
    again = importing.import_all(path)
    assert set(again.classes) == set(found.classes)
    assert len(found.classes) == len(ODD_CLASSES)
    assert content(again) == content(found)


def test_no_cell_of_the_tables_starts_a_formula(insects: Dataset, tmp_path):
    found = odd(insects)
    relabel = {"action": "relabel", "names": ["odd/3.jpg"], "to": "=1+1"}
    path = packed(journal.record(found.id, relabel, "@Ada"), tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        for table in ("labels.csv", "journal.csv"):
            text = archive.read(table).decode("utf-8-sig")
            cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
            assert not [c for c in cells if c.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_the_journal_comes_with_it_up_to_the_packed_revision(insects: Dataset, tmp_path):
    exclude = {"action": "exclude", "names": ["bees/1.jpg"]}
    second = journal.record(insects.id, exclude, "Ada, \u201cthe\u201d first")
    journal.record(insects.id, {"action": "undo"})
    with zipfile.ZipFile(packed(second, tmp_path / "a.zip")) as archive:
        text = archive.read("journal.csv").decode("utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["revision"] == "2" and row["what"] == "bees/1.jpg excluded"
    assert row["who"] == "Ada, \u201cthe\u201d first"


def test_the_same_revision_packed_again_has_the_same_bytes(insects: Dataset, tmp_path):
    first, second = packed(insects, tmp_path / "a.zip"), packed(insects, tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()


def test_a_packing_that_is_abandoned_leaves_nothing(insects: Dataset, tmp_path):
    steps = packing.pack(insects, tmp_path / "packs" / "a.zip")
    next(steps)
    steps.close()
    assert list((tmp_path / "packs").iterdir()) == []


def test_a_disk_without_room_is_refused_with_nothing_written(insects, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_MIN_FREE_BYTES", str(10**18))
    with pytest.raises(MachineRefused):
        packed(insects, tmp_path / "packs" / "a.zip")
    assert not (tmp_path / "packs").exists()


def wait(job: jobs.Job, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while job.state in jobs.LIVE and time.monotonic() < end:
        time.sleep(0.05)


def test_a_job_packs_and_the_route_sends_it(insects: Dataset, client):
    address = f"/api/datasets/{insects.id}/pack"
    assert "not packed" in sentence(client.get(address), 404)
    job = jobs.start("pack", {"dataset": insects.id}, "Insects")
    wait(job)
    assert job.state == "done", job.refusal
    answer = client.get(address)
    assert answer.status_code == 200
    assert "Insects%201.zip" in answer.headers["content-disposition"]
    assert len(answer.content) == job.result["bytes"]
    assert len(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == 11


def test_packing_what_is_not_there_is_refused(home: Path):
    job = jobs.start("pack", {"dataset": "nowhere"})
    wait(job)
    assert job.state == "refused" and "nowhere" in job.refusal[0]


def test_zips_are_removed_after_a_day(insects: Dataset):
    path = packed(insects, packing.path_of(insects))
    packing.clean_up()
    assert path.exists()
    long_ago = time.time() - 25 * 3600
    os.utime(path, (long_ago, long_ago))
    packing.clean_up()
    assert not path.exists()
    with pytest.raises(HeadstartError):
        packing.packed(insects)


@given(st.text(max_size=300))
def test_a_safe_name_is_one_folder_that_every_system_takes(text: str):
    name = packing.safe(text)
    assert 0 < len(name.encode()) <= packing.LONGEST_BYTES + 1
    assert not set(name) & set('<>:"/\\|?*') and name == name.strip(" ") and not name.endswith(".")
    assert not [c for c in name if unicodedata.category(c)[0] == "C"]
    assert packing.safe(name) == name


@given(st.lists(st.sampled_from(["a.jpg", "A.jpg", "a (2).jpg", "b", "B", "b (2)"]), max_size=12))
def test_names_apart_differ_on_every_system(names: list[str]):
    found = packing.apart(names)
    assert len({name.casefold() for name in found}) == len(names)
