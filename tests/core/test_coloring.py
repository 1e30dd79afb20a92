from __future__ import annotations

import numpy as np
import pytest

from core.auditing import findings as audits
from core.auditing.findings import Finding, Findings, Group
from core.data import importing
from core.data.dataset import Dataset
from core.evaluation import scores as scoring
from core.serving.coloring import COLORINGS, NOT_SCORED, NOTHING_FOUND


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", each=8)))


def words(key: str, dataset: Dataset, names: list[str], predictions=None) -> list[str]:
    return COLORINGS[key].of(dataset, names, predictions)


def test_every_coloring_says_a_word_of_each_image_in_the_order_asked(insects: Dataset):
    names = ["bees/7.jpg", "ants/0.jpg", "bees/0.jpg"]
    assert words("class", insects, names) == ["bees", "ants", "bees"]
    all_names = list(insects.table["name"])
    assert set(words("split", insects, all_names)) == {"training", "validation", "test"}
    for key in COLORINGS:
        assert len(words(key, insects, names)) == 3


def test_an_image_has_the_color_of_the_first_finding_it_is_in(insects: Dataset):
    found = (
        Finding("label_error", (Group(("ants/0.jpg",), "", "bees"),)),
        Finding("dark", (Group(("ants/0.jpg",)), Group(("ants/1.jpg",)))),
    )
    audits.save(insects.folder, Findings(insects.id, 1, insects.digest, found))
    told = words("finding", insects, ["ants/0.jpg", "ants/1.jpg", "ants/2.jpg"])
    assert told == ["Probably a wrong label", "Too dark", NOTHING_FOUND]


def test_errors_are_those_of_the_run_and_what_it_did_not_see_is_said(insects: Dataset, tmp_path):
    scores = scoring.Scores(
        np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32), np.array([0, 1]),
        np.array(["ants/0.jpg", "bees/0.jpg"]), np.array(["test", "train"]),
    )  # fmt: skip
    path = tmp_path / "predictions.parquet"
    scoring.save(scores, path)
    told = words("error", insects, ["ants/0.jpg", "bees/0.jpg", "bees/1.jpg"], path)
    assert told == ["right (test)", "wrong (training)", NOT_SCORED]
    assert words("error", insects, ["ants/0.jpg"]) == [NOT_SCORED]
