from __future__ import annotations

import pytest

from core.data import importing, split
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
