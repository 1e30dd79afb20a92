"""Which images are learned from, which are kept back: the same for the same revision and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from core.data.dataset import Dataset
from core.errors import DatasetRefused

PARTS = ("train", "val", "test")


def split(dataset: Dataset, shares: tuple[float, float, float], seed: int) -> np.ndarray:
    """The part of each image of the dataset: N of "train", "val", "test".

    Stratified: each class is divided in the given shares as nearly as whole images allow, and
    exact copies of an image stay together. A split that the user brought is kept; where it lacks
    a part, val serves as test, and validation images are taken out of train.
    Raises: DatasetRefused when a part that is needed stays empty.
    """
    table = dataset.table
    parts = given(table["part"].to_numpy(dtype=str))
    if "train" not in parts:
        parts = np.full(len(table), "", dtype="<U5")
        drawn = draw(table, np.ones(len(table), dtype=bool), PARTS, shares, seed)
    else:
        ratio = shares[1] / (shares[0] + shares[1])
        from_train = (parts == "train") if "val" not in parts else np.zeros(len(table), dtype=bool)
        drawn = draw(table, from_train, ("train", "val"), (1 - ratio, ratio), seed)
    result = np.where(drawn != "", drawn, parts)
    judge(dataset, result)
    return result


def given(parts: np.ndarray) -> np.ndarray:
    """The user's own parts, val renamed to test where there is no test, the others to train."""
    if np.any(parts == "train"):
        parts = np.where(parts == "", "train", parts)
    has_test = bool(np.any(parts == "test"))
    return parts if has_test else np.where(parts == "val", "test", parts)


def draw(
    table: pd.DataFrame,
    chosen: np.ndarray,
    names: Sequence[str],
    shares: Sequence[float],
    seed: int,
) -> np.ndarray:
    """Divide the chosen images, class by class, in the given shares; the others get "".

    The order in which images are drawn comes from their content, not from their place in the
    archive, so that the same photos packed differently are divided alike.
    """
    result = np.full(len(table), "", dtype="<U5")
    rows = table.assign(place=np.arange(len(table)))[chosen]
    places = {sha: np.asarray(g["place"]) for sha, g in rows.groupby("sha256", sort=True)}
    for label, of_class in sorted(rows.groupby("label"), key=lambda pair: str(pair[0])):
        # Copies that lie in another class too were drawn with that class.
        new = [sha for sha in sorted(set(of_class["sha256"])) if not result[places[sha][0]]]
        generator = np.random.default_rng([seed, *str(label).encode("utf-8", "surrogatepass")])
        ends = np.cumsum(counts(len(new), shares))
        for rank, position in enumerate(generator.permutation(len(new))):
            result[places[new[position]]] = names[int(np.searchsorted(ends, rank, side="right"))]
    return result


def counts(n: int, shares: Sequence[float]) -> np.ndarray:
    """How many of n images each part gets: nearest to its share, at least one if n allows.

    The first part (training) is served first, then the last (test), then what lies between.
    """
    wanted = np.asarray(shares) * n
    result = np.floor(wanted).astype(int)
    for part in np.argsort(result - wanted, kind="stable")[: n - int(result.sum())]:
        result[part] += 1
    order = [0, *range(len(shares) - 1, 0, -1)]
    for part in (p for p in order if shares[p] > 0 and result[p] == 0):
        richest = int(np.argmax(result))
        if result[richest] > 1:
            result[richest] -= 1
            result[part] += 1
    return np.asarray(result)


def how(dataset: Dataset, seed: int) -> str:
    """Where a dataset's split comes from, in a sentence."""
    brought = set(dataset.table["part"]) - {""}
    if "train" not in brought:
        return f"Each class is divided in the same shares, drawn with seed {seed}."
    if {"val", "test"} <= brought:
        return "The dataset brought this split itself."
    return (
        "The dataset brought its own test images; the validation images were drawn from its "
        f"training images, class by class, with seed {seed}."
    )


def judge(dataset: Dataset, parts: np.ndarray) -> None:
    """Refuse a split from which nothing can be learned or chosen."""
    labels = dataset.table["label"].to_numpy()
    if len(set(labels[parts == "train"])) < 2:
        raise DatasetRefused(
            "Fewer than two classes have training images.", "Add images to the other classes."
        )
    if not np.any(parts == "val"):
        raise DatasetRefused(
            "No images are left for validation.",
            "Give at least one class three images, or raise the second share of data.split.",
        )


def per_class(dataset: Dataset, parts: np.ndarray) -> pd.DataFrame:
    """How many images each class (row) has in each part (columns train, val, test)."""
    table = pd.crosstab(dataset.table["label"], pd.Series(parts, name="part"))
    return table.reindex(columns=list(PARTS), fill_value=0)
