"""Which images are learned from, which are kept back: the same for the same revision and seed.

Images that belong together (`grouping.units`: copies, near-duplicates, one patient) stay on one
side. The method is StratifiedGroupKFold's of scikit-learn, largest groups first and each to where
its classes are missing most; written anew for shares that differ, for an order that comes from the
images' content alone, and so that images without groups are divided as they always were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.data import grouping, replay
from core.data.dataset import Dataset
from core.errors import DatasetRefused
from core.machine import late_numpy as np
from core.machine import late_pandas as pd

PARTS = ("train", "val", "test")
# The parts that a run scores at its end: with folds, some images are kept out of all of them.
SCORED = (*PARTS, "kept")
IN_WORDS = {"train": "training", "val": "validation", "test": "test"}


def split(dataset: Dataset, shares: tuple[float, float, float], seed: int) -> np.ndarray:
    """The part of each image of the dataset: N of "train", "val", "test".

    Stratified: each class is divided in the given shares as nearly as its images and groups allow.
    A split that the user brought is kept, also where it has copies on two sides: its test figures
    stay comparable with everybody else's on the same data, and the audit reports the leak. Where it
    lacks a part, val serves as test, and validation images are taken out of train, groups whole;
    training images with a copy in the test stay in training, since validation must not choose by
    what the test holds.
    Raises: DatasetRefused when a part that is needed stays empty.
    """
    table = dataset.table
    parts = given(table["part"].to_numpy(dtype=str))
    if "train" not in parts:
        parts = np.full(len(table), "", dtype="<U5")
        drawn = draw(table, np.ones(len(table), dtype=bool), PARTS, shares, seed)
    else:
        ratio = shares[1] / (shares[0] + shares[1])
        # Tables of before there were groups are divided as they were then.
        leaks = np.zeros(len(table), bool) if alone(table) else leaking(table, parts)
        from_train = (parts == "train") & ~leaks & ("val" not in parts)
        drawn = draw(table, from_train, ("train", "val"), (1 - ratio, ratio), seed)
    result = np.where(drawn != "", drawn, parts)
    judge(dataset, result)
    return result


def made(
    dataset: Dataset, shares: tuple[float, float, float], seed: int, group_by: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """A new split whatever the dataset brought: the part and the group of each image, N text each.

    group_by: as `grouping.named` takes it; its groups are merged with those of the table.
    Raises: DatasetRefused for a grouping that is none, or when a needed part stays empty.
    """
    groups = grouping.merged(dataset.table, group_by)
    free = replace(dataset, table=dataset.table.assign(part="", group=groups))
    return split(free, shares, seed), groups


def folds(table: pd.DataFrame, count: int, seed: int) -> np.ndarray:
    """The fold of each image, N int64 in [0, count): stratified, groups whole."""
    names = [str(number) for number in range(count)]
    everything = np.ones(len(table), dtype=bool)
    drawn = draw(table, everything, names, [1 / count] * count, seed, turn=True)
    return drawn.astype(np.int64)


def given(parts: np.ndarray) -> np.ndarray:
    """The user's own parts, val renamed to test where there is no test, the others to train."""
    if np.any(parts == "train"):
        parts = np.where(parts == "", "train", parts)
    has_test = bool(np.any(parts == "test"))
    return parts if has_test else np.where(parts == "val", "test", parts)


def leaking(table: pd.DataFrame, parts: np.ndarray) -> np.ndarray:
    """Which images have a copy, or another of their group, in another part: N bool."""
    units = grouping.units(table)
    return np.asarray(pd.Series(parts).groupby(units).transform("nunique") > 1)


