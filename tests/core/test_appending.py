from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import jobs, storage
from core.data import appending, dataset, importing, journal, split, twins
from core.data.dataset import Dataset
from core.errors import DatasetRefused, MachineRefused, NotFound
from tests.conftest import make_photo

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals")


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", each=3)), "Insects")


def photos(label: str, *seeds: int, kind: int = 0) -> dict[str, bytes]:
    return {f"{label}/{seed}.jpg": make_photo(seed, kind=kind) for seed in seeds}


def appended(found: Dataset, make_zip, layout: dict[str, bytes]) -> Dataset:
    return importing.import_all(make_zip(layout, "more.zip"), into=found.id, who="Ada")


def reasons(found: Dataset) -> dict[str, str]:
    return {one["file"]: one["why"] for one in found.skipped}


def test_a_second_upload_makes_a_revision_with_the_same_classes_merged(insects, make_zip):
    more = appended(insects, make_zip, photos("ants", 7, 8) | photos("wasps", 9, kind=2))
    assert (more.id, more.revision) == (insects.id, 2)
    assert more.classes == ("ants", "bees", "wasps")
    assert more.table["label"].value_counts().to_dict() == {"ants": 5, "bees": 3, "wasps": 1}
    assert dataset.load(insects.id, 1).table.equals(insects.table)
    assert journal.listed(insects.id)[0]["what"] == "3 images added from more"
    assert journal.listed(insects.id)[0]["who"] == "Ada"


def test_every_added_image_lies_where_its_hash_says(insects, make_zip):
    layout = photos("ants", 7, 8) | photos("wasps", 9, kind=2)
    more = appended(insects, make_zip, layout)
    by_name = dict(zip(more.table["name"], more.table["sha256"], strict=True))
    for name, content in layout.items():
        assert more.path_of(by_name[name]).read_bytes() == content


def test_exact_copies_are_skipped_and_listed_with_the_reason(insects, make_zip):
    journal.record(insects.id, {"action": "exclude", "names": ["bees/2.jpg"]})
    copies = {
        "ants/copy.jpg": make_photo(0, kind=0),
        "wasps/copy.jpg": make_photo(1, kind=1),
        "bees/out.jpg": make_photo(2, kind=1),
        "ants/new.jpg": make_photo(50),
        "ants/new again.jpg": make_photo(50),
    }
    more = appended(insects, make_zip, copies)
    assert len(more.table) == 6
    assert reasons(more) == {
        "ants/copy.jpg": "It is the same as ants/0.jpg, which is of the class ants.",
        "wasps/copy.jpg": "It is the same as bees/1.jpg, which is of the class bees.",
        "bees/out.jpg": "It is the same as bees/2.jpg, which is excluded.",
        "ants/new again.jpg": "It is the same as ants/new.jpg, which is of the class ants.",
    }


def test_other_photos_under_names_there_are_get_new_names(insects, make_zip):
    more = appended(insects, make_zip, {"ants/0.jpg": make_photo(70)})
    assert "ants/0 (2).jpg" in set(more.table["name"]) and len(more.table) == 7


def test_names_are_new_also_beside_additions_that_were_taken_back(insects, make_zip):
    appended(insects, make_zip, {"ants/0.jpg": make_photo(70)})
    journal.record(insects.id, {"action": "undo", "of": 2})
    appended(insects, make_zip, {"ants/0.jpg": make_photo(71)})
    both = journal.record(insects.id, {"action": "undo", "of": 3})
    assert list(both.table["name"]) == sorted(set(both.table["name"]))
    assert {"ants/0 (2).jpg", "ants/0 (3).jpg"} <= set(both.table["name"])


def test_one_class_alone_can_be_added_and_is_named_where_it_is_new(insects, make_zip):
    more = appended(insects, make_zip, photos("ants", 7, 8))
    assert (len(more.table), more.notes) == (8, ())
    wasps = make_zip(photos("wasps", 17, 18), "wasps.zip")
    with pytest.raises(DatasetRefused, match=r"a new class \(wasps\).*--classes folders"):
        importing.import_all(wasps, into=insects.id)
    more = importing.import_all(wasps, into=insects.id, reading="folders")
    assert more.notes == ("New in revision 3: 1 class (wasps).",)
    with pytest.raises(DatasetRefused, match="not sorted into classes"):
        appended(insects, make_zip, {"1.jpg": make_photo(19)})


