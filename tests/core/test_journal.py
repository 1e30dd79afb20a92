from __future__ import annotations

import pytest

from core.data import dataset, importing, journal
from core.data.dataset import Dataset
from core.errors import DatasetRefused, HeadstartError, NotFound, NotNow
from tests.conftest import make_photo


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=3)), "Insects")


def labels(found: Dataset) -> dict[str, str]:
    return dict(zip(found.table["name"], found.table["label"], strict=True))


def relabel(found: Dataset, *names: str, to: str, **others) -> Dataset:
    return journal.record(
        found.id, {"action": "relabel", "names": list(names), "to": to}, "Ada", **others
    )


def exclude(found: Dataset, *names: str) -> Dataset:
    return journal.record(found.id, {"action": "exclude", "names": list(names)}, "Ada")


def undo(found: Dataset, of: int | None = None) -> Dataset:
    return journal.record(found.id, {"action": "undo", "of": of}, "Ada")


def test_a_relabelled_image_is_in_its_new_class_in_a_new_revision(insects: Dataset):
    corrected = relabel(insects, "ants/0.jpg", to="bees")
    assert corrected.revision == 2
    assert labels(corrected) == {**labels(insects), "ants/0.jpg": "bees"}
    assert corrected.digest != insects.digest


def test_earlier_revisions_stay_as_they_were(insects: Dataset):
    relabel(insects, "ants/0.jpg", to="bees")
    exclude(insects, "wasps/0.jpg")
    dataset._load.cache_clear()
    first = dataset.load(insects.id, 1)
    assert first.table.equals(insects.table) and first.digest == insects.digest
    assert len(dataset.load(insects.id, 2).table) == 9
    assert len(dataset.load(insects.id).table) == 8


def test_an_undo_brings_back_the_same_content(insects: Dataset):
    relabel(insects, "ants/0.jpg", to="new class")
    back = undo(insects)
    assert back.revision == 3
    assert back.digest == insects.digest and back.classes == insects.classes


def test_an_undo_can_be_undone(insects: Dataset):
    corrected = relabel(insects, "ants/0.jpg", to="bees")
    undo(insects, 2)
    assert undo(insects, 3).digest == corrected.digest
    assert undo(insects, 4).digest == insects.digest


def test_the_list_of_datasets_shows_the_newest_revision(insects: Dataset):
    exclude(insects, "wasps/0.jpg", "wasps/1.jpg", "wasps/2.jpg")
    (facts,) = dataset.summaries()
    newest = dataset.load(insects.id)
    assert facts["revision"] == newest.revision == 2
    assert facts["digest"] == newest.digest
    assert facts["classes"] == list(newest.classes) == ["ants", "bees"]
    assert facts["images"] == len(newest.table) == 6


def test_importing_the_same_zip_again_finds_the_corrected_dataset(
    insects: Dataset, class_photos, make_zip
):
    corrected = relabel(insects, "ants/0.jpg", to="bees")
    again = importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=3)))
    assert (again.id, again.revision, again.digest) == (insects.id, 2, corrected.digest)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ({"action": "relabel", "names": ["ants/9.jpg"], "to": "bees"}, NotFound),
        ({"action": "relabel", "names": [], "to": "bees"}, DatasetRefused),
        ({"action": "relabel", "names": ["ants/0.jpg"], "to": " \n"}, DatasetRefused),
        ({"action": "relabel", "names": ["ants/0.jpg"], "to": "x" * 121}, DatasetRefused),
        ({"action": "relabel", "names": ["ants/0.jpg"], "to": "ants"}, NotNow),
        ({"action": "relabel", "names": ["ants/0.jpg"]}, DatasetRefused),
        ({"action": "include", "names": ["ants/0.jpg"]}, NotNow),
        ({"action": "undo"}, NotNow),
        ({"action": "undo", "of": 7}, NotFound),
        ({"action": "vanish"}, DatasetRefused),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    insects: Dataset, action: dict, kind: type[HeadstartError]
):
    with pytest.raises(kind):
        journal.record(insects.id, action)
    assert journal.lines(insects.id) == []
    assert dataset.load(insects.id).revision == 1


def test_a_correction_of_an_older_revision_than_the_newest_is_refused(insects: Dataset):
    relabel(insects, "ants/0.jpg", to="bees", expected_revision=1)
    with pytest.raises(NotNow, match="revision 2"):
        relabel(insects, "ants/1.jpg", to="bees", expected_revision=1)
    assert dataset.load(insects.id).revision == 2


@pytest.mark.parametrize("revision", [0, -1, 3])
def test_a_revision_that_is_not_there_is_not_found(insects: Dataset, revision: int):
    relabel(insects, "ants/0.jpg", to="bees")
    with pytest.raises(NotFound):
        dataset.load(insects.id, revision)


@pytest.mark.parametrize(("shares", "lacking"), [((0.8, 0.2, 0), "test"), ((0.8, 0, 0.2), "valid")])
def test_a_split_that_leaves_a_part_to_every_training_to_draw_is_not_saved(
    insects: Dataset, shares: tuple[float, ...], lacking: str
):
    for refused in (
        lambda: journal.record(insects.id, {"action": "split", "shares": list(shares)}),
        lambda: journal.proposed(insects, shares, 0),
    ):
        with pytest.raises(DatasetRefused, match=f"needs images for .*{lacking}"):
            refused()
    assert dataset.load(insects.id).revision == 1


def test_what_is_proposed_after_a_split_by_names_is_what_would_be_saved(make_zip):
    photos = {
        f"{label}/p{seed // 2}_{seed}.jpg": make_photo(seed, kind=kind)
        for kind, label in enumerate(("ants", "bees"))
        for seed in range(16)
    }
    found = importing.import_all(make_zip(photos))
    by_patient = journal.record(found.id, {"action": "split", "group_by": "before_"})
    usual = (0.7, 0.15, 0.15)
    parts, groups = journal.proposed(by_patient, usual, 5)
    saved = journal.record(found.id, {"action": "split", "shares": list(usual), "seed": 5}).table
    assert list(parts) == list(saved["part"])
    assert list(groups) == list(saved["group"])


def test_a_new_split_keeps_together_what_the_names_say(make_zip):
    photos = {
        f"{label}/p{seed // 2}_{seed}.jpg": make_photo(seed, kind=kind)
        for kind, label in enumerate(("ants", "bees"))
        for seed in range(16)
    }
    found = importing.import_all(make_zip(photos))
    by_patient = journal.record(found.id, {"action": "split", "group_by": "before_"}).table
    patients = by_patient["name"].str.extract(r"/(p\d+)_")[0]
    assert (by_patient.groupby(patients)["part"].nunique() == 1).all()
    assert by_patient["group"].nunique() == 8
    with pytest.raises(DatasetRefused, match="validation"):  # Two groups only: the classes.
        journal.record(found.id, {"action": "split", "group_by": "folder:1"})
    freed = journal.record(found.id, {"action": "split", "group_by": ""}).table
    assert set(freed["group"]) == {""}
