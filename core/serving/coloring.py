"""What the colors of a map of images say: a word for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.auditing import findings as audits
from core.data import split
from core.data.dataset import Dataset
from core.evaluation import mistakes
from core.machine import late_pandas as pd
from core.serving import listing

NOTHING_FOUND, NOT_SCORED = "nothing found", "not scored"
Words = Callable[[Dataset, Sequence[str], Path | None], list[str]]


@dataclass(frozen=True)
class Coloring:
    """One way to color. of: the words of named images, from the dataset and a run's scores."""

    title: str
    of: Words


def classes(dataset: Dataset, names: Sequence[str], predictions: Path | None) -> list[str]:
    """The class of each image."""
    return list(dataset.table.set_index("name")["label"].reindex(list(names)))


def parts(dataset: Dataset, names: Sequence[str], predictions: Path | None) -> list[str]:
    """The part of each image by the usual split.

    Raises: DatasetRefused where the dataset cannot be divided.
    """
    given = pd.Series(
        listing.usual_parts(dataset.id, dataset.revision), index=dataset.table["name"]
    )
    return [split.IN_WORDS[part] for part in given.reindex(list(names))]


def found(dataset: Dataset, names: Sequence[str], predictions: Path | None) -> list[str]:
    """The first finding that each image is in."""
    titles = audits.marks(listing.findings_of(dataset), names)
    return [title.split("; ")[0] or NOTHING_FOUND for title in titles]


def errors(dataset: Dataset, names: Sequence[str], predictions: Path | None) -> list[str]:
    """Whether a run was right about each image; those it learned from are told apart."""
    if predictions is None:
        return [NOT_SCORED] * len(names)
    scores = mistakes.stored(predictions)
    right = np.where(scores.predicted == scores.labels, "right", "wrong")
    said = {
        name: f"{word} ({split.IN_WORDS[part]})"
        for name, word, part in zip(scores.images, right, scores.split, strict=True)
    }
    return [said.get(name, NOT_SCORED) for name in names]


COLORINGS: dict[str, Coloring] = {
    "class": Coloring("Class", classes),
    "split": Coloring("Split", parts),
    "finding": Coloring("Finding", found),
    "error": Coloring("Errors of a training", errors),
}
