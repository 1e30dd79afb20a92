"""All that the Evaluate page shows of one part of one run, from its stored predictions alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from core.evaluation import metrics, mistakes
from core.evaluation.metrics import Roc
from core.evaluation.scores import Scores
from core.storage import Json, read_json


@dataclass(frozen=True)
class Said:
    """What a classifier said of one image: the classes, the most probable first."""

    true: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """Figures of one part. confusion: counts C×C, row true, column predicted."""

    classes: tuple[str, ...]
    scores: Scores
    summary: Json
    per_class: pd.DataFrame
    confusion: np.ndarray
    roc: list[Roc]

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
    return Evaluation(
        classes,
        scores,
        metrics.summary(scores),
        metrics.per_class(scores, classes),
        metrics.confusion(scores.labels, scores.predicted, len(classes)),
        metrics.roc_curves(scores, classes),
    )
