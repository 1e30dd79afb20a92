"""The accuracy of always answering the most common class: what a classifier must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.evaluation.scores import Scores
from core.machine import late_numpy as np
from core.storage import Json


@dataclass(frozen=True)
class Baseline:
    """The accuracy, in [0, 1], of always answering one class on some images."""

    accuracy: float
    class_name: str


def of_labels(labels: np.ndarray, learned: np.ndarray, classes: Sequence[str]) -> Baseline | None:
    """The baseline on scored images, N int64; None without images.

    learned: labels of the training images, which say what class is the most common one; where
    there are none, the scored images say it, which flatters the baseline. Of equally common classes
    the first.
    """
    if not len(labels):
        return None
    counts = np.bincount(learned if len(learned) else labels, minlength=len(classes))
    common = int(counts.argmax())
    return Baseline(float((labels == common).mean()), classes[common])


def of_part(scores: Scores, part: str, classes: Sequence[str]) -> Baseline | None:
    """The baseline on one part of a run's scores, by its training images among them."""
    return of_labels(scores.part(part).labels, scores.part("train").labels, classes)


def facts(found: Baseline | None) -> Json:
    """A baseline as it stands among the figures of a part; nothing for None."""
    return {"baseline": found.accuracy, "baseline_class": found.class_name} if found else {}


def is_beaten(figures: Json) -> bool:
    """Whether an accuracy is above its baseline; True where no baseline is known.

    figures: those of one part, with `accuracy` and what `facts` gives.
    """
    known, value = figures.get("baseline"), figures.get("accuracy")
    return known is None or value is None or value > known


def sentence(figures: Json) -> str:
    """The baseline in words, and whether the accuracy is above it; "" where none is known.

    figures: those of one part, with `accuracy`, `accuracy_low` and what `facts` gives.
    """
    known, value = figures.get("baseline"), figures.get("accuracy")
    if known is None or value is None:
        return ""
    always = f"always answering {figures['baseline_class']}, the most common class"
    if value <= known:
        return f"No better than {always}, which gives {known:.1%}."
    if (figures.get("accuracy_low") or 0.0) <= known:
        return f"Not clearly better than {always}, which gives {known:.1%}."
    return f"A{always[1:]}, gives {known:.1%}."
