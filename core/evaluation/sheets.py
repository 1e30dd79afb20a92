"""A contact sheet: the maps of several images of a class, side by side."""

from __future__ import annotations

from pathlib import Path

from core.data.dataset import Dataset
from core.errors import NotFound
from core.evaluation import mistakes
from core.evaluation.scores import Scores

MOST = 24
STRENGTH = 0.6  # of the maps over the pictures
# Which images of the class: those that it got right, or those of the class that it missed.
KINDS = {"right": "right, the surest first", "wrong": "missed, the surest mistakes first"}


def names(scores: Scores, classes: tuple[str, ...], class_name: str, kind: str) -> list[str]:
    """The images of a class for its sheet, at most 24: `kind` is one of `KINDS`.

    Raises: NotFound for an unknown class.
    """
    found = mistakes.positions(scores, classes, class_name, None)
    right = scores.predicted[found] == scores.labels[found]
    return [str(one) for one in scores.images[found[right == (kind == "right")]][:MOST]]


def sheet(
    model: Path,
    dataset: Dataset,
    images: list[str],
    class_name: str,
    method: str = "gradcam",
    strength: float = STRENGTH,
) -> bytes:
    """A PNG of the maps of these images of a dataset for a class, in their order.

    Raises: NotFound without images, or for one that is gone; what `explain` raises.
    """
    from core.evaluation import explain as explaining

    if not images:
        raise NotFound("There is no such image.", "Choose other ones.")
    found = [
        explaining.explain(model, mistakes.content_of(dataset, name), class_name, method)
        for name in images
    ]
    return explaining.sheet_png(found, strength)
