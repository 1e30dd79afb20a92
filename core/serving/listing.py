"""Which images a grid in the browser shows, and what it says of each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from core.data import dataset as datasets
from core.data import journal, split
from core.data.dataset import Dataset
from core.schema import Recipe
from core.storage import Json


def named(dataset: Dataset, labels: Sequence[str], part: str) -> list[str]:
    """Names of the images of these classes (all, if none is given), class by class.

    part: only those of this part of the usual split; "excluded" for those that were left out; ""
    for all that were not.
    """
    table = journal.excluded(dataset) if part == "excluded" else dataset.table
    keep = np.ones(len(table), dtype=bool)
    if labels:
        keep &= table["label"].isin(list(labels)).to_numpy()
    if part in split.PARTS:
        keep &= usual_parts(dataset.id, dataset.revision) == part
    return list(table[keep].sort_values(["label", "name"], kind="stable")["name"])


@lru_cache(maxsize=8)
def usual_parts(dataset_id: str, revision: int) -> np.ndarray:
    """The part of each image as the recipe's defaults divide a revision; revisions never change.

    Raises: DatasetRefused where they cannot be divided.
    """
    usual = Recipe()
    return split.split(datasets.load(dataset_id, revision), usual.data.split, usual.seed)


@lru_cache(maxsize=8)
def rows_of(dataset_id: str, revision: int) -> pd.DataFrame:
    """All images of a revision by name, excluded ones too."""
    dataset = datasets.load(dataset_id, revision)
    table = pd.concat([dataset.table, journal.excluded(dataset)])
    return table.set_index(pd.Index(table["name"].to_numpy(dtype=object), dtype=object))


def items(dataset: Dataset, names: Sequence[str]) -> list[Json]:
    """What a grid shows of each named image; names that the dataset lacks are passed over."""
    rows = rows_of(dataset.id, dataset.revision)
    found = rows.index.get_indexer(pd.Index(list(names), dtype=object))
    return [item(dataset.id, row) for row in rows.iloc[found[found >= 0]].to_dict("records")]


def item(dataset_id: str, row: dict[Hashable, Any]) -> Json:
    """One image as a grid in the browser wants it."""
    remarks = f"\n{row['remarks']}" if row["remarks"] else ""
    return {
        **pictures(dataset_id, row["sha256"]),
        "id": row["name"],
        "title": row["label"],
        "caption": row["name"].rpartition("/")[2],
        "facts": f"{row['name']}\nClass {row['label']}, {row['width']} × {row['height']} pixels, "
        f"{row['format']}, {row['bytes'] / 1000:,.0f} kB{remarks}",
    }


def pictures(dataset_id: str, sha256: str) -> Json:
    """Where an image is, small and large."""
    base = f"/api/datasets/{dataset_id}"
    return {"src": f"{base}/thumbnails/{sha256}", "large": f"{base}/pictures/{sha256}"}
