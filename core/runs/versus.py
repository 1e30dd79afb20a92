"""Two runs against each other, on the test images that both were judged on."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from core.errors import NotFound
from core.evaluation import against, mistakes
from core.evaluation.against import Comparison, Shared
from core.machine import late_numpy as np
from core.runs import run as runs
from core.runs.run import Run
from core.storage import Json


def shared_of(first: Run, second: Run) -> Shared:
    """The test images of both.

    Raises: NotFound before both have scored theirs, or where they learned from two datasets, whose
    images may have the same names by chance.
    """
    if first.dataset != second.dataset:
        raise NotFound(
            f"{first.name} and {second.name} learned from different datasets "
            f"({first.dataset_name}, {second.dataset_name}) and share no images.",
            "Choose runs on one dataset.",
        )
    keys = [(r.predictions, r.classes, written(r.predictions)) for r in (first, second)]
    return _shared(*keys)


def written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


Key = tuple[Path, tuple[str, ...], int]


@lru_cache(maxsize=16)
def _shared(first: Key, second: Key) -> Shared:
    """Kept in memory: a grid asks for every page of it."""
    one, other = (mistakes.stored(path).part("test") for path, _, _ in (first, second))
    return against.shared(one, first[1], other, second[1])


def compared(first: Run, second: Run) -> Comparison:
    """What their test images say of two runs.

    Raises: NotFound, as `shared_of`.
    """
    return against.compared(shared_of(first, second))


def won(both: Shared) -> np.ndarray:
    """Positions of the images that the first has right and the second wrong.

    Those first that the second thought least likely to be what they are.
    """
    one, other = both.right
    found = np.flatnonzero(one & ~other)
    likely = both.second.probabilities[found, both.second.labels[found]]
    return np.asarray(found[np.argsort(likely, kind="stable")])


def listed(first: Run, second: Run, offset: int, limit: int) -> Json:
    """Some of the test images that the first has right and the second wrong.

    Raises: NotFound, as `shared_of`.
    """
    both = shared_of(first, second)
    chosen, classes = won(both), both.classes
    table = runs.data_of(first).table
    hashes = dict(zip(table["name"], table["sha256"], strict=True))
    items = [
        {
            "name": both.first.images[k],
            "sha256": hashes.get(both.first.images[k], ""),
            "title": f"{classes[both.first.labels[k]]}, not {classes[both.second.predicted[k]]}",
            "caption": f"{both.first.confidence[k]:.0%} and {both.second.confidence[k]:.0%} sure",
        }
        for k in chosen[offset : offset + limit]
    ]
    return {"total": len(chosen), "items": items}
