"""Operating points: who is given what, at which cost, and that they are kept."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import RecipeRefused
from core.evaluation import thresholds
from core.evaluation.scores import Scores, softmax

CLASSES = ("ant", "bee", "wasp")
SAID = np.array([[0.6, 0.3, 0.1], [0.45, 0.3, 0.25], [0.1, 0.2, 0.7], [0.5, 0.15, 0.35]])


def scored(n: int = 400, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += 1
    names = np.arange(n).astype(object)
    return Scores(softmax(logits), labels, names, np.full(n, "val", dtype=object))


@pytest.mark.parametrize(
    ("limits", "given"),
    [
        ({}, [0, 0, 2, 0]),
        ({"wasp": 0.2}, [0, 2, 2, 2]),  # Said early.
        ({"wasp": 0.8}, [0, 0, 1, 0]),  # Said late: the next likeliest instead.
        ({"wasp": 0.2, "bee": 0.1}, [1, 1, 2, 2]),  # What exceeds its own most.
        ({"ant": 0.9, "bee": 0.9, "wasp": 0.9}, [0, 0, 2, 0]),  # None reaches: the likeliest.
    ],
)
def test_thresholds_decide(limits, given):
    assert thresholds.decided(SAID, CLASSES, limits).tolist() == given


def test_point_counts_misses_and_alarms():
    labels, given = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 0, 1, 2])
    found = thresholds.point(labels, given, 0)
    assert (found.misses, found.alarms) == (1, 1)
    assert found.recall.value == pytest.approx(2 / 3)
    assert found.precision.value == pytest.approx(2 / 3)
    assert found.false_alarms.value == pytest.approx(1 / 3)


@pytest.mark.parametrize(("miss", "alarm"), [(1, 1), (10, 1), (1, 10)])
def test_cheapest_is_no_dearer_than_any_other_threshold(miss, alarm):
    scores = scored()
    truth, said = scores.labels == 1, scores.probabilities[:, 1]

    def cost(limit: float) -> float:
        chosen = said >= limit
        return miss * (truth & ~chosen).sum() + alarm * (chosen & ~truth).sum()

    best = thresholds.cheapest(scores, 1, miss, alarm)
    assert cost(best) == min(cost(limit) for limit in np.linspace(0, 1, 1001))


def test_a_costly_miss_lowers_and_a_costly_alarm_raises_it():
    found = [thresholds.cheapest(scored(), 1, *costs) for costs in ((10, 1), (1, 1), (1, 10))]
    assert found == sorted(found)
    assert found[0] < 0.3 < found[2]


def test_a_class_without_images_has_no_cheapest():
    scores = scored()
    assert thresholds.cheapest(scores.chosen(scores.labels != 1), 1, 1, 1) is None


def test_thresholds_are_kept_and_wrong_ones_refused(tmp_path):
    assert thresholds.kept(tmp_path) == {}
    thresholds.keep(tmp_path, CLASSES, {"bee": 0.25})
    for wrong in ({"hornet": 0.5}, {"bee": 0.0}, {"bee": 1.0}, {"bee": float("nan")}):
        with pytest.raises(RecipeRefused):
            thresholds.keep(tmp_path, CLASSES, wrong)
    assert thresholds.kept(tmp_path) == {"bee": 0.25}


def test_by_cost_refuses_what_validation_images_cannot_tell():
    scores = scored()
    assert 0.001 <= thresholds.by_cost(scores, CLASSES, "bee", 2, 1) <= 0.999
    for chosen, name, miss in ((scores, "hornet", 1), (scores.part("test"), "bee", 1)):
        with pytest.raises(RecipeRefused):
            thresholds.by_cost(chosen, CLASSES, name, miss, 1)
    with pytest.raises(RecipeRefused, match="no error costs"):
        thresholds.by_cost(scores, CLASSES, "bee", 0, 0)