def draw(
    table: pd.DataFrame,
    chosen: np.ndarray,
    names: Sequence[str],
    shares: Sequence[float],
    seed: int,
    parts: np.ndarray | None = None,
    *,
    turn: bool = False,
) -> np.ndarray:
    """Divide the chosen images, class by class, in the given shares; the others get "".

    Groups of several contents first, then single ones so that the shares come out. The order in
    which they are drawn comes from their content, not from their place in the archive, so that the
    same photos packed differently are divided alike. parts: N text, where the images lie that are
    not chosen: the shares are those of all together, so that images which come one at a time do
    not all fall to the first part. turn: each class begins with another part, so that what cannot
    be divided evenly does not always fall to the first.
    """
    before = lying(table, np.full(len(table), "") if parts is None else parts, names)
    names_of_units, unit = np.unique(grouping.units(table)[chosen], return_inverse=True)
    rows = table.loc[chosen, ["label", "sha256"]].assign(unit=unit)
    part = np.full(len(names_of_units), -1)
    whole, part_of_whole = apportioned(rows, np.asarray(shares), seed, before)
    part[whole] = part_of_whole
    rows = rows.assign(had=part[unit])
    for number, (label, of_class) in enumerate(sorted(rows.groupby("label"), key=by_name)):
        # Copies that lie in another class too were drawn with that class.
        new = np.unique(of_class["unit"])
        new = new[part[new] < 0]
        had = of_class.loc[of_class["had"] >= 0].drop_duplicates("sha256")["had"]
        turned = np.roll(np.arange(len(names)), -number if turn else 0)
        had_by = (np.bincount(had, minlength=len(names)) + before[label].to_numpy())[turned]
        ends = np.cumsum(left(len(new), had_by, np.asarray(shares)[turned]))
        generator = np.random.default_rng([seed, *str(label).encode("utf-8", "surrogatepass")])
        drawn = np.searchsorted(ends, np.arange(len(new)), side="right")
        part[new[generator.permutation(len(new))]] = turned[drawn]
    result = np.full(len(table), "", dtype="<U5")
    result[chosen] = np.asarray(names)[part[unit]] if len(unit) else ""
    return result


def lying(table: pd.DataFrame, parts: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """How many contents of each class (column) lie in each of the named parts (row) already."""
    contents = table[["sha256", "label"]].assign(part=parts).drop_duplicates()
    found = pd.crosstab(contents["part"], contents["label"])
    classes = sorted(table["label"].unique())
    return found.reindex(index=list(names), columns=classes, fill_value=0).fillna(0).astype(int)


def by_name(of_class: tuple[object, pd.DataFrame]) -> str:
    """What classes are sorted by."""
    return str(of_class[0])


def apportioned(
    rows: pd.DataFrame, shares: np.ndarray, seed: int, before: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """The units of several contents and their parts: largest first, to where classes lack most.

    What is made least is the chi-square distance to the wanted number of each class in each part,
    so that all parts fill up evenly. rows: columns unit (a number), label and sha256. before: as
    `lying` gives it.
    """
    contents = rows.drop_duplicates(["sha256", "label"])
    several = contents[contents.groupby("unit")["sha256"].transform("nunique") > 1]
    totals = contents["label"].value_counts().sort_index()
    groups = pd.crosstab(several["unit"], several["label"]).reindex(columns=totals.index)
    sizes = groups.fillna(0).to_numpy(dtype=np.float64)
    lay = before[totals.index].to_numpy(dtype=np.float64)
    wanted = np.outer(shares, totals.to_numpy() + lay.sum(axis=0)) + 1e-9
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order].sum(axis=1), kind="stable")]
    had = lay.copy()
    parts = np.zeros(len(sizes), dtype=np.int64)
    for number in order:
        size = sizes[number]
        parts[number] = np.argmin((size * (2 * (had - wanted) + size) / wanted).sum(axis=1))
        had[parts[number]] += size
    serve_all(parts, sizes, shares, totals.to_numpy() - sizes.sum(axis=0), lay)
    return groups.index.to_numpy(), parts


def serve_all(
    parts: np.ndarray, sizes: np.ndarray, shares: np.ndarray, alone: np.ndarray, lay: np.ndarray
) -> None:
    """Move small groups to the parts in which a class has nothing, if it has groups enough.

    parts: G int64, changed in place. sizes: G×C, contents of each class. alone: C, contents of each
    class that are in no group, which serve such parts better. lay: P×C, what was there before.
    """
    for label in np.flatnonzero(alone == 0):
        for part in (p for p in serving_order(len(shares)) if shares[p] > 0):
            has = sizes[:, label] > 0
            groups_in = np.bincount(parts[has], minlength=len(shares))
            if not groups_in[part] and not lay[part, label] and groups_in.max() > 1:
                spare = np.flatnonzero(has & (parts == groups_in.argmax()))
                parts[spare[sizes[spare].sum(axis=1).argmin()]] = part


