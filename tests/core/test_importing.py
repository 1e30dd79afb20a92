from __future__ import annotations

import io
import json
import tarfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.data import dataset, images, importing
from core.data.dataset import Dataset
from core.data.members import Member
from core.errors import ArchiveRefused, DatasetRefused, HeadstartError, MachineRefused

Layout = dict[str, bytes]


def labels_by_name(found: Dataset) -> dict[str, str]:
    return dict(zip(found.table["name"], found.table["label"], strict=True))


def skipped(found: Dataset) -> dict[str, str]:
    return {one["file"]: one["why"] for one in found.skipped}


def left_in(home: Path) -> list[Path]:
    return list((home / "datasets").rglob("*"))


def tar_of(path: Path, layout: Layout, mode: str = "w", encoding: str = "utf-8") -> Path:
    with tarfile.open(path, mode, encoding=encoding, format=tarfile.GNU_FORMAT) as file:
        for name, content in layout.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def two(class_photos: Callable[..., Layout]) -> Layout:
    """Four photos each of ants and bees."""
    return class_photos("ants", "bees")


def test_an_import_keeps_every_image_with_its_class_and_content(two: Layout, make_zip):
    found = importing.import_all(make_zip(two), "Insects")
    assert labels_by_name(found) == {name: name.partition("/")[0] for name in two}
    assert (found.name, found.classes, found.skipped) == ("Insects", ("ants", "bees"), ())
    for name, sha256 in zip(found.table["name"], found.table["sha256"], strict=True):
        assert found.path_of(sha256).read_bytes() == two[name]
    assert set(found.table["width"]) == {64} and set(found.table["height"]) == {48}


def test_a_zip_a_tar_and_a_folder_of_the_same_photos_are_one_dataset(
    two: Layout, make_zip, make_folder, tmp_path: Path, home: Path
):
    paths = [
        make_zip(two),
        make_folder(two),
        tar_of(tmp_path / "a.tar", two),
        tar_of(tmp_path / "a.tar.gz", dict(reversed(two.items())), "w:gz"),
    ]
    assert len({importing.import_all(path).id for path in paths}) == 1
    assert len(list((home / "datasets").iterdir())) == 1


def test_an_import_says_whether_its_photos_were_here_before(two: Layout, make_zip, photo):
    path = make_zip(two)
    ends = [list(importing.import_images(path))[-1] for _ in range(2)]
    assert [end.known for end in ends] == [False, True]
    more = make_zip({"ants/more.jpg": photo(99)}, "more.zip")
    *_, end = importing.import_images(more, into=ends[0].dataset.id)
    assert not end.known  # An addition is a new revision of a dataset that everybody knows.


