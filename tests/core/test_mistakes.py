"""The order in which mistakes are shown."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import NotFound
from core.evaluation import mistakes
from core.evaluation.scores import Scores, softmax

CLASSES = ("ant", "bee", "wasp")


@pytest.fixture
def scores() -> Scores:
    logits = np.array(
        [[1.0, 0, 0], [5, 0, 4], [0, 3, 0], [2, 0, 0], [0, 9, 0], [0, 0, 3], [9, 8.9, 0]]
    )
    labels = np.array([1, 1, 1, 1, 0, 0, 0])
    names = np.array([f"{k}.jpg" for k in range(7)], dtype=object)
    return Scores(softmax(logits), labels, names, np.full(7, "test", dtype=object))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("sure", [4, 5, 3, 1, 0]),
        ("loss", [4, 1, 5, 3, 0]),
        ("pair", [3, 1, 0, 4, 5]),  # Three bees as ants, then an ant as a bee, one as a wasp.
    ],
)
def test_mistakes_alone_in_their_order(scores, order, expected):
    assert mistakes.positions(scores, CLASSES, None, None, order).tolist() == expected


def test_a_row_holds_all_images_of_its_class(scores):
    assert sorted(mistakes.positions(scores, CLASSES, "ant", None)) == [4, 5, 6]
    assert sorted(mistakes.positions(scores, CLASSES, None, "ant")) == [0, 1, 3, 6]
    assert mistakes.positions(scores, CLASSES, "ant", "ant").tolist() == [6]


def test_an_unknown_class_is_refused(scores):
    with pytest.raises(NotFound, match="hornet"):
        mistakes.positions(scores, CLASSES, "hornet", None)
