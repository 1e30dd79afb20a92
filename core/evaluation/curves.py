"""ROC and precision–recall curves, the areas below them, and how much each image moves those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.evaluation.intervals import Figure, of_spread, variance
from core.evaluation.scores import Scores
from core.machine import late_numpy as np


@dataclass(frozen=True)
class Ranked:
    """N images by their score for one yes-or-no question; those of one score are one step.

    thresholds: M float, the scores, highest first. found, alarms: M float64, images of yes and of
    no that score as high or higher. step: N int64, each image's place in those. truth: N bool.
    """

    thresholds: np.ndarray
    found: np.ndarray
    alarms: np.ndarray
    step: np.ndarray
    truth: np.ndarray

    @property
    def positives(self) -> float:
        """Images of yes."""
        return float(self.found[-1])

    @property
    def negatives(self) -> float:
        """Images of no."""
        return float(self.alarms[-1])


def ranked(truth: np.ndarray, score: np.ndarray) -> Ranked | None:
    """The images of one question in order; None where all answers are the same.

    truth: N bool. score: N float, higher for yes. Ties are one step (Fawcett 2006).
    """
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-score)
    rising = np.r_[True, np.diff(score[order]) != 0]
    ends = np.r_[np.flatnonzero(rising)[1:], len(score)] - 1
    found = np.cumsum(truth[order], dtype=float)[ends]
    step = np.empty(len(score), dtype=np.int64)
    step[order] = np.cumsum(rising) - 1
    return Ranked(score[order[ends]], found, ends + 1 - found, step, truth)


def auc(ranks: Ranked) -> tuple[float, np.ndarray]:
    """The area below the ROC curve, and by how much each image moves it: N float64.

    An image's own area is the share of the other side that lies on its right side (DeLong et al.
    1988), ties counting half.
    """
    before = np.r_[0, ranks.alarms[:-1]], np.r_[0, ranks.found[:-1]]
    below = 1 - (ranks.alarms + before[0]) / (2 * ranks.negatives)
    above = (ranks.found + before[1]) / (2 * ranks.positives)
    new = np.diff(ranks.found, prepend=0)
    area = float((new * below).sum() / ranks.positives)
    moves = np.where(
        ranks.truth,
        (below[ranks.step] - area) / ranks.positives,
        (above[ranks.step] - area) / ranks.negatives,
    )
    return area, moves


def average_precision(ranks: Ranked) -> tuple[float, np.ndarray]:
    """The mean precision over the images of yes, and by how much each image moves it: N float64.

    Without interpolation between thresholds, as in scikit-learn.
    """
    chosen = ranks.found + ranks.alarms
    precision = ranks.found / chosen
    new = np.diff(ranks.found, prepend=0) / ranks.positives
    area = float((new * precision).sum())
    # One more image changes the precision at its own threshold and at all lower ones.
    gain = lower(new * ranks.alarms / chosen**2)
    loss = lower(new * ranks.found / chosen**2)
    moves = np.where(
        ranks.truth,
        (precision[ranks.step] - area) / ranks.positives + gain[ranks.step],
        -loss[ranks.step],
    )
    return area, moves


def lower(values: np.ndarray) -> np.ndarray:
    """The sum of each value and all that follow it."""
    return np.asarray(np.cumsum(values[::-1])[::-1])


MICRO = "all classes as one"
AREAS = {"auc": auc, "average_precision": average_precision}


@dataclass(frozen=True)
class Areas:
    """One kind of area: of each class (None where it has none), their mean, and of all as one."""

    classes: list[Figure | None]
    macro: Figure | None
    micro: Figure | None


@dataclass(frozen=True)
class Ranks:
    """The images in the order of each class's probability, and all of these questions as one."""

    classes: list[Ranked | None]
    together: Ranked | None


def ranks(scores: Scores) -> Ranks:
    """The images of N×C scores in order, each class against the rest."""
    truth = np.arange(scores.probabilities.shape[1]) == scores.labels[:, None]
    classes = [
        ranked(yes, score) for yes, score in zip(truth.T, scores.probabilities.T, strict=True)
    ]
    return Ranks(classes, ranked(truth.ravel(), scores.probabilities.ravel()))


def areas(scores: Scores, found: Ranks) -> dict[str, Areas]:
    """The areas of every kind of `AREAS`."""
    return {kind: areas_of(scores, kind, found) for kind in AREAS}


def areas_of(scores: Scores, kind: str, found: Ranks) -> Areas:
    """The areas of one kind, each with its interval."""
    measure, n = AREAS[kind], len(scores)
    classes: list[Figure | None] = []
    values: list[float] = []
    moves = np.zeros(n)
    for one in found.classes:
        if one is None:
            classes.append(None)
            continue
        area, moved = measure(one)
        smaller = min(one.positives, one.negatives)
        classes.append(of_spread(area, variance(moved, scores.labels), n, least=smaller))
        values.append(area)
        moves += moved
    if not values or found.together is None:
        return Areas(classes, None, None)
    mean = of_spread(float(np.mean(values)), variance(moves / len(values), scores.labels), n)
    area, moved = measure(found.together)
    by_image = moved.reshape(scores.probabilities.shape).sum(axis=1)
    return Areas(classes, mean, of_spread(area, variance(by_image, scores.labels), n))


@dataclass(frozen=True)
class Curve:
    """A curve to be drawn: M float64 each; and the area below it."""

    title: str
    x: np.ndarray
    y: np.ndarray
    area: float
    average: bool = False


def thinned(curve: Curve, most: int = 500) -> Curve:
    """The points of a curve that a chart needs: where it turns, at most about `most`."""
    level = (np.diff(curve.x) == 0, np.diff(curve.y) == 0)
    # A point between two steps of the same direction, along either axis, is on the line.
    inside = (level[0][:-1] & level[0][1:]) | (level[1][:-1] & level[1][1:])
    kept = np.flatnonzero(np.r_[True, ~inside, True])
    kept = np.unique(np.r_[0, kept[:: max(1, len(kept) // most)], len(curve.x) - 1])
    return replace(curve, x=curve.x[kept].round(5), y=curve.y[kept].round(5))


def roc(ranks: Ranked, title: str, *, average: bool = False) -> Curve:
    """The rates of true positives over those of false ones, from nothing chosen to everything."""
    x, y = ranks.alarms / ranks.negatives, ranks.found / ranks.positives
    return Curve(title, np.r_[0, x], np.r_[0, y], auc(ranks)[0], average)


def precision_recall(ranks: Ranked, title: str, *, average: bool = False) -> Curve:
    """Precision over recall, from the highest threshold to the lowest."""
    recall, precision = ranks.found / ranks.positives, ranks.found / (ranks.found + ranks.alarms)
    x, y = np.r_[0, recall], np.r_[precision[0], precision]
    return Curve(title, x, y, average_precision(ranks)[0], average)


CURVES = {"ROC": roc, "Precision and recall": precision_recall}


def drawn(kind: str, found: Ranks, classes: Sequence[str]) -> list[Curve]:
    """The curves of a kind: of each class that has one, then of all classes as one."""
    draw = CURVES[kind]
    curves = [
        draw(one, name) for one, name in zip(found.classes, classes, strict=True) if one is not None
    ]
    if not curves or found.together is None:
        return []
    return [*curves, draw(found.together, MICRO, average=True)]