def test_the_same_photos_imported_twice_at_once_are_one_dataset(
    two: Layout, make_zip, home: Path, monkeypatch
):
    path, both_placed = make_zip(two), threading.Barrier(2, timeout=30)
    placed, looked = importing.first_of_its_kind, dataset.with_digest

    def side_by_side(dataset_id: str) -> Dataset:
        both_placed.wait()
        return placed(dataset_id)

    def slowly(digest: str, but_not: str) -> Dataset | None:
        found = looked(digest, but_not)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(importing, "first_of_its_kind", side_by_side)
    monkeypatch.setattr(dataset, "with_digest", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(importing.import_all, [path, path])
    assert first.id == second.id
    assert [p.name for p in (home / "datasets").iterdir()] == [first.id]
    assert first.path_of(first.table["sha256"][0]).exists()


def test_other_photos_are_another_dataset(two: Layout, make_zip, photo):
    one = importing.import_all(make_zip(two))
    other = importing.import_all(make_zip(two | {"ants/0.jpg": photo(99)}))
    assert one.id != other.id and one.digest != other.digest


def test_the_same_photos_under_other_labels_are_another_dataset(two: Layout, make_zip):
    one = importing.import_all(make_zip(two))
    moved = {name.replace("bees", "wasps"): content for name, content in two.items()}
    assert importing.import_all(make_zip(moved)).digest != one.digest


@pytest.mark.parametrize(
    ("file", "name"), [("photos.zip", "photos"), ("my.photos.zip", "my.photos")]
)
def test_a_dataset_is_called_after_its_file(two: Layout, make_zip, file: str, name: str):
    assert importing.import_all(make_zip(two, file)).name == name


def test_a_dataset_is_called_after_its_tar_or_folder(two: Layout, tmp_path: Path, make_folder):
    assert importing.title_of(tar_of(tmp_path / "a.tar.gz", two, "w:gz")) == "a"
    assert importing.title_of(make_folder(two, "photos.2026")) == "photos.2026"


def test_progress_rises_to_the_total_and_ends_with_the_dataset(two: Layout, make_zip):
    *before, last = importing.import_images(make_zip(two))
    checked, looked, written = (
        [step.done for step in before if step.text == text]
        for text in dict.fromkeys(step.text for step in before)
    )
    assert checked == [*range(1, 9)]
    assert looked == sorted(looked) and {4, 7} <= set(looked) <= set(range(8))
    assert written == [8]
    assert {step.total for step in [*before, last]} == {8}
    assert all(step.dataset is None for step in before)
    assert last.dataset is not None and last.done == 8


def test_progress_never_passes_the_total(two: Layout, make_zip):
    notes = {f"notes/{number}.txt": b"words" for number in range(5)}
    for step in importing.import_images(make_zip(two | notes)):
        assert step.done <= step.total


def test_junk_is_passed_over_without_a_word(two: Layout, make_zip):
    junk = {"__MACOSX/ants/._0.jpg": b"x", "ants/.DS_Store": b"x", "bees/Thumbs.db": b"x"}
    found = importing.import_all(make_zip(two | junk))
    assert (len(found.table), found.skipped) == (8, ())


def test_every_file_left_out_is_listed_with_its_reason(two: Layout, make_zip, photo):
    odd = {
        "ants/truncated.jpg": photo(9)[:-200],
        "ants/empty.jpg": b"",
        "bees/text.jpg": b"Not Found",
        "bees/notes.txt": b"words",
        "cover.jpg": photo(10),
    }
    found = importing.import_all(make_zip(two | odd))
    assert set(labels_by_name(found)) == set(two)
    reasons = skipped(found)
    assert set(reasons) == set(odd)
    assert "damaged" in reasons["ants/truncated.jpg"]
    assert "empty" in reasons["ants/empty.jpg"]
    assert "none of JPEG" in reasons["bees/text.jpg"]
    assert "no image" in reasons["bees/notes.txt"]
    assert "no class" in reasons["cover.jpg"]


def test_an_image_larger_than_the_limit_is_listed_and_the_others_are_taken(
    two: Layout, make_zip, photo, monkeypatch
):
    monkeypatch.setenv("HEADSTART_MAX_FILE_BYTES", "10000")
    found = importing.import_all(make_zip(two | {"ants/large.jpg": photo(9, size=(400, 400))}))
    assert set(skipped(found)) == {"ants/large.jpg"}
    assert "bytes and the limit is 10,000" in skipped(found)["ants/large.jpg"]


def test_a_file_that_fails_in_an_unforeseen_way_is_listed_and_the_others_are_taken(
    two: Layout, make_zip, monkeypatch
):
    examine = images.examine

    def fails(content, name, limits=None):
        if name == "ants/0.jpg":
            raise LookupError("of the decoder")
        return examine(content, name, limits)

    monkeypatch.setattr(images, "examine", fails)
    found = importing.import_all(make_zip(two))
    assert len(found.table) == 7
    assert skipped(found) == {
        "ants/0.jpg": "It cannot be read, in a way that was not foreseen (LookupError)."
    }


def test_a_split_by_folders_is_in_the_table(class_photos, make_zip):
    layout = {
        f"photos/{part}/{name}": content
        for part, each in [("train", 4), ("valid", 2), ("test", 3)]
        for name, content in class_photos("ants", "bees", each=each).items()
    }
    found = importing.import_all(make_zip(layout))
    assert found.classes == ("ants", "bees")
    assert found.table["part"].value_counts().to_dict() == {"train": 8, "test": 6, "val": 4}


def test_labels_of_a_table_stay_the_text_they_are(make_zip, photo):
    labels = ["001", "1", "NA", "None", "1e5", "001"]
    layout = {f"img/{number}.jpg": photo(number) for number in range(len(labels))}
    rows = [f"{number}.jpg,{label}" for number, label in enumerate(labels)]
    layout["labels.csv"] = "\n".join(["file,label", *rows]).encode()
    found = importing.import_all(make_zip(layout))
    assert found.classes == ("001", "1", "1e5", "NA", "None")
    assert list(found.table.sort_values("name")["label"]) == labels
    assert dataset.load(found.id).table["label"].map(type).eq(str).all()


def test_a_table_may_be_written_by_an_old_windows_program(make_zip, photo):
    layout = {f"{number}.jpg": photo(number) for number in range(2)}
    layout["labels.csv"] = "file;label\r\n0.jpg;Käfer\r\n1.jpg;Bär\r\n".encode("cp1252")
    assert importing.import_all(make_zip(layout)).classes == ("Bär", "Käfer")


def test_a_damaged_table_beside_class_folders_is_listed_and_costs_nothing_else(
    two: Layout, tmp_path: Path
):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {**two, "notes.csv": b"file,label\nspoiled\n"}.items():
            file.writestr(name, content)
    path.write_bytes(path.read_bytes().replace(b"spoiled", b"Spoiled"))
    found = importing.import_all(path)
    assert set(labels_by_name(found)) == set(two)
    assert "damaged" in skipped(found)["notes.csv"]


def test_two_photos_of_one_name_are_both_kept(two: Layout, tmp_path: Path, photo):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of doubled names.
        for name, content in [*two.items(), ("ants/0.jpg", photo(50)), ("ants/0.jpg", photo(51))]:
            file.writestr(name, content)
    found = importing.import_all(path)
    assert set(labels_by_name(found)) == {*two, "ants/0 (2).jpg", "ants/0 (3).jpg"}


@pytest.mark.parametrize(
    "names",
    [
        ["a/1.jpg", "a/1 (2).jpg", "a/1.jpg"],
        ["a/1.jpg", "a/1.jpg", "a/1 (2).jpg"],
        ["a/1", "a/1"],
        ["St. Bernard/IMG_1", "St. Bernard/IMG_1"],
    ],
)
def test_names_made_for_doubled_photos_are_new_and_in_the_same_folder(names: list[str]):
    members = [Member(name, 1, None) for name in names]
    found = [member.name for member in importing.distinct(members)]
    assert len(set(found)) == len(names)
    assert [name.partition("/")[0] for name in found] == [name.partition("/")[0] for name in names]


def test_one_photo_in_two_places_is_stored_once_and_listed_twice(two: Layout, make_zip):
    found = importing.import_all(make_zip(two | {"ants/again.jpg": two["ants/0.jpg"]}))
    assert len(found.table) == 9
    assert len([p for p in (found.folder / "images").rglob("*") if p.is_file()]) == 8


def test_names_in_an_old_encoding_are_taken_all_the_same(two: Layout, tmp_path: Path):
    layout = {name.replace("bees", "Käfer"): content for name, content in two.items()}
    found = importing.import_all(tar_of(tmp_path / "a.tar", layout, encoding="latin-1"))
    assert len(found.table) == 8 and len(found.classes) == 2
    json.dumps(found.classes, ensure_ascii=False).encode()


def test_a_folder_with_names_in_an_old_encoding_is_taken_all_the_same(two: Layout, tmp_path: Path):
    for name, content in two.items():
        path = tmp_path / "photos" / name.replace("bees", "K\udce4fer")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = importing.import_all(tmp_path / "photos")
    assert len(found.table) == 8 and len(found.classes) == 2


def refused_zip(case: str, two: Layout, make_zip: Callable[..., Path], path: Path) -> Path:
    """An archive that is refused for the reason that `case` names."""
    layouts = {
        "climbs": two | {"../evil.jpg": two["ants/0.jpg"]},
        "one class": {name: content for name, content in two.items() if "ants" in name},
        "no image": {"a/notes.txt": b"words"},
        "unreadable": {"a/1.jpg": b"x", "b/2.jpg": b"y"},
        "one readable class": {name: two[name] if "ants" in name else b"x" for name in two},
        "empty": {},
    }
    if case == "no archive":
        (path / "photos.zip").write_bytes(b"words")
        return path / "photos.zip"
    return make_zip(layouts[case])


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("climbs", ArchiveRefused),
        ("no archive", ArchiveRefused),
        ("one class", DatasetRefused),
        ("no image", DatasetRefused),
        ("unreadable", DatasetRefused),
        ("one readable class", DatasetRefused),
        ("empty", DatasetRefused),
    ],
)
def test_after_a_refusal_nothing_was_written(two, make_zip, tmp_path, home, case: str, kind: type):
    with pytest.raises(kind):
        importing.import_all(refused_zip(case, two, make_zip, tmp_path))
    assert left_in(home) == []


