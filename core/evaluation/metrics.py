"""Figures from scores, each with its n and its 95 % interval.

Where a figure has no value (no image of a class, no prediction of it) it is None, and who shows it
says so; precision of a class that is never predicted, and with it F1, counts as 0 in averages, as
in scikit-learn with `zero_division=0`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from core.evaluation.scores import Scores
from core.storage import Json

Z95 = 1.959963984540054
BOOTSTRAPS = 1000
# Smallest probability in a logarithm, as in scikit-learn's log_loss for float32.
SMALLEST = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Figure:
    """One value with its 95 % interval and the number of images it rests on."""

    value: float
    low: float
    high: float
    n: int


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts C×C int64: row is the true class, column the predicted one."""
    flat = np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
    return np.asarray(flat.reshape(n_classes, n_classes))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); no share is known from 0 images: (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    share = hits / n
    center = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def accuracy(scores: Scores) -> Figure:
    """Share of images whose most probable class is the true one; Wilson interval."""
    hits, n = int((scores.predicted == scores.labels).sum()), len(scores)
    return Figure(hits / n, *wilson(hits, n), n)


def f1_of(hits: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """F1 of each class, from correct images and from true plus predicted ones: both …×C."""
    return np.asarray(np.divide(2 * hits, sums, out=np.zeros_like(hits), where=sums > 0))


def mean_f1(hits: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that occur, as truth or as prediction: … ."""
    present = np.maximum((sums > 0).sum(axis=-1), 1)
    return np.asarray(f1_of(hits, sums).sum(axis=-1) / present)


def macro_of_counts(counts: np.ndarray) -> float:
    """Macro-F1 from confusion counts C×C."""
    return float(
        mean_f1(np.diagonal(counts).astype(float), counts.sum(axis=1) + counts.sum(axis=0))
    )


def macro_f1(scores: Scores, seed: int = 0) -> Figure:
    """Mean of the classes' F1, each class counting the same; stratified bootstrap interval.

    F1 depends on counts alone, so that each bootstrap draws every true class's row of the
    confusion matrix anew (Efron and Tibshirani 1993) instead of images one by one.
    """
    counts = confusion(scores.labels, scores.predicted, scores.probabilities.shape[1])
    rng = np.random.default_rng(seed)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    # Row by row: what F1 needs is hits and column sums, never a thousand whole matrices.
    hits = np.zeros((BOOTSTRAPS, len(counts)))
    guesses = np.zeros((BOOTSTRAPS, len(counts)))
    for number in np.nonzero(totals)[0]:
        row = rng.multinomial(totals[number], shares[number], size=BOOTSTRAPS)
        hits[:, number] = row[:, number]
        guesses += row
    drawn = mean_f1(hits, guesses + totals)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(macro_of_counts(counts), float(low), float(high), len(scores))


def losses(scores: Scores) -> np.ndarray:
    """Cross-entropy of each image in nats: N float64."""
    truth = scores.probabilities[np.arange(len(scores)), scores.labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(truth, SMALLEST, 1.0)))


def log_loss(scores: Scores) -> Figure:
    """Mean cross-entropy in nats; normal interval of a mean."""
    each = losses(scores)
    spread = Z95 * float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.inf
    mean = float(each.mean())
    return Figure(mean, max(0.0, mean - spread), mean + spread, len(each))


FIGURES = {"accuracy": accuracy, "macro_f1": macro_f1, "log_loss": log_loss}


def summary(scores: Scores) -> Json:
    """All figures as plain numbers: name, name_low and name_high for each, and n."""
    result: Json = {"n": len(scores)}
    if len(scores) == 0:
        return result
    for name, measure in FIGURES.items():
        values = asdict(measure(scores))
        result[name] = values["value"]
        result[f"{name}_low"] = values["low"]
        result[f"{name}_high"] = values["high"] if math.isfinite(values["high"]) else None
    return result


def per_class(scores: Scores, classes: tuple[str, ...]) -> pd.DataFrame:
    """One row a class: images, precision, recall, f1; recall with its Wilson interval.

    A value that is not defined (no image of the class, or none predicted as it) is None.
    """
    counts = confusion(scores.labels, scores.predicted, len(classes))
    hits, truths, guesses = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    bounds = [
        wilson(int(h), int(n)) if n else (None, None) for h, n in zip(hits, truths, strict=True)
    ]
    columns = {
        "class": classes,
        "images": truths.tolist(),
        "precision": [h / g if g else None for h, g in zip(hits, guesses, strict=True)],
        "recall": [h / n if n else None for h, n in zip(hits, truths, strict=True)],
        "recall_low": [low for low, _ in bounds],
        "recall_high": [high for _, high in bounds],
        "f1": [
            float(f) if n + g else None
            for f, n, g in zip(
                f1_of(hits.astype(float), truths + guesses), truths, guesses, strict=True
            )
        ],
    }
    # As objects, so that None stays None and does not become NaN.
    return pd.DataFrame(
        {name: pd.Series(list(values), dtype=object) for name, values in columns.items()}
    )


@dataclass(frozen=True)
class Roc:
    """One ROC curve: false and true positive rates, M float64 each, and the area below."""

    title: str
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    auc: float
    average: bool = False


def roc(truth: np.ndarray, score: np.ndarray, title: str, *, average: bool = False) -> Roc | None:
    """The ROC curve of one yes-or-no question; None where all answers are the same.

    truth: N bool. score: N float, higher for yes. Ties are one step (Fawcett 2006).
    """
    positives = int(truth.sum())
    if positives in (0, len(truth)):
        return None
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.nonzero(np.diff(score[order]))[0], len(score) - 1]
    true_positives = np.cumsum(truth[order])[ends]
    tpr = np.r_[0, true_positives / positives]
    fpr = np.r_[0, (ends + 1 - true_positives) / (len(truth) - positives)]
    return Roc(title, fpr, tpr, float(np.trapezoid(tpr, fpr)), average)


def roc_curves(scores: Scores, classes: tuple[str, ...]) -> list[Roc]:
    """Each class against the rest, then their macro average and the micro average.

    Classes without an image, or with all of them, have no curve and are left out.
    """
    one_hot = np.eye(len(classes), dtype=bool)[scores.labels]
    found = [
        roc(one_hot[:, k], scores.probabilities[:, k], classes[k]) for k in range(len(classes))
    ]
    curves = [curve for curve in found if curve is not None]
    if not curves:
        return []
    grid = np.unique(np.concatenate([curve.false_positive_rate for curve in curves]))
    if len(grid) > 2000:  # A chart shows no more, and 100 classes would make a huge grid.
        grid = np.linspace(0, 1, 2001)
    mean = np.mean(
        [np.interp(grid, c.false_positive_rate, c.true_positive_rate) for c in curves], axis=0
    )
    macro = Roc(
        "macro average",
        np.r_[0, grid],
        np.r_[0, mean],
        float(np.mean([c.auc for c in curves])),
        True,
    )
    micro = roc(one_hot.ravel(), scores.probabilities.ravel(), "micro average", average=True)
    return [*curves, macro, *([micro] if micro else [])]


def mistakes(scores: Scores) -> np.ndarray:
    """Positions of the images that were classified wrongly, the surest mistakes first."""
    wrong = np.nonzero(scores.predicted != scores.labels)[0]
    return np.asarray(wrong[np.argsort(-scores.confidence[wrong], kind="stable")])
