"""Which images a grid in the browser shows, and what it says of each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from core.auditing import findings as audits
from core.auditing.findings import Findings, Group
from core.auditing.kinds import KINDS
from core.data import dataset as datasets
from core.data import journal, split
from core.data.dataset import Dataset
from core.machine import late_pandas as pd
from core.schema import Recipe
from core.storage import Json

# Groups of more images are corrected as a selection: their names would be sent for each of them.
MOST_OFFERED = 200


@dataclass(frozen=True)
class Listing:
    """Images in the order in which a grid shows them.

    about: what a grid says of an image beside its own facts, by position; asides are there to be
    compared with and cannot be selected. groups: `size`, `text` and `offers` of each group, in
    order; offers are corrections that one click makes.
    """

    names: list[str]
    about: list[Json]
    groups: list[Json]

    @property
    def choosable(self) -> list[str | None]:
        """The names; None in the place of those that cannot be selected."""
        pairs = zip(self.names, self.about, strict=True)
        return [None if about.get("aside") else name for name, about in pairs]


def plain(names: list[str]) -> Listing:
    """Images of which there is nothing more to say."""
    return Listing(names, [{}] * len(names), [{"size": len(names), "text": "", "offers": []}])


def named(dataset: Dataset, labels: Sequence[str], part: str) -> list[str]:
    """Names of the images of these classes (all, if none is given), class by class.

    part: only those of this part of the usual split; "excluded" for those that were left out; ""
    for all that were not.
    """
    return list(_named(dataset.id, dataset.revision, tuple(labels), part))


@lru_cache(maxsize=16)
def _named(dataset_id: str, revision: int, labels: tuple[str, ...], part: str) -> tuple[str, ...]:
    """Sorted once: a grid asks for every page of it, and revisions never change."""
    dataset = datasets.load(dataset_id, revision)
    table = journal.excluded(dataset) if part == "excluded" else dataset.table
    keep = np.ones(len(table), dtype=bool)
    if labels:
        keep &= table["label"].isin(list(labels)).to_numpy()
    if part in split.PARTS:
        keep &= usual_parts(dataset_id, revision) == part
    return tuple(table[keep].sort_values(["label", "name"], kind="stable")["name"])


@lru_cache(maxsize=8)
def usual_parts(dataset_id: str, revision: int) -> np.ndarray:
    """The part of each image as the recipe's defaults divide a revision; revisions never change.

    Raises: DatasetRefused where they cannot be divided.
    """
    usual = Recipe()
    return split.split(datasets.load(dataset_id, revision), usual.data.split, usual.seed)


def of_finding(dataset: Dataset, kind: str) -> Listing:
    """The images of a finding; groups, and images beside those they are compared with, together."""
    groups = findings_of(dataset).of(kind)
    apart = kind in KINDS and (KINDS[kind].of_groups or any(group.near for group in groups))
    if not apart:
        about = [{"caption": group.about} if group.about else {} for group in groups]
        names = [group.names[0] for group in groups]
        return Listing(names, about, plain(names).groups)
    return Listing(
        [name for group in groups for name in (*group.names, *group.near)],
        [one for group in groups for one in about_of(group)],
        [
            {
                "size": len(group.names) + len(group.near),
                "text": group.about or f"{len(group.names)} images",
                "offers": offers(kind, group),
            }
            for group in groups
        ],
    )


def about_of(group: Group) -> list[Json]:
    """What is to be said of each image of a group."""
    return [{"probable": group.to}] * len(group.names) + [{"aside": True}] * len(group.near)


def offers(kind: str, group: Group) -> list[Json]:
    """The corrections of a group that one click makes; of a very large one there are none."""
    if len(group.names) > MOST_OFFERED:
        return []
    return [
        {
            "action": one["action"], "names": one["names"], "label": one.get("to", ""),
            "title": title(one),
        }
        for one in (audits.suggestion(kind, group), audits.looked_at(kind, group))
        if one is not None
    ]  # fmt: skip


def title(correction: Json) -> str:
    """What a button for a correction says."""
    many = "" if len(correction["names"]) == 1 else f" {len(correction['names'])}"
    words = {
        "exclude": f"Exclude{many}",
        "relabel": f"Relabel to {correction.get('to', '')}",
        "keep": "Keep",
    }
    return words[correction["action"]]


def suggested(dataset: Dataset, kind: str) -> list[str]:
    """All images of a finding that its suggestions would exclude."""
    found = (audits.suggestion(kind, group) for group in findings_of(dataset).of(kind))
    return [name for one in found if one and one["action"] == "exclude" for name in one["names"]]


def findings_of(dataset: Dataset) -> Findings:
    """What was found in a revision; nothing before any audit."""
    files = (dataset.folder / "audits").glob("*.json")
    written = max((path.stat().st_mtime_ns for path in files), default=0)
    return _findings(dataset.id, dataset.revision, written)


@lru_cache(maxsize=8)
def _findings(dataset_id: str, revision: int, written: int) -> Findings:
    """Read once for each audit: a grid asks for every page of it."""
    dataset = datasets.load(dataset_id, revision)
    return audits.load(dataset) or Findings(dataset_id, revision, dataset.digest, ())


@lru_cache(maxsize=8)
def rows_of(dataset_id: str, revision: int) -> pd.DataFrame:
    """All images of a revision by name, excluded ones too."""
    dataset = datasets.load(dataset_id, revision)
    table = pd.concat([dataset.table, journal.excluded(dataset)])
    return table.set_index(pd.Index(table["name"].to_numpy(dtype=object), dtype=object))


def items(
    dataset: Dataset, names: Sequence[str], about: Sequence[Json] | None = None
) -> list[Json]:
    """What a grid shows of each named image; names that the dataset lacks are passed over.

    about: more of each, which goes before what is known anyway.
    """
    rows = rows_of(dataset.id, dataset.revision)
    places = rows.index.get_indexer(pd.Index(list(names), dtype=object))
    found = rows.iloc[places[places >= 0]].to_dict("records")
    more = about or [{}] * len(names)
    told = [one for one, place in zip(more, places, strict=True) if place >= 0]
    return [{**item(dataset.id, row), **one} for row, one in zip(found, told, strict=True)]


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