@pytest.mark.parametrize(
    "names",
    [
        ["train/ants/1.jpg", "test/ants/2.jpg"],
        ["ants/female/1.jpg", "ants/male/2.jpg"],
        ["more/ants/1.jpg", "more/ants/2.jpg"],
        ["ants/IMG_1/1.jpg", "bees/IMG_2/2.jpg"],
    ],
)
def test_the_classes_that_the_dataset_has_say_which_folder_is_meant(
    insects, make_zip, names: list[str]
):
    layout = {name: make_photo(30 + k) for k, name in enumerate(names)}
    assert appended(insects, make_zip, layout).classes == ("ants", "bees")


def test_a_table_of_one_known_class_is_read_as_such(insects, make_zip):
    layout = {f"images/{k}.jpg": make_photo(30 + k) for k in range(3)}
    table = "file,label\n" + "".join(f"{k}.jpg,ants\n" for k in range(3))
    more = appended(insects, make_zip, layout | {"labels.csv": table.encode()})
    assert more.table["label"].value_counts().to_dict() == {"ants": 6, "bees": 3}


def test_an_upload_with_a_split_does_not_fix_that_of_a_dataset_without(insects, make_zip):
    divided = {f"{part}/{name}": content for part, seeds in (("train", (7, 8)), ("test", (9,)))
             for label, kind in (("ants", 0), ("bees", 1))
             for name, content in photos(label, *seeds, kind=kind).items()}  # fmt: skip
    more = appended(insects, make_zip, divided)
    assert len(more.table) == 12 and set(more.table["part"]) == {""}


def everything(found: Dataset) -> dict[str, int]:
    """Each file of a dataset with its size; locks may be there or not."""
    files = [path for path in found.folder.rglob("*") if path.is_file()]
    return {str(path): path.stat().st_size for path in files if path.suffix != ".lock"}


def stored(found: Dataset) -> set[str]:
    return {path.name for path in (found.folder / "images").glob("*/*")}


def test_a_split_that_is_not_taken_over_is_said_and_one_that_is_is_not(insects, make_zip):
    def brought(first: int) -> dict[str, bytes]:
        return {f"{part}/{name}": content for part, seed in (("train", first), ("test", first + 1))
                for label, kind in (("ants", 0), ("bees", 1))
                for name, content in photos(label, seed, kind=kind).items()}  # fmt: skip

    assert appended(insects, make_zip, brought(7)).notes == (appending.UNDIVIDED,)
    journal.record(insects.id, {"action": "undo"})
    journal.record(insects.id, {"action": "split", "shares": [0.4, 0.3, 0.3]})
    more = appended(insects, make_zip, brought(17))
    parts = dict(zip(more.table["name"], more.table["part"], strict=True))
    assert more.notes == ()
    assert {parts[name] for name in parts if name.startswith("train")} == {"train"}
    assert {parts[name] for name in parts if name.startswith("test")} == {"test"}


def test_what_is_odd_about_the_classes_is_said_once_and_not_of_additions_taken_back(
    insects, make_zip
):
    more = appended(insects, make_zip, photos("Ants", 7, kind=2) | photos("bees", 9, kind=1))
    new, alike, rare = more.notes
    assert new == "New in revision 2: 1 class (Ants)." and "Ants, ants" in alike
    assert "single image of 1 class (Ants)" in rare
    again = appended(insects, make_zip, photos("Ants", 17, 18, kind=2))
    assert again.notes == (new, alike)
    merged = journal.record(insects.id, {"action": "merge", "from": ["Ants"], "to": "ants"})
    assert merged.notes == (new,)
    for of in (4, 3, 2):
        journal.record(insects.id, {"action": "undo", "of": of})
    assert dataset.load(insects.id).notes == ()


