"""Copies of one picture: exact, nearly so, under different labels, and across the split.

Which images are copies is found by `core.data.twins`; here it is said what that means.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.auditing.findings import Finding, Group
from core.machine import late_pandas as pd


def found(table: pd.DataFrame, near: np.ndarray, parts: np.ndarray) -> list[Finding]:
    """Findings about copies.

    table: of a dataset. near: the group of copies of each image, N text, "" for none; it holds
    exact copies too. parts: where a training would put each image, N of train, val, test; ""
    where there is no split.
    """
    rows = table.assign(near=near, part=parts)
    # The first of each group is the best one: the largest, and of these the least compressed.
    rows["pixels"] = rows["width"] * rows["height"]
    rows = rows.sort_values(["pixels", "bytes", "name"], ascending=[False, False, True])
    same = [group for _, group in rows.groupby("sha256", sort=False) if len(group) > 1]
    alike = [group for near, group in rows.groupby("near", sort=False) if near and len(group) > 1]
    resaved = [group for group in alike if group["sha256"].nunique() > 1]
    # Exact copies are groups of their own where nothing else is like them.
    all_groups = [*resaved, *not_within(same, resaved)]
    kinds = {
        "leak": [group for group in all_groups if group["part"].nunique() > 1],
        "contradiction": [group for group in all_groups if group["label"].nunique() > 1],
        "exact_duplicate": same,
        "near_duplicate": resaved,
    }
    return [Finding(kind, tuple(told(kind, groups))) for kind, groups in kinds.items() if groups]


def not_within(groups: list[pd.DataFrame], larger: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The groups that are no part of a larger one."""
    held = {name for group in larger for name in group["name"]}
    return [group for group in groups if held.isdisjoint(group["name"])]


def told(kind: str, groups: list[pd.DataFrame]) -> Iterator[Group]:
    """Each group with words about it, the largest first."""
    for group in sorted(groups, key=lambda one: (-len(one), one["name"].iloc[0])):
        labels = ", ".join(sorted(group["label"].unique()))
        places = ", ".join(f"{n} in {part}" for part, n in group["part"].value_counts().items())
        about = {"leak": places, "contradiction": labels}.get(kind, f"{len(group)} in {labels}")
        yield Group(tuple(group["name"]), about, mixed=bool(group["label"].nunique() > 1))
