"""How often a 95 % interval holds the truth, over simulated test sets whose truth is known.

A simulated classifier gives normal logits, one of them raised for the true class. The truth is its
figures over so many images that they hardly move; each test set takes as many images of each class
as a split does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation import curves, metrics
from core.evaluation.intervals import Figure
from core.evaluation.scores import Scores, softmax

TOLD = ("accuracy", "macro_f1", "auc")
POPULATION = 400_000


@dataclass(frozen=True)
class Case:
    """A kind of test set: its images by class, and by how much the true class's logit is raised."""

    name: str
    images: tuple[int, ...]
    raised: float


CASES = (
    Case("2 classes, 150 images", (75, 75), 1.8),
    Case("2 classes, 60 images, nearly all right", (30, 30), 2.6),
    Case("5 classes, 300 images", (60,) * 5, 2.4),
    Case("3 classes, 100 images, hardly any wrong", (40, 40, 20), 4.5),
    Case(
        "10 classes, 310 images, the rarest 10", (80, 60, 45, 35, 25, 20, 15, 10, 10, 10), 2.8
    ),
)  # fmt: skip


def report(repeat: int = 1000) -> Iterator[dict[str, Any]]:
    """One line for each case: the share of intervals that hold the truth, by figure."""
    for number, case in enumerate(CASES):
        yield {"measure": "coverage", "test_sets": repeat, "case": case.name} | covered(
            case, repeat, np.random.default_rng(number)
        )


def covered(case: Case, repeat: int, rng: np.random.Generator) -> dict[str, float]:
    """The share of test sets whose interval holds the truth, and the truth, by figure."""
    times = POPULATION // sum(case.images)
    everything = drawn(case, times, rng)
    truth = {name: figure.value for name, figure in told(everything).items()}
    starts = np.cumsum([0, *case.images]) * times
    held = dict.fromkeys(TOLD, 0)
    for _ in range(repeat):
        chosen = np.concatenate(
            [rng.integers(starts[k], starts[k + 1], n) for k, n in enumerate(case.images)]
        )
        for name, figure in told(everything.chosen(chosen)).items():
            value, low, high = truth[name], figure.low, figure.high
            assert value is not None and low is not None and high is not None
            held[name] += low <= value <= high
    shares = {name: round(count / repeat, 3) for name, count in held.items()}
    return shares | {f"true_{name}": round(float(truth[name] or 0), 3) for name in TOLD}


def drawn(case: Case, times: int, rng: np.random.Generator) -> Scores:
    """Simulated scores of `times` as many images as a test set has."""
    labels = np.repeat(np.arange(len(case.images)), np.multiply(case.images, times))
    logits = rng.normal(size=(len(labels), len(case.images)))
    logits[np.arange(len(labels)), labels] += case.raised
    names = np.arange(len(labels)).astype(object)
    return Scores(softmax(logits), labels, names, np.full(len(labels), "test", dtype=object))


def told(scores: Scores) -> dict[str, Figure]:
    """The figures whose intervals are looked at."""
    matrix = metrics.confusion(scores.labels, scores.predicted, scores.probabilities.shape[1])
    auc = curves.areas_of(scores, "auc", curves.ranks(scores)).macro
    assert auc is not None
    return {
        "accuracy": metrics.accuracy(scores),
        "macro_f1": metrics.of_counts(matrix)["macro_f1"],
        "auc": auc,
    }