def test_nothing_new_is_refused_and_changes_nothing(insects, make_zip, home: Path):
    before = everything(insects)
    with pytest.raises(DatasetRefused, match="all of these images already"):
        appended(insects, make_zip, photos("ants", 0, 1))
    assert dataset.load(insects.id).revision == 1 and everything(insects) == before
    assert [p.name for p in (home / "datasets").iterdir()] == [insects.id]


def test_an_addition_that_cannot_be_saved_leaves_no_image_behind(insects, make_zip, monkeypatch):
    before, whole = stored(insects), everything(insects)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(MachineRefused, match="No space left"):
        patched.setattr(journal, "append_line", full)
        appended(insects, make_zip, photos("ants", 7, 8))
    assert stored(insects) == before and everything(insects) == whole
    assert len(appended(insects, make_zip, photos("ants", 7, 8)).table) == 8


def test_what_a_killed_addition_had_moved_is_removed_at_the_next_start(insects, make_zip):
    known = appended(insects, make_zip, photos("ants", 7))
    before = stored(insects)
    strays = [f"{k:02x}" * 32 for k in range(3)]
    for sha256 in strays:
        (insects.folder / "images" / sha256[:2] / sha256).write_bytes(b"stray")
    storage.write_json(insects.folder / "adding.json", {"contents": [*strays, *before]})
    with journal.writing(insects.id):
        jobs.clean_up()  # Somebody is at work there: it is left alone.
        assert set(strays) < stored(insects)
    jobs.clean_up()
    assert stored(insects) == before == set(known.table["sha256"])
    assert not (insects.folder / "adding.json").exists()


def test_others_may_correct_while_copies_are_looked_for(insects, make_zip, monkeypatch):
    search, looked = twins.grouped, []

    def meanwhile(*values: object) -> np.ndarray:
        looked.append(values)
        journal.record(insects.id, {"action": "exclude", "names": [f"bees/{len(looked)}.jpg"]})
        return search(*values)

    monkeypatch.setattr(twins, "grouped", meanwhile)
    more = appended(insects, make_zip, photos("ants", 7))
    assert (len(looked), more.revision, len(more.table)) == (1, 3, 6)


def test_copies_are_looked_for_again_beside_what_another_addition_brought(
    insects, make_zip, monkeypatch
):
    search, looked = twins.grouped, []
    other, new = make_zip({"ants/other.png": blotches(5)}, "other.zip"), blotches(5)

    def meanwhile(*values: object) -> np.ndarray:
        looked.append(values)
        if len(looked) == 1:
            importing.import_all(other, into=insects.id)
        return search(*values)

    monkeypatch.setattr(twins, "grouped", meanwhile)
    more = appended(insects, make_zip, {"ants/copy.jpg": smaller(new)})
    by_name = more.table.set_index("name")
    image, copy = by_name.loc["ants/other.png"], by_name.loc["ants/copy.jpg"]
    assert (more.revision, len(looked)) == (3, 3)
    assert copy["group"] and copy["group"] in (image["group"], image["sha256"][:16])


def divided_insects(make_zip, each: int, shares: list[float]) -> Dataset:
    """So many different pictures a class, with a saved split."""
    old = {f"{label}/{n}.png": blotches(n + 500 * kind)
           for kind, label in enumerate(("ants", "bees")) for n in range(each)}  # fmt: skip
    found = importing.import_all(make_zip(old))
    return journal.record(found.id, {"action": "split", "shares": shares, "seed": 1})


def test_images_that_come_one_at_a_time_are_shared_out_as_if_they_came_together(make_zip):
    first = divided_insects(make_zip, 4, [0.5, 0.25, 0.25])
    for n in range(8):
        one = {f"ants/new {n}.png": blotches(n + 200)}
        table = importing.import_all(make_zip(one, "more.zip"), into=first.id).table
    ants = table.loc[table["label"] == "ants", "part"].value_counts()
    assert dict(ants) == {"train": 6, "val": 3, "test": 3}


