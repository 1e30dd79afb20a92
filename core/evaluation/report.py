"""All that the Evaluate page shows of one part of one run, from its stored predictions alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from core.evaluation import curves, metrics, mistakes
from core.evaluation.curves import Curve
from core.evaluation.intervals import Figure
from core.evaluation.scores import Scores
from core.storage import read_json


@dataclass(frozen=True)
class Said:
    """What a classifier said of one image: the classes, the most probable first."""

    true: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """Figures of one part. confusion: counts C×C, row true, column predicted.

    curves: of each kind in `curves.CURVES`: each class that has one, then the averages.
    """

    classes: tuple[str, ...]
    scores: Scores
    figures: dict[str, Figure]
    per_class: pd.DataFrame
    confusion: np.ndarray
    curves: dict[str, list[Curve]]

    def has(self, name: str) -> bool:
        """Whether an image is among those scored."""
        return bool((self.scores.images == name).any())

    def said_of(self, name: str) -> Said:
        """What was said of one image."""
        position = int(np.nonzero(self.scores.images == name)[0][0])
        found = self.scores.probabilities[position]
        order = np.argsort(-found, kind="stable")
        return Said(
            self.classes[self.scores.labels[position]],
            tuple(self.classes[k] for k in order),
            tuple(float(found[k]) for k in order),
        )


def evaluate(folder: Path, part: str) -> Evaluation | None:
    """Figures of one part (train, val, test) of the run in a folder; None when it has no images.

    Raises: NotFound before the run has predictions.
    """
    path = folder / "predictions.parquet"
    scores = mistakes.stored(path)  # Raises before there are any.
    return _evaluate(folder, part, path.stat().st_mtime_ns) if len(scores.part(part)) else None


@lru_cache(maxsize=32)
def _evaluate(folder: Path, part: str, written: int) -> Evaluation:
    scores = mistakes.stored(folder / "predictions.parquet").part(part)
    classes = tuple(read_json(folder / "model" / "config.json")["label_names"])
    ranks = curves.ranks(scores)
    areas = curves.areas(scores, ranks)
    return Evaluation(
        classes,
        scores,
        metrics.figures(scores, areas),
        metrics.per_class(scores, classes, areas),
        metrics.confusion(scores.labels, scores.predicted, len(classes)),
        {kind: curves.drawn(kind, ranks, classes) for kind in curves.CURVES},
    )
