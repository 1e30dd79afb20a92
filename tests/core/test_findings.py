"""What is said of copies, properties and faults, and what later revisions still show of it."""

from __future__ import annotations

import io
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.auditing import duplicates, faults, findings, giveaways, looks
from core.auditing.findings import Finding, Findings, Group
from core.auditing.kinds import KINDS, SEVERITIES
from core.data import images, importing, journal
from tests.core.conftest import Trained

KIND_NAMES = [
    "exact_duplicate",
    "near_duplicate",
    "contradiction",
    "leak",
    "label_error",
    "outlier",
    "dark",
    "bright",
    "blurred",
    "blank",
    "tiny",
    "odd_aspect",
    "grayscale",
    "few_images",
    "giveaway",
]


def table(n: int, **columns: object) -> pd.DataFrame:
    """Looks of n sound images in two classes."""
    usual = {
        "name": [f"{k}.jpg" for k in range(n)], "label": ["a", "b"] * (n // 2),
        "width": 640, "height": 480, "format": "JPEG", "readable": True, "brightest": 0.9,
        "darkest": 0.2, "edges": 50.0, "span": 150.0, "color": 60.0, "border": 100.0,
        "border_spread": 30.0, "camera": "",
    }  # fmt: skip
    return pd.DataFrame({**usual, **columns})


def giveaways_in(looks: pd.DataFrame) -> list[str]:
    found, _ = giveaways.found(looks)
    return [group.about for one in found if one.kind == "giveaway" for group in one.groups]


def measured_of(path: Path) -> pd.DataFrame:
    """Looks of a dataset's images, as the audit has them."""
    dataset = importing.import_all(path)
    measuring = looks.measured(dataset)
    while True:
        try:
            next(measuring)
        except StopIteration as ended:
            about = dataset.table[["name", "label", "width", "height", "format"]]
            return pd.concat([about, ended.value.drop(columns="sha256")], axis=1)


def test_every_kind_is_explained_in_full_sentences():
    assert sorted(KINDS) == sorted(KIND_NAMES)
    for kind in KINDS.values():
        assert kind.severity in SEVERITIES
        assert kind.help.endswith(".") and kind.remedy.endswith(".")


def test_a_class_of_one_format_is_given_away():
    formats = ["PNG", "JPEG"] * 20
    assert "20 of 20 images of a are PNG; of all others 0 of 20" in giveaways_in(
        table(40, format=formats)
    )


def test_a_class_of_one_camera_among_many_is_given_away():
    cameras = ["Acme One" if k % 2 else f"Other {k % 3}" for k in range(60)]
    (said, _) = giveaways_in(table(60, camera=cameras))
    assert "taken with" in said


def test_sizes_that_all_differ_give_nothing_away():
    widths = np.arange(300, 360)
    assert giveaways_in(table(60, width=widths)) == []


def test_formats_that_fell_by_chance_give_nothing_away():
    formats = np.random.default_rng(0).choice(["PNG", "JPEG"], 200)
    assert giveaways_in(table(200, format=formats)) == []


def test_a_guess_never_counts_the_image_itself():
    values, labels = np.array(["x", "x", "y"]), np.array([0, 1, 1])
    assert giveaways.guesses(values, labels).tolist() == [1, 0, -1]


@pytest.mark.parametrize(("values", "classes"), [(1, 2), (3, 3), (40, 6), (300, 50)])
def test_guesses_are_those_of_counting_for_each_image(values: int, classes: int):
    rng = np.random.default_rng(values)
    shown = rng.integers(0, values, 300).astype(str)
    labels = np.append(np.arange(classes), rng.integers(0, classes, 300 - classes))
    guessed = giveaways.guesses(shown, labels)
    for row, guess in enumerate(guessed):
        others = (shown == shown[row]) & (np.arange(300) != row)
        counts = np.bincount(labels[others], minlength=classes)
        best = np.flatnonzero(counts == counts.max())
        assert guess == (best[0] if len(best) == 1 else -1)
    for label, strength in enumerate(giveaways.correlations(guessed, labels)):
        taken, true = guessed == label, labels == label
        alike = taken.all() or not taken.any()
        assert strength == pytest.approx(0.0 if alike else np.corrcoef(taken, true)[0, 1])


def test_guesses_of_many_values_and_classes_take_little_memory():
    n, classes = 100_000, 2_000
    values, labels = np.arange(n).astype(str), np.arange(n) % classes
    tracemalloc.start()
    giveaways.guesses(values, labels)
    giveaways.guesses(np.full(n, "x"), labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_a_class_of_gray_images_among_color_is_given_away():
    said = giveaways_in(table(40, color=[0.0, 60.0] * 20))
    assert "20 of 20 images of a are gray; of all others 0 of 20" in said


def test_a_class_of_dark_photos_is_given_away():
    said = giveaways_in(table(40, brightest=[0.3, 0.9] * 20, darkest=[0.0, 0.3] * 20))
    expected = "20 of 20 images of a are between 12% and 25% bright on the whole; of all others"
    assert any(one.startswith(expected) for one in said)


@pytest.mark.parametrize("name", ["hymenoptera", "sign-digits"])
def test_of_real_photos_none_is_given_away_nor_bad_by_nature(test_data: Path, name: str):
    measured = measured_of(test_data / "data" / f"{name}.zip")
    assert giveaways_in(measured) == []
    found, notes = faults.found(measured)
    assert {one.kind for one in found} <= {"odd_aspect", "grayscale"} and notes == []
    assert sum(len(one.groups) for one in found) <= 5


@pytest.mark.parametrize(
    ("kind", "values"),
    [("dark", {"brightest": 0.1}), ("bright", {"darkest": 0.99}), ("blurred", {"edges": 3.0}),
     ("tiny", {"width": 20, "height": 20}), ("blank", {"span": 2.0})],
)  # fmt: skip
def test_a_fault_that_more_than_a_quarter_have_is_listed(kind: str, values: dict[str, float]):
    usual = table(40)
    columns = {name: [value] * 12 + usual[name].tolist()[12:] for name, value in values.items()}
    found, notes = faults.found(table(40, **columns))
    assert [(one.kind, len(one.groups)) for one in found] == [(kind, 12)]
    assert len(notes) == 1 and notes[0].startswith("12 of 40 images")
    assert "each is listed" in notes[0]


def test_what_most_images_have_is_said_once_and_no_fault():
    found, notes = faults.found(table(40, darkest=[0.99] * 30 + [0.2] * 10))
    assert found == []
    assert notes == [
        "30 of 40 images are very bright: so they are here, and none is listed for it."
    ]


def test_blank_images_are_listed_however_many_they_are():
    found, _ = faults.found(table(40, span=[2.0] * 30 + [150.0] * 10))
    assert [(one.kind, len(one.groups)) for one in found] == [("blank", 30)]


def test_gray_that_is_spread_over_the_classes_is_no_fault():
    found, notes = faults.found(table(40, color=[0.0] * 30 + [60.0] * 10))
    assert found == []
    assert notes == ["30 of 40 images are gray: so they are here, and none is listed for it."]
    assert faults.found(table(40, color=0.0))[0] == []


def test_gray_that_gathers_in_a_class_is_listed():
    found, _ = faults.found(table(40, color=[0.0, 60.0] * 20))
    (gray,) = found
    assert gray.kind == "grayscale"
    assert {name for group in gray.groups for name in group.names} == {
        f"{k}.jpg" for k in range(0, 40, 2)
    }


def test_an_image_that_can_no_longer_be_read_is_said():
    found, notes = faults.found(table(40, readable=[True] * 39 + [False]))
    assert found == []
    assert notes == ["1 images can no longer be read, such as 39.jpg."]


def test_a_white_page_with_writing_is_bright_and_not_blank():
    page = Image.new("RGB", (400, 300), "white")
    page.paste((0, 0, 0), (190, 140, 214, 164))
    measured = dict(zip(looks.COLUMNS[2:-1], looks.numbers(page), strict=True))
    row = table(1, label="a", **measured)
    assert [one.kind for one in faults.found(row)[0]] == ["bright", "grayscale"]


def test_the_camera_is_read_from_exif_and_broken_exif_says_nothing():
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Acme", "One\0"
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG", exif=exif)
    assert looks.camera_of(images.opened(buffer.getvalue())) == "Acme One"
    broken = buffer.getvalue().replace(b"MM\0*", b"MM\0\0").replace(b"II*\0", b"II\0\0")
    assert looks.camera_of(images.opened(broken)) == ""


def test_copies_on_two_sides_of_the_split_leak_and_the_best_comes_first():
    rows = table(4, bytes=[10, 30, 20, 5], sha256=["s0", "s1", "s2", "s2"])
    rows.loc[1, "width"] = 1280
    near = np.array(["g", "g", "h", "h"])
    parts = np.array(["train", "test", "val", "val"])
    found = {one.kind: one.groups for one in duplicates.found(rows, near, parts)}
    assert [group.names for group in found["leak"]] == [("1.jpg", "0.jpg")]
    assert found["leak"][0].about == "1 in test, 1 in train"
    assert [group.names for group in found["near_duplicate"]] == [("1.jpg", "0.jpg")]
    assert [group.names for group in found["exact_duplicate"]] == [("2.jpg", "3.jpg")]
    assert len(found["contradiction"]) == 2
    assert findings.suggestion("near_duplicate", found["near_duplicate"][0]) is None


# --- what later revisions show

NAMES = ["ants/00.jpg", "ants/01.jpg", "bees/00.jpg", "bees/01.jpg"]
MADE = (
    Finding("exact_duplicate", (Group(tuple(NAMES[:2]), "2 in ants"),)),
    Finding("label_error", (Group((NAMES[2],), "odd", to="ants", near=(NAMES[0],)),)),
    Finding("dark", (Group((NAMES[2],)), Group((NAMES[3],)))),
)


@pytest.fixture
def audited(trained: Trained, tmp_path: Path) -> str:
    shutil.copytree(trained.home / "datasets", tmp_path / "home" / "datasets")
    dataset = trained.dataset
    made = Findings(dataset.id, 1, dataset.digest, MADE, ("a note",), (), 24, 1.5)
    findings.save(tmp_path / "home" / "datasets" / dataset.id, made)
    return dataset.id


def after(dataset_id: str, **action: object) -> Findings:
    found = findings.load(journal.record(dataset_id, action))
    assert found is not None
    return found


def test_findings_come_back_from_the_disk_as_they_were(audited: str):
    found = after(audited, action="keep", kind="blank", names=NAMES[:1])
    assert found.findings == MADE and found.notes == ("a note",) and found.fresh


def test_what_was_found_fine_is_not_shown_again(audited: str):
    found = after(audited, action="keep", kind="dark", names=[NAMES[2]])
    assert [group.names for group in found.of("dark")] == [(NAMES[3],)]
    assert found.of("label_error") and found.fresh


def test_of_two_copies_one_that_is_left_is_no_finding(audited: str):
    found = after(audited, action="exclude", names=[NAMES[1]])
    assert not found.of("exact_duplicate") and not found.fresh


def test_a_label_that_was_changed_is_no_longer_doubted(audited: str):
    found = after(audited, action="relabel", names=[NAMES[2]], to="ants")
    assert not found.of("label_error") and len(found.of("dark")) == 2


def test_each_image_can_be_marked_with_its_findings(audited: str):
    found = after(audited, action="keep", kind="blank", names=NAMES[:1])
    assert findings.marks(found, [NAMES[2], NAMES[0], "other.jpg"]) == [
        "Probably a wrong label; Too dark", "Exact copies", "",
    ]  # fmt: skip
    assert findings.marks(None, ["other.jpg"]) == [""]