def test_adding_to_what_is_not_there_is_not_found(make_zip):
    with pytest.raises(NotFound):
        importing.import_all(make_zip(photos("ants", 1)), into="nowhere")


@pytest.mark.parametrize("steps", [1, 20])
def test_an_addition_that_is_abandoned_leaves_the_revision_as_it_was(
    insects, make_zip, home: Path, steps: int
):
    path = make_zip(photos("ants", *range(10, 50)), "more.zip")
    progress = importing.import_images(path, into=insects.id)
    for _ in range(steps):
        next(progress)
    progress.close()
    assert dataset.load(insects.id).revision == 1
    assert [p.name for p in (home / "datasets").iterdir()] == [insects.id]
    assert len(importing.import_all(path, into=insects.id).table) == 46


@posix_only
def test_an_addition_that_is_killed_leaves_the_revision_as_it_was(insects, make_zip):
    path = make_zip(photos("ants", *range(100, 400)), "more.zip")
    process = subprocess.Popen(
        [sys.executable, "-m", "core", "import", str(path), "--into", insects.id],
        cwd=Path(__file__).parents[2], env=dict(os.environ),
    )  # fmt: skip
    staged = dataset.settings().datasets
    while process.poll() is None and not list(staged.glob(".*.tmp/images/*/*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    dataset._load.cache_clear()
    found = dataset.load(insects.id)
    assert (found.revision, found.digest) == (1, insects.digest)
    assert importing.import_all(path, into=insects.id).revision == 2


def blotches(seed: int) -> bytes:
    """A picture that is like no other one."""
    rough = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rough).resize((180, 140), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def smaller(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        buffer = io.BytesIO()
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def test_a_near_duplicate_of_an_old_image_goes_into_its_group_and_its_part(make_zip):
    old = {
        f"{label}/{n}.png": blotches(n + 10 * kind)
        for kind, label in enumerate(("ants", "bees"))
        for n in range(6)
    }
    first = importing.import_all(make_zip(old))
    journal.record(first.id, {"action": "split", "shares": [0.4, 0.3, 0.3], "seed": 1})
    copies = {f"ants/copy {n}.jpg": smaller(old[f"ants/{n}.png"]) for n in range(6)}
    table = importing.import_all(make_zip(copies, "more.zip"), into=first.id).table
    by_name = table.set_index("name")
    for n in range(6):
        image, copy = by_name.loc[f"ants/{n}.png"], by_name.loc[f"ants/copy {n}.jpg"]
        assert copy["part"] == image["part"] != ""
        assert copy["group"] and copy["group"] in (image["group"], image["sha256"][:16])


def test_new_images_are_divided_as_the_saved_split_was_until_that_is_taken_back(make_zip):
    old = {f"{label}/{n}.png": blotches(n + 50 * kind)
           for kind, label in enumerate(("ants", "bees")) for n in range(8)}  # fmt: skip
    first = importing.import_all(make_zip(old))
    second = journal.record(first.id, {"action": "split", "shares": [0.5, 0.25, 0.25], "seed": 1})
    assert split.how(second, 0) == "This split was saved in revision 2."
    new = {f"moths/{n}.png": blotches(n + 200) for n in range(12)}
    new |= {f"ants/more {n}.png": blotches(n + 300) for n in range(4)}
    third = importing.import_all(make_zip(new, "more.zip"), into=first.id)
    moths = third.table[third.table["label"] == "moths"]
    assert dict(moths["part"].value_counts()) == {"train": 6, "val": 3, "test": 3}
    former = third.table[third.table["name"].isin(old)]
    assert list(former["part"]) == list(second.table["part"])
    assert split.how(third, 0) == "This split was saved in revision 2."
    without = journal.record(first.id, {"action": "undo", "of": 2})
    assert set(without.table["part"]) == {""} and len(without.table) == 32
    assert "drawn with seed 0" in split.how(without, 0)
    again = journal.record(first.id, {"action": "undo", "of": 4})
    assert again.digest == third.digest


def test_new_images_of_a_patient_go_where_a_split_by_patients_put_the_old_ones(make_zip):
    old = {f"{label}/p{n}{label}_left.png": blotches(n + 50 * kind)
           for kind, label in enumerate(("ants", "bees")) for n in range(8)}  # fmt: skip
    first = importing.import_all(make_zip(old))
    action = {"action": "split", "shares": [0.4, 0.3, 0.3], "group_by": "before_"}
    former = journal.record(first.id, action).table.set_index("name")
    new = {name.replace("left", "right"): blotches(n + 300) for n, name in enumerate(old)}
    new |= {f"ants/new_{n}.png": blotches(n + 400) for n in range(5)}
    table = importing.import_all(make_zip(new, "more.zip"), into=first.id).table.set_index("name")
    for name in old:
        added = table.loc[name.replace("left", "right")]
        assert added["part"] == former.loc[name, "part"]
        assert added["group"] == former.loc[name, "group"] != ""
    assert (
        table.loc[[f"ants/new_{n}.png" for n in range(5)], ["part", "group"]].nunique().eq(1).all()
    )


def test_bursts_that_come_one_at_a_time_do_not_shift_the_shares(make_zip):
    first = divided_insects(make_zip, 20, [0.7, 0.15, 0.15])
    for n in range(4):
        burst = {}
        for k in range(3):
            one = blotches(1000 + 3 * n + k)
            burst |= {f"ants/{n} {k} a.png": one, f"ants/{n} {k} b.jpg": smaller(one)}
        table = importing.import_all(make_zip(burst, "more.zip"), into=first.id).table
    ants = table.loc[table["label"] == "ants", "part"].value_counts()
    assert ants.sum() == 44 and 28 <= ants["train"] <= 33
    assert 5 <= ants["val"] <= 8 and 5 <= ants["test"] <= 8


def test_old_images_that_a_new_one_joins_are_one_group_from_then_on(make_zip, monkeypatch):
    """Two that are not alike themselves, and one like both, as the search may find them."""
    old = {f"{label}/{n}.png": blotches(n + 50 * kind)
           for kind, label in enumerate(("ants", "bees")) for n in range(8)}  # fmt: skip
    first = importing.import_all(make_zip(old))
    hashes = dict(zip(first.table["name"], first.table["sha256"], strict=True))
    excluded, kept = hashes["ants/0.png"], hashes["ants/1.png"]
    journal.record(first.id, {"action": "exclude", "names": ["ants/0.png"]})
    search = twins.grouped

    def linked(table, *values):
        groups = yield from search(table, *values)
        new = ~table["sha256"].isin(set(hashes.values()))
        together = new | table["sha256"].isin([excluded, kept])
        return np.where(together, excluded[:16], groups)

    monkeypatch.setattr(twins, "grouped", linked)
    more = importing.import_all(make_zip({"ants/9.png": blotches(99)}, "more.zip"), into=first.id)
    whole = journal.record(first.id, {"action": "include", "names": ["ants/0.png"]})
    groups = whole.table.set_index("name")["group"]
    assert groups["ants/9.png"] != "" and more.revision == 3
    for seed in range(6):
        divided = journal.record(
            first.id, {"action": "split", "shares": [0.4, 0.3, 0.3], "seed": seed}
        )
        parts = divided.table.set_index("name")["part"]
        assert len({parts[name] for name in ("ants/0.png", "ants/1.png", "ants/9.png")}) == 1
    for _ in range(6):
        journal.record(first.id, {"action": "undo"})
    without = journal.record(first.id, {"action": "undo", "of": 3})
    assert set(without.table["group"]) == {""}


def test_an_addition_says_how_far_the_search_is_and_may_be_abandoned_in_it(insects, make_zip):
    path = make_zip(photos("ants", *range(10, 30)), "more.zip")
    before = everything(insects)
    for step in (progress := importing.import_images(path, into=insects.id)):
        if step.text == importing.LOOKING and step.done:
            break
    progress.close()
    assert everything(insects) == before
    assert len(importing.import_all(path, into=insects.id).table) == 26