def left(new: int, had: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How many of the new images each part gets, when groups have brought it some already."""
    wanted = np.maximum(counts(new + int(had.sum()), shares) - had, 0)
    while wanted.sum() > new:  # A group was larger than what its part wanted.
        wanted[wanted.argmax()] -= 1
    return np.asarray(wanted)


def serving_order(parts: int) -> list[int]:
    """The first part (training) is served first, then the last (test), then what lies between."""
    return [0, *range(parts - 1, 0, -1)]


def counts(n: int, shares: Sequence[float] | np.ndarray) -> np.ndarray:
    """How many of n images each part gets: nearest to its share, at least one if n allows."""
    wanted = np.asarray(shares) * n
    result = np.floor(wanted).astype(int)
    for part in np.argsort(result - wanted, kind="stable")[: n - int(result.sum())]:
        result[part] += 1
    order = serving_order(len(shares))
    for part in (p for p in order if shares[p] > 0 and result[p] == 0):
        richest = int(np.argmax(result))
        if result[richest] > 1:
            result[richest] -= 1
            result[part] += 1
    return np.asarray(result)


def how(dataset: Dataset, seed: int) -> str:
    """Where a dataset's split comes from, in sentences."""
    table = dataset.table
    brought = set(table["part"]) - {""}
    if "train" not in brought:
        together = "" if alone(table) else " Copies and groups stay together."
        return f"Each class is divided in the same shares, drawn with seed {seed}.{together}"
    parts = given(table["part"].to_numpy(dtype=str))
    both = int((leaking(table, parts) & (parts == "train")).sum())
    leak = f" {both:,} training images have a copy in another part, see the findings."
    saved = replay.saved_split(dataset.folder, dataset.revision)
    if {"val", "test"} <= brought:
        origin = f"was saved in revision {saved['revision']}" if saved else "came with the dataset"
        return f"This split {origin}.{leak if both else ''}"
    if saved:
        return (
            f"The split saved in revision {saved['revision']} has lost a part since. What is left "
            f"of it is the test; the validation images are drawn from its training images, class "
            f"by class, with seed {seed}.{leak if both else ''}"
        )
    return (
        "The dataset brought its own test images; the validation images were drawn from its "
        f"training images, class by class, with seed {seed}.{leak if both else ''}"
    )


def alone(table: pd.DataFrame) -> bool:
    """Whether no image is in a group."""
    return not (grouping.groups_of(table) != "").any()


def is_given(dataset: Dataset) -> bool:
    """Whether the dataset brought all parts, so that shares and seed of a recipe say nothing."""
    return set(PARTS) <= set(dataset.table["part"])


def judge(dataset: Dataset, parts: np.ndarray) -> None:
    """Refuse a split from which nothing can be learned or chosen."""
    labels = dataset.table["label"].to_numpy()
    if len(set(labels[parts == "train"])) < 2:
        raise DatasetRefused(
            "Fewer than two classes have training images.", "Add images to the other classes."
        )
    if not np.any(parts == "val"):
        grouped = "" if alone(dataset.table) else " that are not all in one group"
        raise DatasetRefused(
            "No images are left for validation.",
            f"Give at least one class three images{grouped}, or raise the second share of "
            "data.split.",
        )


def too_small(dataset: Dataset, parts: np.ndarray) -> list[str]:
    """A sentence for each class that has no images in some part that others have."""
    table = per_class(dataset, parts)
    used = [part for part in PARTS if table[part].any()]
    units = pd.Series(grouping.units(dataset.table))
    groups = units.groupby(dataset.table["label"].to_numpy()).nunique().to_dict()
    found = []
    for label, images in table.iterrows():
        lacking = [IN_WORDS[part] for part in used if not images[part]]
        if lacking:
            size, apart = int(images.sum()), int(groups[label])
            held = "" if apart == size else f" in {apart:,} {'group' if apart == 1 else 'groups'}"
            noun = "image" if size == 1 else "images"
            found.append(f"{label} has {size:,} {noun}{held}: none for {' and '.join(lacking)}.")
    return found


def per_class(dataset: Dataset, parts: np.ndarray) -> pd.DataFrame:
    """How many images each class (row) has in each part (columns train, val, test)."""
    table = pd.crosstab(dataset.table["label"], pd.Series(parts, name="part"))
    return table.reindex(columns=list(PARTS), fill_value=0)
