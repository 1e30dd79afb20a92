"""Figures from scores, each with its n and its 95 % interval; each equals scikit-learn's.

Where a figure has no value (no image of a class, no prediction of it) it is None, and who shows it
says so; precision of a class that is never predicted, and with it F1, counts as 0 in averages, as
in scikit-learn with `zero_division=0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.evaluation import counts as counting
from core.evaluation import curves
from core.evaluation.counts import Measure
from core.evaluation.curves import Areas
from core.evaluation.intervals import Figure, of_draws, of_mean, of_share
from core.evaluation.scores import Scores
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.storage import Json

# Smallest probability in a logarithm, as in scikit-learn's log_loss for float32.
SMALLEST = 2.0**-23


@dataclass(frozen=True)
class Kind:
    """A figure as people meet it: its title, how its value is written, and what it means."""

    title: str
    form: str
    help: str

    def written(self, value: float | None) -> str:
        """The value as people read it."""
        return "not defined" if value is None else self.form.format(value)

    def interval(self, figure: Figure) -> str:
        """The ends of its interval as people read them."""
        if figure.low is None:
            return "unknown"
        high = "no limit" if figure.high is None else self.form.format(figure.high)
        return f"{self.form.format(figure.low)} to {high}"


PERCENT, DECIMAL = "{:.1%}", "{:.3f}"
KINDS = {
    "accuracy": Kind(
        "Accuracy", PERCENT, "Share of images whose most probable class is the true one."
    ),
    "balanced_accuracy": Kind(
        "Balanced accuracy", PERCENT, "Mean of the classes' recall: a rare class counts the same."
    ),
    "macro_f1": Kind("Macro-F1", DECIMAL, "Mean of the classes' F1: a rare class counts the same."),
    "log_loss": Kind("Log loss", DECIMAL, "0 is perfect; being sure and wrong costs most."),
    "auc": Kind(
        "AUC", DECIMAL, "Mean area below the classes' ROC curves: 1 is perfect, 0.5 is guessing."
    ),
    "average_precision": Kind(
        "Average precision", DECIMAL, "Mean area below the classes' precision–recall curves."
    ),
    "top_3": Kind("Top 3", PERCENT, "Share of images whose class is among the 3 likeliest."),
    "top_5": Kind("Top 5", PERCENT, "Share of images whose class is among the 5 likeliest."),
    "matthews": Kind(
        "Matthews' coefficient", DECIMAL,
        "Correlation of truth and prediction: 1 is perfect, 0 is chance.",
    ),
    "kappa": Kind(
        "Cohen's kappa", DECIMAL, "Agreement beyond what chance would bring: 1 is perfect."
    ),
    "brier": Kind(
        "Brier score", DECIMAL,
        "Mean squared error of the probabilities, halved: 0 is perfect, 1 is the worst.",
    ),
    "macro_precision": Kind("Macro precision", DECIMAL, "Mean of the classes' precision."),
    "macro_recall": Kind("Macro recall", DECIMAL, "Mean of the classes' recall."),
    "weighted_precision": Kind(
        "Weighted precision", DECIMAL, "Mean precision, each class weighed by its images."
    ),
    "weighted_recall": Kind(
        "Weighted recall", DECIMAL, "Mean recall, each class weighed by its images: the accuracy."
    ),
    "weighted_f1": Kind("Weighted F1", DECIMAL, "Mean F1, each class weighed by its images."),
    "micro_f1": Kind(
        "Micro F1", DECIMAL,
        "F1 of all decisions as one. As each image has one class, it is the accuracy, and so are "
        "micro precision and micro recall.",
    ),
    "micro_auc": Kind("Micro AUC", DECIMAL, "Area below the ROC curve of all classes as one."),
    "micro_average_precision": Kind(
        "Micro average precision", DECIMAL,
        "Area below the precision–recall curve of all classes as one.",
    ),
}  # fmt: skip
OF_COUNTS: dict[str, Measure] = {
    "balanced_accuracy": counting.balanced_accuracy,
    "matthews": counting.matthews,
    "kappa": counting.kappa,
    "macro_precision": counting.macro(counting.precision),
    "macro_recall": counting.macro(counting.recall),
    "macro_f1": counting.MACRO_F1,
    "weighted_precision": counting.weighted(counting.precision),
    "weighted_f1": counting.weighted(counting.f1),
}
LOWEST = {"matthews": -1.0, "kappa": -1.0}
TOPS = {"top_3": 3, "top_5": 5}


def figures(scores: Scores, areas: Mapping[str, Areas]) -> dict[str, Figure]:
    """All of `KINDS` that mean something for N > 0 images; top 3 only with more than 3 classes.

    areas: those of `curves.areas`.
    """
    n_classes = scores.probabilities.shape[1]
    right = accuracy(scores)
    found = dict.fromkeys(("accuracy", "micro_f1", "weighted_recall"), right)
    found |= of_counts(confusion(scores.labels, scores.predicted, n_classes))
    found |= {name: top(scores, k) for name, k in TOPS.items() if k < n_classes}
    found |= {"log_loss": log_loss(scores), "brier": brier(scores)}
    unknown = Figure(None, None, None, len(scores))
    for kind, one in areas.items():
        found |= {kind: one.macro or unknown, f"micro_{kind}": one.micro or unknown}
    return {name: found[name] for name in KINDS if name in found}


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts C×C int64: row is the true class, column the predicted one."""
    flat = np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
    return np.asarray(flat.reshape(n_classes, n_classes))


