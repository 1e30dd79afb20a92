"""Folds: the same images divided several times, so that each is once in the test part.

A recipe names its fold as text (`data.fold`): "2/5" is the second of five, "2/5#1" that of another
drawing, "group:NAME" leaves one group out. Groups stay whole, classes are divided evenly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.data import grouping, split
from core.data.dataset import Dataset
from core.errors import DatasetRefused
from core.machine import late_numpy as np
from core.schema import Recipe

# Images that no fold holds: a test that was given, or is to be kept for the end.
KEPT = split.SCORED[-1]
SHAPE = re.compile(
    r"^(?:(?P<number>\d+)/(?P<count>\d+)(?:#(?P<drawing>\d+))?|group:(?P<group>.+))$"
)
MOST_FOLDS = 50


@dataclass(frozen=True)
class Fold:
    """One fold: number `number` of `count` in a drawing, from 1; or a group that is left out."""

    number: int = 0
    count: int = 0
    drawing: int = 0
    group: str = ""

    def __str__(self) -> str:
        if self.group:
            return f"group:{self.group}"
        return f"{self.number}/{self.count}" + (f"#{self.drawing}" if self.drawing else "")


def read(text: str) -> Fold:
    """The fold that a text names; `SHAPE` fits it, as the recipe checks."""
    found = SHAPE.match(text)
    if found is None:
        raise DatasetRefused(f"{text} names no fold.", "Write it as 2/5, or group:NAME.")
    if found["group"]:
        return Fold(group=found["group"])
    return Fold(int(found["number"]), int(found["count"]), int(found["drawing"] or 0))


def parts(dataset: Dataset, recipe: Recipe) -> np.ndarray:
    """The part of each image by a recipe: N of train, val, test and, with folds, kept.

    Raises: DatasetRefused when a part that is needed stays empty, or there is no such fold.
    """
    if not recipe.data.fold:
        return split.split(dataset, recipe.data.split, recipe.seed)
    kept = kept_out(dataset, recipe)
    held = held_out(dataset, read(recipe.data.fold), ~kept)
    shares = recipe.data.split
    ratio = shares[1] / (shares[0] + shares[1])
    drawn = split.draw(
        dataset.table, ~(kept | held), ("train", "val"), (1 - ratio, ratio), recipe.seed
    )
    result = np.where(kept, KEPT, np.where(held, "test", drawn))
    split.judge(dataset, result)
    return np.asarray(result)


def kept_out(dataset: Dataset, recipe: Recipe) -> np.ndarray:
    """The images that no fold holds: N bool. A given test always; `data.keep_test` a drawn one."""
    given = split.given(dataset.table["part"].to_numpy(dtype=str))
    if "train" in given:
        return np.asarray(given == "test", dtype=bool)
    if recipe.data.keep_test:
        return np.asarray(
            split.split(dataset, recipe.data.split, recipe.seed) == "test", dtype=bool
        )
    return np.zeros(len(given), dtype=bool)


def held_out(dataset: Dataset, fold: Fold, free: np.ndarray) -> np.ndarray:
    """The test images of a fold among the free ones: N bool.

    Raises: DatasetRefused when there is no such fold.
    """
    table = dataset.table
    if fold.group:
        units = grouping.units(table)  # With the copies that name no group themselves.
        held = free & np.isin(units, units[grouping.groups_of(table) == fold.group])
    else:
        held = np.zeros(len(table), dtype=bool)
        drawn = split.folds(table[free].reset_index(drop=True), fold.count, fold.drawing)
        held[free] = drawn == fold.number - 1
    if not held.any():
        raise DatasetRefused(f"No image is in fold {fold}.", "Take fewer folds, or another group.")
    return held


def of_count(dataset: Dataset, recipe: Recipe, count: int, drawings: int = 1) -> list[Fold]:
    """All folds of one or several drawings.

    Raises: DatasetRefused for a number that the images do not allow.
    """
    free = ~kept_out(dataset, recipe)
    units = len(set(grouping.units(dataset.table)[free]))
    if not 2 <= count <= min(MOST_FOLDS, units):
        raise DatasetRefused(
            f"{units:,} groups of images cannot be divided into {count} folds.",
            f"Take 2 to {min(MOST_FOLDS, units)} folds.",
        )
    if not 1 <= drawings <= MOST_FOLDS // count:
        raise DatasetRefused(
            f"{drawings} repeats of {count} folds are out of range.",
            f"Take 1 to {MOST_FOLDS // count} repeats: {MOST_FOLDS} trainings are most.",
        )
    return [Fold(n + 1, count, d) for d in range(drawings) for n in range(count)]


def of_groups(dataset: Dataset, recipe: Recipe) -> list[Fold]:
    """One fold for each group; images in no group are learned from in all of them.

    Raises: DatasetRefused with fewer than two groups, or too many to train for each.
    """
    free = ~kept_out(dataset, recipe)
    units, groups = grouping.units(dataset.table), grouping.groups_of(dataset.table)
    named = free & (groups != "")
    names = sorted(dict(zip(units[named], groups[named].tolist(), strict=True)).values())
    if not 2 <= len(names) <= MOST_FOLDS:
        raise DatasetRefused(
            f"The dataset has {len(names):,} groups, and leaving each out once takes 2 to "
            f"{MOST_FOLDS}.",
            "Group the images by folder or file name on Data, under Divide anew.",
        )
    judged = int((free & np.isin(units, units[named])).sum())
    if 2 * judged < free.sum():
        raise DatasetRefused(
            f"Only {judged:,} of {free.sum():,} images are in a group, as near-duplicates are. No "
            "other would be judged.",
            "Group the images by folder or file name on Data, under Divide anew.",
        )
    return [Fold(group=name) for name in names]
