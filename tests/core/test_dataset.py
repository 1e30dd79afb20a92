from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.data import dataset, importing
from core.data.dataset import Dataset
from core.errors import NotFound


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("bees", "ants", "wasps", each=3)), "Insects")


def test_a_dataset_is_found_by_its_id_and_by_its_name(insects: Dataset):
    for found in (dataset.load(insects.id), dataset.find(insects.id), dataset.find("Insects")):
        assert found is not None and found.id == insects.id


def test_what_was_written_is_what_is_read(insects: Dataset):
    dataset._load.cache_clear()
    again = dataset.load(insects.id)
    assert again.table.equals(insects.table)
    assert again.digest == insects.digest == dataset.digest_of(again.table)
    assert list(again.table.columns) == list(dataset.COLUMNS)


def test_classes_are_sorted_and_labels_are_their_numbers(insects: Dataset):
    assert insects.classes == ("ants", "bees", "wasps")
    assert insects.labels.dtype == np.int64
    assert [insects.classes[number] for number in insects.labels] == list(insects.table["label"])


def test_the_table_is_sorted_by_unique_names(insects: Dataset):
    names = list(insects.table["name"])
    assert names == sorted(set(names))


@pytest.mark.parametrize("text", ["unknown", "../runs", "", "A/B", "x" * 100])
def test_what_is_not_there_is_not_found(insects: Dataset, text: str):
    with pytest.raises(NotFound):
        dataset.load(text)
    assert dataset.find(text) is None


def test_the_digest_is_of_the_content_not_of_its_order(insects: Dataset):
    shuffled = insects.table.sample(frac=1, random_state=0)
    assert dataset.digest_of(shuffled) == insects.digest


@pytest.mark.parametrize("column", ["name", "label", "part", "sha256"])
def test_the_digest_changes_with_every_fact_that_training_sees(insects: Dataset, column: str):
    table = insects.table.copy()
    table.loc[0, column] = "another"
    assert dataset.digest_of(table) != insects.digest


def test_datasets_are_listed_newest_first(insects: Dataset, class_photos, make_zip):
    newer = importing.import_all(make_zip(class_photos("cats", "dogs")), "Pets")
    assert [facts["name"] for facts in dataset.summaries()] == ["Pets", "Insects"]
    assert dataset.summaries()[0]["images"] == len(newer.table) == 8


def test_of_two_with_one_name_the_newest_is_found(insects: Dataset, class_photos, make_zip):
    newer = importing.import_all(make_zip(class_photos("cats", "dogs")), "Insects")
    found = dataset.find("Insects")
    assert found is not None and found.id == newer.id


def test_a_deleted_dataset_is_gone_with_its_images(insects: Dataset):
    dataset.delete(insects.id)
    assert not insects.folder.exists()
    assert dataset.summaries() == []
    with pytest.raises(NotFound):
        dataset.load(insects.id)


def test_without_a_home_there_are_no_datasets(home: Path):
    assert not home.exists()
    assert dataset.summaries() == []