def of_counts(matrix: np.ndarray) -> dict[str, Figure]:
    """The figures that a confusion matrix C×C gives, with the bootstrap's intervals."""
    here, drawn, n = counting.of(matrix), counting.drawn(matrix), int(matrix.sum())
    # Where all are right, the rarest class says least of how sure that is, and counts as much.
    with_images = here.truths[here.truths > 0]
    least = min(n, len(with_images) * with_images.min())
    return {
        name: of_draws(float(measure(here)), measure(drawn), n, least, LOWEST.get(name, 0.0))
        for name, measure in OF_COUNTS.items()
    }


def accuracy(scores: Scores) -> Figure:
    """Share of images whose most probable class is the true one."""
    return of_share(int((scores.predicted == scores.labels).sum()), len(scores))


def top(scores: Scores, k: int) -> Figure:
    """Share of images whose true class is among the k most probable.

    Of equally probable classes the later ones count as more probable, as in scikit-learn.
    """
    order = np.argsort(scores.probabilities, axis=1, kind="stable")[:, -k:]
    return of_share(int((order == scores.labels[:, None]).sum()), len(scores))


def losses(scores: Scores) -> np.ndarray:
    """Cross-entropy of each image in nats: N float64."""
    truth = scores.probabilities[np.arange(len(scores)), scores.labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(truth, SMALLEST, 1.0)))


def log_loss(scores: Scores) -> Figure:
    """Mean cross-entropy in nats."""
    return of_mean(losses(scores), scores.labels)


def brier(scores: Scores) -> Figure:
    """Half the squared distance between probabilities and truth, from 0 to 1 (Brier 1950)."""
    probabilities = scores.probabilities.astype(np.float64)
    truth = probabilities[np.arange(len(scores)), scores.labels]
    squares = np.einsum("nc,nc->n", probabilities, probabilities)
    return of_mean((squares - 2 * truth + 1) / 2, scores.labels)


def summary(scores: Scores) -> Json:
    """All figures as plain numbers: name, name_low and name_high for each, and n."""
    if not len(scores):
        return {"n": 0}
    return plain(figures(scores, curves.areas(scores, curves.ranks(scores))), len(scores))


def plain(found: Mapping[str, Figure], n: int) -> Json:
    """Figures by name as plain numbers: name, name_low and name_high for each, and n."""
    result: Json = {"n": n}
    for name, figure in found.items():
        result |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return result


def table(found: Mapping[str, Figure]) -> list[Json]:
    """Figures by name as rows in words."""
    rows = ((KINDS[name], figure) for name, figure in found.items())
    return [
        {
            "figure": kind.title,
            "value": kind.written(figure.value),
            "95 % interval": kind.interval(figure),
            "images": figure.n,
            "meaning": kind.help,
        }
        for kind, figure in rows
    ]


def per_class(scores: Scores, classes: tuple[str, ...], areas: Mapping[str, Areas]) -> pd.DataFrame:
    """One row a class: its images, and precision, recall, F1, AUC and average precision.

    Each with `_low` and `_high`. A value that is not defined (no image of the class, or none
    predicted as it) is None. areas: those of `curves.areas`.
    """
    matrix = confusion(scores.labels, scores.predicted, len(classes))
    here, drawn = counting.of(matrix), counting.f1(counting.drawn(matrix))
    hits = here.hits.astype(int)
    f1 = np.where(here.truths + here.guesses > 0, counting.f1(here), np.nan)
    columns: dict[str, list[Figure | None]] = {
        "recall": [of_share(*one) for one in zip(hits, here.truths.astype(int), strict=True)],
        "precision": [of_share(*one) for one in zip(hits, here.guesses.astype(int), strict=True)],
        "f1": [
            of_draws(f1[k], drawn[:, k], len(scores), here.truths[k] or here.guesses[k], 0.0)
            for k in range(len(classes))
        ],
        **{kind: one.classes for kind, one in areas.items()},
    }
    cells: dict[str, list[object]] = {
        "class": [*classes],
        "images": here.truths.astype(int).tolist(),
    }
    for name, found in columns.items():
        for end, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            cells[name + end] = [getattr(one, part, None) for one in found]
    # As objects, so that None stays None and does not become NaN.
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in cells.items()})
