"""A second upload into a dataset: its new images become a revision, those it has already do not.

Contents go into the dataset's folder first, under their hashes, where nothing reads them yet; then
one line of the journal makes the revision. An addition that dies before it has changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from core.data import dataset as datasets
from core.data import grouping, journal, names, replay, signatures, split, twins
from core.data.actions import Before
from core.data.dataset import Dataset
from core.storage import Json, sync_folder, sync_tree

# Of the content that a group is named after.
NAME_LENGTH = 16


def append(
    dataset_id: str,
    folder: Path,
    rows: Sequence[Json],
    skipped: Sequence[Json],
    name: str = "",
    who: str = "",
) -> Dataset:
    """Add images whose contents lie in `folder/images`; the dataset after it.

    rows, skipped: as `dataset.write` takes them. Images whose content the dataset has, excluded
    ones too, are skipped as well. name: what the journal calls the upload.
    Raises: DatasetRefused when there is nothing new; what `journal.record` raises.
    """
    settle(folder, datasets.folder_of(dataset_id), rows)
    with journal.writing(dataset_id) as home:
        before = journal.now(home)
        fresh, copies = sifted(before, rows)
        table = datasets.table_of(fitting(before, renamed(before, home, fresh)))
        action = {
            "action": "add",
            "name": name,
            "added": beside_copies(before.dataset, table),
            "skipped": pd.DataFrame([*skipped, *copies], columns=["file", "why"], dtype="str"),
        }
        journal.write(home, before, action, who)
    return datasets.load(dataset_id)


def settle(folder: Path, home: Path, rows: Sequence[Json]) -> None:
    """Move contents into a dataset's folder, safely on the disk; those that are there stay."""
    sync_tree(folder)
    touched = set()
    for sha256 in {str(row["sha256"]) for row in rows}:
        former = folder / "images" / sha256[:2] / sha256
        path = home / "images" / sha256[:2] / sha256
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            former.replace(path)
            touched.add(path.parent)
    for parent in touched:
        sync_folder(parent)
    with signatures.written(home) as sign:
        for record in signatures.mapped(folder):
            sign(record["sha256"].decode(), record["gray"])


def sifted(before: Before, rows: Sequence[Json]) -> tuple[list[Json], list[Json]]:
    """The rows whose content is new, and what is to be said of the others."""
    state = before.state
    here = zip(state.index, state.labels, strict=True)
    known = dict(zip(state.table["sha256"], here, strict=True))
    out = set(state.index[state.excluded])
    fresh, twins = [], []
    for row in rows:
        twin = known.get(row["sha256"])
        if twin is None:
            known[row["sha256"]] = row["name"], row["label"]
            fresh.append(row)
        else:
            where = "is excluded" if twin[0] in out else f"is of the class {twin[1]}"
            twins.append(
                {"file": row["name"], "why": f"It is the same as {twin[0]}, which {where}."}
            )
    return fresh, twins


def renamed(before: Before, home: Path, rows: Sequence[Json]) -> list[Json]:
    """The rows under names that no image of the dataset ever had.

    Also of additions that were taken back: they may come back.
    """
    lines = [line for line in before.lines if line["action"] == "add"]
    tables = [replay.first_table(home), *(pd.read_parquet(home / one["added"]) for one in lines)]
    taken = {name for table in tables for name in table["name"]}
    new = names.distinct([row["name"] for row in rows], taken)
    return [{**row, "name": name} for row, name in zip(rows, new, strict=True)]


def fitting(before: Before, rows: Sequence[Json]) -> list[Json]:
    """The rows without parts, where the dataset has none: a few images do not fix its split."""
    if before.state.parts.any():
        return list(rows)
    return [{**row, "part": ""} for row in rows]


def beside_copies(dataset: Dataset, table: pd.DataFrame) -> pd.DataFrame:
    """New images in the group of their near-duplicates, and in the part of those the dataset has.

    A group is named after a content in it, so that one that was alone before needs no change. Where
    a split was saved, its way of grouping by name counts too, and what belongs to no old image is
    divided in its shares.
    """
    union = pd.concat([dataset.table, table], ignore_index=True)
    fresh = np.arange(len(union)) >= len(dataset.table)
    found = twins.groups(replace(dataset, table=union), fresh)
    saved = replay.saved_split(dataset.folder, dataset.revision)
    if saved:
        found = grouping.merged(union.assign(group=found), saved["group_by"])
    known: dict[str, tuple[str, str]] = {"": ("", "")}
    columns = [dataset.table[column] for column in ("group", "sha256", "part")]
    for name, group, sha256, part in zip(found, *columns, strict=False):  # the old ones alone
        # Without a part beside others that have one, an image is learned from: `split.given`.
        of_old = part or ("train" if saved else "")
        known.setdefault(name, (group or sha256[:NAME_LENGTH], of_old))
    new = [known.get(name, (name, "")) for name in found[len(dataset.table) :]]
    parts = [part or beside for part, (_, beside) in zip(table["part"], new, strict=True)]
    grouped = table.assign(group=[group for group, _ in new], part=parts).astype(
        {"group": "str", "part": "str"}
    )
    return divided(grouped, saved) if saved else grouped


def divided(table: pd.DataFrame, saved: Json) -> pd.DataFrame:
    """New images that have no part yet in parts of their own, as a saved split was drawn."""
    parts = table["part"].to_numpy(dtype=str)
    of_group = {group: part for group, part in zip(table["group"], parts, strict=True) if part}
    of_group[""] = ""
    beside = np.array([of_group.get(group, "") for group in table["group"]], dtype=str)
    parts = np.where(parts == "", beside, parts)
    drawn = split.draw(table, parts == "", split.PARTS, saved["shares"], saved["seed"])
    return table.assign(part=np.where(parts == "", drawn, parts)).astype({"part": "str"})
