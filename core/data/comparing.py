"""What differs between two revisions of a dataset: from their tables alone, whatever was done."""

from __future__ import annotations

from dataclasses import dataclass

from core.data import dataset as datasets
from core.machine import late_pandas as pd
from core.storage import Json

# What of an image may differ between two revisions, and what that is called.
DIFFERENCES = {"label": "relabelled", "part": "moved", "group": "regrouped"}
WORDS = {
    "added": "added",
    "removed": "removed",
    "relabelled": "relabelled",
    "moved": "moved to another part",
    "regrouped": "in another group",
}


@dataclass(frozen=True)
class Comparison:
    """What differs between revision `former` and revision `later`.

    rows: for a table, each with `change` (added, removed, relabelled, moved, regrouped, renamed),
    `image` (its name; "" where a class was renamed), `from` and `to` (classes, parts or groups).
    sentence: the same as counts.
    """

    former: int
    later: int
    rows: tuple[Json, ...]
    sentence: str


def compare(dataset_id: str, former: int, later: int) -> Comparison:
    """What differs between two revisions, seen from `former`.

    A class whose images are all of one new class is renamed; its images are not relabelled too.
    Raises: NotFound.
    """
    before = datasets.load(dataset_id, former).table.set_index("name")
    after = datasets.load(dataset_id, later).table.set_index("name")
    common = before.index.intersection(after.index)
    before, after = before.astype(object), after.astype(object)
    names = renamed(before, after, common)
    rows = [row("renamed", "", one, other) for one, other in names.items()]
    rows += [row("added", name, "", label) for name, label in gone(after, before)]
    rows += [row("removed", name, label, "") for name, label in gone(before, after)]
    for column, change in DIFFERENCES.items():
        olds, news = before[column].loc[common], after[column].loc[common]
        shown = olds.replace(names) if column == "label" else olds
        different = (shown != news).to_numpy()
        rows += [
            row(change, *cells)
            for cells in zip(
                common[different], olds[different], news[different], strict=True
            )
        ]  # fmt: skip
    return Comparison(former, later, tuple(rows), in_words(former, later, rows))


def row(change: str, image: str, former: str, later: str) -> Json:
    """One difference."""
    return {"change": change, "image": image, "from": former, "to": later}


def gone(table: pd.DataFrame, other: pd.DataFrame) -> list[tuple[str, str]]:
    """Name and class of each image of one table that the other lacks."""
    labels = table["label"][~table.index.isin(other.index)]
    return list(zip(labels.index, labels, strict=True))


def renamed(before: pd.DataFrame, after: pd.DataFrame, common: pd.Index) -> dict[str, str]:
    """New names of classes by their old ones: the old one is gone, the new one was not there."""
    pairs = pd.DataFrame({"old": before["label"].loc[common], "new": after["label"].loc[common]})
    pairs = pairs.drop_duplicates()
    olds, news = set(before["label"]), set(after["label"])
    pairs = pairs[~pairs["new"].isin(olds) & ~pairs["old"].isin(news)]
    pairs = pairs[~pairs.duplicated("old", keep=False) & ~pairs.duplicated("new", keep=False)]
    return dict(zip(pairs["old"], pairs["new"], strict=True))


def in_words(former: int, later: int, rows: list[Json]) -> str:
    """The differences as one sentence."""
    counts = {change: sum(one["change"] == change for one in rows) for change in WORDS}
    told = [f"{n:,} {plural(n)} {WORDS[change]}" for change, n in counts.items() if n]
    told += [f"class {r['from']} renamed to {r['to']}" for r in rows if r["change"] == "renamed"]
    said = ", ".join(told) or "nothing differs"
    return f"From revision {former} to {later}: {said}."


def plural(n: int) -> str:
    """Image or images."""
    return "image" if n == 1 else "images"
