"""From a dataset's journal to its table: each correction as a pure function, and their replay.

`journal.jsonl` has one line for each revision after the first; it only grows. The same lines over
the same first table give the same table, always, on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from core.data.state import State, joined, state_of, with_columns
from core.errors import DatasetRefused
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.storage import Json, read_lines

Lines = Sequence[Json]
Apply = Callable[[State, Json, Path], State]


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


def saved_split(folder: Path, revision: int) -> Json | None:
    """The line that made the split of a revision; None where the dataset or a recipe says it."""
    made = [line for line in lines_of(folder) if line["revision"] <= revision]
    found = [line for line in standing(made) if line["action"] == "split"]
    return found[-1] if found else None


def first_table(folder: Path) -> pd.DataFrame:
    """The table of revision 1, with every column of today."""
    return with_columns(pd.read_parquet(folder / "images.parquet"))


@lru_cache(maxsize=16)
def _first_state(folder: Path) -> State:
    """Read once: revisions share its cells in memory."""
    return state_of(first_table(folder))


def state_at(folder: Path, lines: Lines) -> State:
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
    return state.rows(~state.excluded)


def moved(state: State, rows: np.ndarray, label: str) -> State:
    """Some images (row numbers, or N bool) in another class."""
    state, code = state.code_of(label)
    codes = state.codes.copy()
    codes[rows] = code
    return replace(state, codes=codes)


def relabelled(state: State, line: Json, folder: Path) -> State:
    """The named images in the class `to`."""
    return moved(state, state.known(line["names"]), line["to"])


def left_out(state: State, line: Json, *, out: bool) -> State:
    """The named images excluded, or not."""
    flags = state.excluded.copy()
    flags[state.known(line["names"])] = out
    return replace(state, excluded=flags)


def excluded(state: State, line: Json, folder: Path) -> State:
    """The named images left out."""
    return left_out(state, line, out=True)


def included(state: State, line: Json, folder: Path) -> State:
    """The named images taken in again."""
    return left_out(state, line, out=False)


def kept(state: State, line: Json, folder: Path) -> State:
    """As it was: that somebody looked at images and found them fine changes none of them."""
    return state


def renamed(state: State, line: Json, folder: Path) -> State:
    """The images of the class `from`, excluded ones too, in the class `to`."""
    return merged(state, {"from": [line["from"]], "to": line["to"]}, folder)


def merged(state: State, line: Json, folder: Path) -> State:
    """The images of all classes in `from` in the class `to`."""
    former = np.array([name in line["from"] for name in state.classes], dtype=bool)
    return moved(state, former[state.codes], line["to"])


def divided(state: State, line: Json, folder: Path) -> State:
    """Every image in the part and the group that the split gave it; others as they were."""
    given = pd.read_parquet(folder / line["parts"])
    rows = state.places(given["name"])
    there = rows >= 0
    parts, groups = state.parts.copy(), state.groups.copy()
    parts[rows[there]] = given["part"].to_numpy(dtype=object)[there]
    groups[rows[there]] = given["group"].to_numpy(dtype=object)[there]
    return replace(state, parts=parts, groups=groups)


def added(state: State, line: Json, folder: Path) -> State:
    """The images of another upload besides.

    They lose the parts they were drawn for when the split that they were drawn for is taken back.
    """
    table = with_columns(pd.read_parquet(folder / line["added"]))
    if "regrouped" in line:
        state = regrouped(state, pd.read_parquet(folder / line["regrouped"]))
    return joined(state, table if state.parts.any() else table.assign(part=""))


def regrouped(state: State, given: pd.DataFrame) -> State:
    """Some images in other groups, also for splits that are made later."""
    rows, groups, copies = (
        state.places(given["name"]),
        state.groups.copy(),
        state.table["group"].copy(),
    )
    there = rows >= 0
    new = given["group"].to_numpy(dtype=object)[there]
    groups[rows[there]] = new
    copies.iloc[rows[there]] = new
    return replace(state, groups=groups, table=state.table.assign(group=copies))


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


def notes_later(lines: Lines) -> list[str]:
    """What additions had to say about the whole."""
    return [sentence for one in standing(lines) for sentence in one.get("notes", ())]


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
