from __future__ import annotations

import pytest

from core.data import importing, journal
from core.data.dataset import Dataset
from core.errors import NotFound


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=3)), "Insects")


def corrected(found: Dataset, *actions: dict) -> Dataset:
    for action in actions:
        found = journal.record(found.id, action)
    return found


def rows(found: Dataset, former: int, later: int) -> set[tuple[str, str, str, str]]:
    compared = journal.compare(found.id, former, later)
    return {(r["change"], r["image"], r["from"], r["to"]) for r in compared.rows}


RELABEL = {"action": "relabel", "names": ["ants/0.jpg"], "to": "bees"}
EXCLUDE = {"action": "exclude", "names": ["ants/1.jpg", "bees/1.jpg"]}
RENAME = {"action": "rename", "from": "wasps", "to": "Wasps"}


def test_each_difference_is_one_row(insects: Dataset):
    corrected(insects, RELABEL, EXCLUDE, RENAME)
    assert rows(insects, 1, 4) == {
        ("relabelled", "ants/0.jpg", "ants", "bees"),
        ("removed", "ants/1.jpg", "ants", ""),
        ("removed", "bees/1.jpg", "bees", ""),
        ("renamed", "", "wasps", "Wasps"),
    }
    assert journal.compare(insects.id, 1, 4).sentence == (
        "From revision 1 to 4: 2 images removed, 1 image relabelled, class wasps renamed to Wasps."
    )


def test_seen_from_the_later_revision_everything_is_the_other_way_round(insects: Dataset):
    corrected(insects, RELABEL, EXCLUDE, RENAME)
    assert ("added", "ants/1.jpg", "", "ants") in rows(insects, 4, 1)
    assert ("renamed", "", "Wasps", "wasps") in rows(insects, 4, 1)
    assert len(rows(insects, 4, 1)) == 4


def test_an_image_relabelled_beside_a_renaming_is_told_apart(insects: Dataset):
    move = {"action": "relabel", "names": ["wasps/0.jpg"], "to": "bees"}
    corrected(insects, move, RENAME)
    assert rows(insects, 1, 3) == {
        ("relabelled", "wasps/0.jpg", "wasps", "bees"),
        ("renamed", "", "wasps", "Wasps"),
    }


def test_a_merge_into_another_class_relabels(insects: Dataset):
    corrected(insects, {"action": "merge", "from": ["wasps"], "to": "bees"})
    assert {row[0] for row in rows(insects, 1, 2)} == {"relabelled"}
    assert len(rows(insects, 1, 2)) == 3


def test_a_new_split_moves_images(insects: Dataset):
    corrected(insects, {"action": "split", "shares": [0.4, 0.3, 0.3], "seed": 3})
    assert {row[0] for row in rows(insects, 1, 2)} == {"moved"}
    assert len(rows(insects, 1, 2)) == 9


def test_what_was_taken_back_differs_in_nothing(insects: Dataset):
    corrected(insects, RELABEL, {"action": "undo"})
    found = journal.compare(insects.id, 1, 3)
    assert found.rows == ()
    assert found.sentence == "From revision 1 to 3: nothing differs."


def test_a_revision_that_is_not_there_is_not_found(insects: Dataset):
    with pytest.raises(NotFound):
        journal.compare(insects.id, 1, 2)