def test_a_refusal_for_unreadable_images_gives_an_example(make_zip):
    with pytest.raises(DatasetRefused, match=r"For example a/1\.jpg: .*none of JPEG"):
        importing.import_all(make_zip({"a/1.jpg": b"x", "b/2.jpg": b"y"}))


def test_too_many_classes_are_refused_with_nothing_written(two, make_zip, home, monkeypatch):
    monkeypatch.setenv("HEADSTART_MAX_CLASSES", "1")
    with pytest.raises(DatasetRefused, match="2 classes and the limit is 1"):
        importing.import_all(make_zip(two))
    assert left_in(home) == []


def test_a_disk_without_room_is_refused_with_nothing_written(two, make_zip, home, monkeypatch):
    monkeypatch.setenv("HEADSTART_MIN_FREE_BYTES", str(10**18))
    with pytest.raises(MachineRefused):
        importing.import_all(make_zip(two))
    assert left_in(home) == []


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_an_import_that_is_abandoned_leaves_nothing(class_photos, make_zip, home, steps: int):
    progress = importing.import_images(make_zip(class_photos("ants", "bees", each=20)))
    for _ in range(steps):
        next(progress)
    progress.close()
    assert left_in(home) == []


def test_an_unfinished_import_is_no_dataset(two: Layout, make_zip):
    progress = importing.import_images(make_zip(two))
    next(progress)
    assert dataset.summaries() == []
    progress.close()


def test_importing_again_what_was_abandoned_works(two: Layout, make_zip):
    path = make_zip(two)
    progress = importing.import_images(path)
    next(progress)
    progress.close()
    assert len(importing.import_all(path).table) == 8


def test_a_hostile_archive_is_refused_in_words_for_people(two, make_zip):
    with pytest.raises(HeadstartError) as refusal:
        importing.import_all(make_zip(two | {"/etc/passwd": b"x"}))
    assert refusal.value.what.endswith(".") and refusal.value.remedy.endswith(".")
