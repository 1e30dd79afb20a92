"""The confusion matrix as shares, in orders, and as pairs."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation import confusions

COUNTS = np.array([[8, 0, 2], [0, 5, 0], [3, 0, 7]])
CLASSES = ("ant", "bee", "wasp")


def test_classes_that_are_confused_stand_beside_each_other():
    order = confusions.by_likeness(COUNTS).tolist()
    assert sorted(order) == [0, 1, 2]
    assert abs(order.index(0) - order.index(2)) == 1


def test_pairs_of_confused_classes_are_found_again_when_shuffled():
    """Ten pairs, each confused with itself alone: in any order they end up side by side."""
    shuffled = np.random.default_rng(0).permutation(20)
    counts = np.kron(np.eye(10, dtype=int), [[6, 4], [4, 6]])[np.ix_(shuffled, shuffled)]
    order = shuffled[confusions.by_likeness(counts)]
    assert all(order[k] // 2 == order[k + 1] // 2 for k in range(0, 20, 2))


@pytest.mark.parametrize("n", [1, 2, 200])
def test_any_number_of_classes_has_an_order(n):
    counts = np.random.default_rng(0).poisson(0.3, (n, n)) + 5 * np.eye(n, dtype=int)
    counts[0] = 0  # A class without images.
    assert sorted(confusions.by_likeness(counts)) == list(range(n))


def test_shares_are_of_the_row_or_of_the_column():
    order = confusions.by_name(COUNTS)
    tables = {
        kind: confusions.table(COUNTS, CLASSES, kind, order).loc["ant", "wasp"]
        for kind in confusions.KINDS
    }
    assert tables == {
        "counts": 2,
        "shares of the true class": pytest.approx(0.2),
        "shares of the predicted class": pytest.approx(2 / 9),
    }


def test_pairs_are_the_most_confused_first():
    pairs = confusions.pairs(COUNTS, CLASSES)
    assert pairs["images"].tolist() == [3, 2]
    assert pairs.iloc[0][["true class", "classified as"]].tolist() == ["wasp", "ant"]
