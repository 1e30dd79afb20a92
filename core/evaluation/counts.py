"""Figures that depend on the confusion matrix alone, of one matrix or of a thousand drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.machine import late_numpy as np

BOOTSTRAPS = 1000
# Images added to each class in a drawing.
DOUBT = 0.5


@dataclass(frozen=True)
class Counts:
    """What such figures need of one or of many matrices.

    hits, guesses: …×C float64, the images of each class that were classified as it, and all that
    were. truths: C float64, the images of each class; the same in all of them.
    """

    hits: np.ndarray
    guesses: np.ndarray
    truths: np.ndarray


Measure = Callable[[Counts], "np.ndarray"]


def of(confusion: np.ndarray) -> Counts:
    """The counts of one confusion matrix C×C."""
    matrix = confusion.astype(float)
    return Counts(np.diagonal(matrix).copy(), matrix.sum(axis=0), matrix.sum(axis=1))


def drawn(confusion: np.ndarray, seed: int = 0) -> Counts:
    """The counts of 1,000 matrices, the images of each class drawn anew: a stratified bootstrap.

    Such figures depend on counts alone, so that each row of the matrix is drawn at once (Efron and
    Tibshirani 1993) instead of its images one by one. Half an image more in each row, spread as the
    predictions of all are, keeps classes that are all right from seeming certain.
    """
    rng = np.random.default_rng(seed)
    found = of(confusion)
    n_classes, n = len(confusion), found.truths.sum()
    hits, guesses = np.zeros((2, BOOTSTRAPS, n_classes))
    beside = found.guesses / max(n, 1)
    for number in np.flatnonzero(found.truths):
        images = int(found.truths[number])
        shares = confusion[number] + DOUBT * beside
        row = rng.multinomial(images, shares / shares.sum(), size=BOOTSTRAPS)
        hits[:, number] = row[:, number]
        guesses += row
    return Counts(hits, guesses, found.truths)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Shares that are 0 where there is nothing to have a share of."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.asarray(np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0))


def precision(counts: Counts) -> np.ndarray:
    """Of each class: …×C."""
    return share(counts.hits, counts.guesses)


def recall(counts: Counts) -> np.ndarray:
    """Of each class: …×C."""
    return share(counts.hits, counts.truths)


def f1(counts: Counts) -> np.ndarray:
    """Of each class: …×C."""
    return share(2 * counts.hits, counts.truths + counts.guesses)


def macro(of_classes: Measure) -> Measure:
    """The mean over the classes that occur, as truth or as prediction."""

    def measure(counts: Counts) -> np.ndarray:
        occurring = (counts.truths + counts.guesses > 0).sum(axis=-1)
        return share(of_classes(counts).sum(axis=-1), occurring)

    return measure


MACRO_F1 = macro(f1)


def weighted(of_classes: Measure) -> Measure:
    """The mean over the classes, each weighed by its images."""

    def measure(counts: Counts) -> np.ndarray:
        return share((of_classes(counts) * counts.truths).sum(axis=-1), counts.truths.sum())

    return measure


def balanced_accuracy(counts: Counts) -> np.ndarray:
    """The mean recall of the classes that have images."""
    return share(recall(counts).sum(axis=-1), (counts.truths > 0).sum())


def matthews(counts: Counts) -> np.ndarray:
    """Matthews' correlation of truth and prediction, −1 to 1 (Gorodkin 2004).

    0 where one of them never varies.
    """
    n = counts.truths.sum()
    together = counts.hits.sum(axis=-1) * n - (counts.truths * counts.guesses).sum(axis=-1)
    of_truth = n**2 - (counts.truths**2).sum()
    of_guess = n**2 - (counts.guesses**2).sum(axis=-1)
    spread = np.sqrt(of_truth * of_guess)
    defined = spread > 0
    return np.asarray(np.divide(together, spread, out=np.zeros(together.shape), where=defined))


def kappa(counts: Counts) -> np.ndarray:
    """Agreement beyond chance (Cohen 1960); NaN where chance alone agrees always."""
    n = counts.truths.sum()
    chance = (counts.truths * counts.guesses).sum(axis=-1) / n**2
    beyond = counts.hits.sum(axis=-1) / n - chance
    undefined = np.full(beyond.shape, np.nan)
    return np.asarray(np.divide(beyond, 1 - chance, out=undefined, where=chance < 1))
