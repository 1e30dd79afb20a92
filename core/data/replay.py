"""From a dataset's journal to its table: each correction as a pure function, and their replay.

`journal.jsonl` has one line for each revision after the first; it only grows. The same lines over
the same first table give the same table, always, on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import DatasetRefused
from core.storage import Json, read_lines

COLUMNS = (
    "name", "label", "part", "sha256", "width", "height", "bytes", "format", "remarks", "group",
)  # fmt: skip
# Columns that datasets of older versions lack, with what then stands in them.
LATER_COLUMNS = {"group": ""}
# Those that corrections change. Cells of objects are exchanged a hundred times faster than text.
CHANGED = ("label", "part", "group")

Lines = Sequence[Json]
Apply = Callable[[pd.DataFrame, Json, Path], pd.DataFrame]


def journal_of(folder: Path) -> Path:
    """The file of a dataset's journal; there is none before the first correction."""
    return folder / "journal.jsonl"


def lines_of(folder: Path) -> Lines:
    """The journal of the dataset in a folder: a line for each revision after the first."""
    path = journal_of(folder)
    try:
        facts = path.stat()
    except OSError:
        return ()
    return _lines(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)
def _lines(path: Path, size: int, written: int) -> Lines:
    """Read once for each state of the file: this is asked for every image."""
    return tuple(read_lines(path))


def newest(lines: Lines) -> int:
    """The number of the newest revision."""
    return int(lines[-1]["revision"]) if lines else 1


def taken_back(lines: Lines) -> set[int]:
    """The revisions that do not count; an undo that is itself undone takes nothing back."""
    gone: set[int] = set()
    for line in reversed(lines):
        if line["action"] == "undo" and line["revision"] not in gone:
            gone.add(line["of"])
    return gone


def standing(lines: Lines) -> list[Json]:
    """The corrections that count, in order."""
    gone = taken_back(lines)
    return [one for one in lines if one["action"] != "undo" and one["revision"] not in gone]


def first_table(folder: Path) -> pd.DataFrame:
    """The table of revision 1, with every column of today."""
    table = pd.read_parquet(folder / "images.parquet")
    return table.assign(**missing(table))


@lru_cache(maxsize=16)
def _first_state(folder: Path) -> pd.DataFrame:
    """The first table as replay wants it; revisions share its cells in memory."""
    return state_of(first_table(folder))


def state_of(table: pd.DataFrame) -> pd.DataFrame:
    """A table as corrections work on it: found by name, with `excluded` (true or false)."""
    objects = {column: table[column].astype(object) for column in CHANGED}
    state = table.assign(**objects, excluded=False)
    return state.set_index(pd.Index(table["name"].to_numpy(dtype=object), dtype=object))


def state_at(folder: Path, lines: Lines) -> pd.DataFrame:
    """All images after these lines, those that are excluded too.

    Raises: DatasetRefused for a correction that this version does not know.
    """
    state = _first_state(folder)
    for line in standing(lines):
        if line["action"] not in APPLY:
            raise DatasetRefused(
                f"The journal has a correction that this version does not know ({line['action']}).",
                "Open the dataset with the version of Headstart that made it, or a newer one.",
            )
        state = APPLY[line["action"]](state, line, folder)
    return state


def table_at(folder: Path, lines: Lines) -> pd.DataFrame:
    """The table after these lines: sorted by name, without the excluded images."""
    if not lines:
        return first_table(folder)
    state = state_at(folder, lines)
    kept = state[~state["excluded"]].sort_values("name", ignore_index=True)
    return kept[list(COLUMNS)].astype({column: "str" for column in CHANGED})


def places(state: pd.DataFrame, names: Iterable[str]) -> np.ndarray:
    """Row numbers of the named images; names that are not there are passed over.

    A correction may stand after the addition that brought its images was taken back.
    """
    found = state.index.get_indexer(pd.Index(list(names), dtype=object))
    return np.asarray(found[found >= 0])


def filled(state: pd.DataFrame, column: str, rows: np.ndarray, value: object) -> pd.DataFrame:
    """The state with one value, or one for each row, in some rows of a column."""
    cells = state[column].to_numpy(copy=True)
    cells[rows] = value
    return state.assign(**{column: cells})


def relabelled(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """The named images in the class `to`."""
    return filled(state, "label", places(state, line["names"]), line["to"])


def excluded(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """The named images left out."""
    return filled(state, "excluded", places(state, line["names"]), True)


def included(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """The named images taken in again."""
    return filled(state, "excluded", places(state, line["names"]), False)


def kept(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """As it was: that somebody looked at images and found them fine changes none of them."""
    return state


def renamed(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """The images of the class `from`, excluded ones too, in the class `to`."""
    rows = np.nonzero(state["label"].to_numpy() == line["from"])[0]
    return filled(state, "label", rows, line["to"])


def merged(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """The images of all classes in `from` in the class `to`."""
    for label in line["from"]:
        state = renamed(state, {"from": label, "to": line["to"]}, folder)
    return state


def divided(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """Every image in the part and the group that the split gave it; others as they were."""
    given = pd.read_parquet(folder / line["parts"])
    found = state.index.get_indexer(pd.Index(given["name"].to_numpy(dtype=object), dtype=object))
    for column in ("part", "group"):
        values = given[column].to_numpy(dtype=object)[found >= 0]
        state = filled(state, column, found[found >= 0], values)
    return state


def added(state: pd.DataFrame, line: Json, folder: Path) -> pd.DataFrame:
    """The images of another upload besides."""
    table = pd.read_parquet(folder / line["added"])
    return pd.concat([state, state_of(table.assign(**missing(table)))])


def missing(table: pd.DataFrame) -> Json:
    """The columns of today that a table lacks, with their values."""
    return {column: value for column, value in LATER_COLUMNS.items() if column not in table}


APPLY: dict[str, Apply] = {
    "relabel": relabelled,
    "exclude": excluded,
    "include": included,
    "keep": kept,
    "rename": renamed,
    "merge": merged,
    "split": divided,
    "add": added,
}


def skipped_later(folder: Path, lines: Lines) -> list[Json]:
    """The files that additions left out, with the reason."""
    tables = [
        pd.read_parquet(folder / one["skipped"]) for one in standing(lines) if "skipped" in one
    ]
    return [
        {"file": str(file), "why": str(why)}
        for table in tables
        for file, why in zip(table["file"], table["why"], strict=True)
    ]
