"""Which images a run got right and wrong, for grids and tables."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from core.data.dataset import Dataset
from core.errors import NotFound
from core.evaluation import metrics
from core.evaluation import scores as scoring
from core.evaluation.scores import Scores
from core.machine import late_numpy as np
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
    classes: tuple[str, ...],
    split: str,
    true: str | None,
    predicted: str | None,
    offset: int,
    limit: int,
    order: str = "sure",
) -> Json:
    """Some scored images: those of one true and one predicted class, else all mistakes.

    order: one of `ORDERS`. dataset: the revision that was scored. classes: of the scores. true,
    predicted: class names, or None for any.
    Raises: NotFound for an unknown class, or a run without scores.
    """
    scores = stored(predictions).part(split)
    chosen = positions(scores, classes, true, predicted, order)
    losses = metrics.losses(scores)
    hashes = dict(zip(dataset.table["name"], dataset.table["sha256"], strict=True))
    items = [
        {
            "name": scores.images[k],
            "sha256": hashes.get(scores.images[k], ""),
            "title": f"{classes[scores.labels[k]]} → {classes[scores.predicted[k]]}",
            "caption": f"{scores.confidence[k]:.0%} sure, loss {losses[k]:.2f}",
        }
        for k in chosen[offset : offset + limit]
    ]
    return {"total": len(chosen), "items": items}


def surest(scores: Scores) -> np.ndarray:
    """What to sort by for the surest first: N."""
    return -scores.confidence


def costliest(scores: Scores) -> np.ndarray:
    """What to sort by for those first whose true class was thought least likely: N."""
    return -metrics.losses(scores)


def pairwise(scores: Scores) -> np.ndarray:
    """What to sort by for pairs of classes, those with the most images first, the surest first."""
    n_classes = scores.probabilities.shape[1]
    pair = scores.labels * n_classes + scores.predicted
    found, place, counts = np.unique(pair, return_inverse=True, return_counts=True)
    rank = np.empty(len(found))
    rank[np.lexsort((found, -counts))] = np.arange(len(found))
    return np.asarray(rank[place] - scores.confidence / 2)


ORDERS = {"sure": surest, "loss": costliest, "pair": pairwise}


def positions(
    scores: Scores,
    classes: tuple[str, ...],
    true: str | None,
    predicted: str | None,
    order: str = "sure",
) -> np.ndarray:
    """Positions of a confusion cell's images (or of all mistakes), in an order of `ORDERS`.

    Raises: NotFound for an unknown class.
    """
    unknown = {name for name in (true, predicted) if name is not None} - set(classes)
    if unknown:
        raise NotFound(f"There is no class {unknown.pop()}.", "Reload the page.")
    if true is None and predicted is None:
        keep = scores.predicted != scores.labels
    else:
        keep = np.ones(len(scores), dtype=bool)
    if true is not None:
        keep &= scores.labels == classes.index(true)
    if predicted is not None:
        keep &= scores.predicted == classes.index(predicted)
    found = np.nonzero(keep)[0]
    chosen = scores.chosen(found)
    return np.asarray(found[np.argsort(ORDERS[order](chosen), kind="stable")])


def digest_of(dataset: Dataset, name: str) -> str:
    """The content hash of an image by its name.

    Raises: NotFound.
    """
    match = dataset.table.loc[dataset.table["name"] == name, "sha256"]
    if match.empty:
        raise NotFound(f"{dataset.name} has no image {name[:80]}.", "Reload the page.")
    return str(match.iloc[0])


def content_of(dataset: Dataset, name: str) -> bytes:
    """The file of an image by its name.

    Raises: NotFound.
    """
    path = dataset.path_of(digest_of(dataset, name))
    if not path.is_file():
        raise NotFound(f"The file of {name[:80]} is gone.", "Import the dataset again.")
    return path.read_bytes()
