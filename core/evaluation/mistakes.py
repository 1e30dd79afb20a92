"""Which images a run got right and wrong, for grids and tables."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from core.data.dataset import Dataset
from core.errors import NotFound
from core.evaluation import metrics
from core.evaluation import scores as scoring
from core.evaluation.scores import Scores
from core.storage import Json


def stored(path: Path) -> Scores:
    """The scores of a run, kept in memory: they never change once written.

    Raises: NotFound before the run has any.
    """
    return _stored(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=16)
def _stored(path: Path, written: int) -> Scores:
    return scoring.load(path)


def listed(
    predictions: Path,
    dataset: Dataset,
    split: str,
    true: str | None,
    predicted: str | None,
    offset: int,
    limit: int,
) -> Json:
    """Some scored images: those of one true and one predicted class, else all mistakes.

    Surest first. dataset: the revision that the run is of. true, predicted: class names, or None
    for any.
    Raises: NotFound for an unknown class, or a run without scores.
    """
    scores = stored(predictions).part(split)
    chosen = positions(scores, dataset.classes, true, predicted)
    hashes = dict(zip(dataset.table["name"], dataset.table["sha256"], strict=True))
    names = dataset.classes
    items = [
        {
            "name": scores.images[k],
            "sha256": hashes.get(scores.images[k], ""),
            "title": f"{names[scores.labels[k]]} → {names[scores.predicted[k]]}",
            "caption": f"{scores.confidence[k]:.0%} sure",
        }
        for k in chosen[offset : offset + limit]
    ]
    return {"total": len(chosen), "items": items}


def positions(
    scores: Scores, classes: tuple[str, ...], true: str | None, predicted: str | None
) -> np.ndarray:
    """Positions of a confusion cell's images (or of all mistakes), the surest first."""
    if true is None and predicted is None:
        return metrics.mistakes(scores)
    unknown = {name for name in (true, predicted) if name is not None} - set(classes)
    if unknown:
        raise NotFound(f"There is no class {unknown.pop()}.", "Reload the page.")
    keep = np.ones(len(scores), dtype=bool)
    if true is not None:
        keep &= scores.labels == classes.index(true)
    if predicted is not None:
        keep &= scores.predicted == classes.index(predicted)
    found = np.nonzero(keep)[0]
    return np.asarray(found[np.argsort(-scores.confidence[found], kind="stable")])


def digest_of(dataset: Dataset, name: str) -> str:
    """The content hash of an image by its name.

    Raises: NotFound.
    """
    match = dataset.table.loc[dataset.table["name"] == name, "sha256"]
    if match.empty:
        raise NotFound(f"{dataset.name} has no image {name[:80]}.", "Reload the page.")
    return str(match.iloc[0])
