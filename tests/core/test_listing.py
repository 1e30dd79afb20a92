from __future__ import annotations

import pytest

from core.auditing import findings as audits
from core.auditing.findings import Finding, Findings, Group
from core.data import dataset as datasets
from core.data import importing, journal, split
from core.data.dataset import Dataset
from core.schema import Recipe
from core.serving import listing


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=8)))


def test_images_are_listed_class_by_class(insects: Dataset):
    assert listing.named(insects, [], "") == sorted(insects.table["name"])
    chosen = listing.named(insects, ["wasps", "ants"], "")
    assert {name.split("/")[0] for name in chosen[:8]} == {"ants"}
    assert len(chosen) == 16


def test_the_parts_listed_are_those_that_a_usual_training_has(insects: Dataset):
    usual = Recipe()
    parts = split.split(insects, usual.data.split, usual.seed)
    for part in split.PARTS:
        expected = set(insects.table["name"][parts == part])
        assert set(listing.named(insects, [], part)) == expected
    assert set(listing.named(insects, ["bees"], "test")) < set(listing.named(insects, [], "test"))


def test_items_come_in_the_order_asked_and_without_those_that_are_not_there(insects: Dataset):
    names = ["wasps/3.jpg", "no such", "ants/1.jpg"]
    found = listing.items(insects, names)
    assert [one["id"] for one in found] == ["wasps/3.jpg", "ants/1.jpg"]
    assert [one["title"] for one in found] == ["wasps", "ants"]
    assert "64 × 48 pixels, JPEG" in found[0]["facts"]


def test_every_image_of_the_grid_lies_where_its_hash_says(insects: Dataset, class_photos):
    photos = class_photos("ants", "bees", "wasps", each=8)
    for one in listing.items(insects, list(photos)):
        digest = one["src"].rpartition("/")[2]
        assert insects.path_of(digest).read_bytes() == photos[one["id"]]


def audited(dataset: Dataset, *found: Finding) -> Dataset:
    """The dataset after an audit that found this."""
    audits.save(dataset.folder, Findings(dataset.id, dataset.revision, dataset.digest, found))
    return dataset


@pytest.fixture
def looked_through(insects: Dataset) -> Dataset:
    near = ("bees/0.jpg", "bees/1.jpg")
    return audited(
        insects,
        Finding("label_error", (
            Group(("ants/1.jpg",), "labelled ants, looks like bees", "bees", near),
            Group(("wasps/2.jpg",), "labelled wasps, looks like bees", "bees", near),
        )),
        Finding("exact_duplicate", (
            Group(("ants/0.jpg", "ants/2.jpg", "ants/3.jpg"), "three times"),
            Group(("bees/5.jpg", "wasps/5.jpg"), "twice", mixed=True),
        )),
        Finding("dark", (Group(("ants/5.jpg",), "brightness 9 of 255"), Group(("ants/6.jpg",)))),
    )  # fmt: skip


def test_a_probable_label_error_stands_beside_what_it_is_compared_with(looked_through: Dataset):
    found = listing.of_finding(looked_through, "label_error")
    assert found.names[:3] == ["ants/1.jpg", "bees/0.jpg", "bees/1.jpg"]
    assert [group["size"] for group in found.groups] == [3, 3]
    # What is there to be compared with only cannot be selected.
    assert found.choosable == ["ants/1.jpg", None, None, "wasps/2.jpg", None, None]
    items = listing.items(looked_through, found.names, found.about)
    assert [one.get("probable") for one in items[:2]] == ["bees", None]
    assert [bool(one.get("aside")) for one in items[:2]] == [False, True]


def test_what_one_click_does_with_a_group_is_a_correction_that_the_journal_takes(
    looked_through: Dataset,
):
    for kind in ("label_error", "exact_duplicate"):
        for group in listing.of_finding(looked_through, kind).groups:
            for offer in group["offers"]:
                values = {"action": offer["action"], "names": offer["names"], "kind": kind}
                after = journal.record(looked_through.id, {**values, "to": offer["label"]})
                assert after.revision == datasets.load(looked_through.id).revision
                journal.record(looked_through.id, {"action": "undo"})
    titles = [
        [offer["title"] for offer in group["offers"]]
        for kind in ("label_error", "exact_duplicate")
        for group in listing.of_finding(looked_through, kind).groups
    ]
    # Where copies are of different classes, nobody can know which one to keep.
    assert titles == [["Relabel to bees", "Keep"]] * 2 + [["Exclude 2", "Keep"], ["Keep"]]


def test_images_that_stand_alone_are_one_list_with_what_was_measured(looked_through: Dataset):
    found = listing.of_finding(looked_through, "dark")
    assert [group["size"] for group in found.groups] == [2]
    assert listing.items(looked_through, found.names, found.about)[0]["caption"] == (
        "brightness 9 of 255"
    )
    assert listing.suggested(looked_through, "dark") == ["ants/5.jpg", "ants/6.jpg"]
    assert listing.suggested(looked_through, "exact_duplicate") == ["ants/2.jpg", "ants/3.jpg"]
    assert listing.suggested(looked_through, "label_error") == []


def test_what_was_put_right_is_not_listed_in_the_next_revision(looked_through: Dataset):
    after = journal.record(looked_through.id, {"action": "exclude", "names": ["ants/5.jpg"]})
    assert listing.of_finding(after, "dark").names == ["ants/6.jpg"]
    assert listing.of_finding(looked_through, "dark").names == ["ants/5.jpg", "ants/6.jpg"]


def test_a_newer_audit_of_the_same_revision_is_noticed(insects: Dataset):
    assert listing.of_finding(insects, "dark").names == []
    audited(insects, Finding("dark", (Group(("ants/0.jpg",)),)))
    assert listing.of_finding(insects, "dark").names == ["ants/0.jpg"]


def test_excluded_images_are_listed_apart(insects: Dataset):
    after = journal.record(insects.id, {"action": "exclude", "names": ["bees/3.jpg"]})
    assert listing.named(after, [], "excluded") == ["bees/3.jpg"]
    assert len(listing.named(after, [], "")) == 23
    assert [one["title"] for one in listing.items(after, ["bees/3.jpg"])] == ["bees"]
