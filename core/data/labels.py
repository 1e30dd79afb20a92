"""From tables beside the images to classes and splits: which column is meant, which file a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import PurePosixPath

from core.data.cells import plain_cell
from core.data.members import clean_name
from core.data.tables import MOST_ROWS, read_table
from core.errors import ArchiveRefused

PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LABEL_COLUMNS = ("label", "class", "category", "target", "species", "labels", "class_name", "y")
FILE_COLUMNS = ("file", "filename", "file_name", "image", "path", "name", "image_id", "id")
SPLIT_COLUMNS = ("split", "part", "set", "subset", "fold")
Files = dict[str, str]
# The table that Headstart itself packs with a dataset.
PACKED_COLUMNS = ("file", "label", "split", "name")


@dataclass(frozen=True)
class Placed:
    """One image file: its name in the archive, its class, and its part where the user chose it.

    called: the name it had before it was packed, if that is another one.
    """

    name: str
    label: str
    part: str | None
    called: str = ""


@dataclass(frozen=True)
class Table:
    """A table about images: the file that each row means ("" for none of them), and its columns."""

    title: str
    files: list[str]
    header: list[str]
    body: list[list[str]]
    split_column: int | None
    label_columns: list[int]
    named: bool  # whether a label column was told by its name, not guessed


def from_tables(
    names: Sequence[str], texts: Mapping[str, str], *, named_only: bool = False
) -> Iterator[tuple[str, str, list[Placed]]]:
    """The readings that tables give, the likeliest first: key, title, class of each image.

    Tables that have a column in common and no image are read as one (train.csv beside val.csv).
    named_only: leave out tables that have no column called label, class, ….
    """
    known = cache(partial(files_by_key, names))  # For many tables a part is the same.
    tables = [t for name in sorted(texts) if (t := table_of(known, name, texts[name]))]
    tables = [table for table in tables if table.named or not named_only]
    done: set[tuple[str, str]] = set()
    for table in tables:
        for column in table.label_columns:
            title = table.header[column].strip()
            if (table.title, title) in done:
                continue
            together = companions(table, title, tables)
            done |= {(one.title, title) for one in together}
            placed = [p for one in together for p in rows_of(one, title, alone=len(together) == 1)]
            by_name = {one.name: one for one in placed}
            shown = ", ".join(one.title for one in together)
            key = f"{table.title}:{title}" if len(together) == 1 else f"tables:{title}"
            yield key, f"Column {title} of {shown}", list(by_name.values())


def companions(table: Table, column: str, tables: Sequence[Table]) -> list[Table]:
    """A table with those that go on where it ends: same column, other images, a class in common."""
    found = [table]
    for other in tables:
        if other is table or column not in [cell.strip() for cell in other.header]:
            continue
        images = {name for one in found for name in one.files if name}
        if images.isdisjoint(other.files) and classes_of(table, column) & classes_of(other, column):
            found.append(other)
    return found


def classes_of(table: Table, column: str) -> set[str]:
    """The values of a column; none for a table that says the same of all images, as samples do."""
    values = {one.label for one in rows_of(table, column, alone=True)}
    return values if len(values) > 1 else set()


def rows_of(table: Table, column: str, *, alone: bool) -> Iterator[Placed]:
    """Each image of a table with its class; its part from a column, else from the table's name."""
    place = [cell.strip() for cell in table.header].index(column)
    stem = "" if alone else PurePosixPath(table.title).stem.lower()
    for name, row in zip(table.files, table.body, strict=True):
        label = row[place].strip()
        said = stem if table.split_column is None else row[table.split_column].strip().lower()
        if name and label:
            yield Placed(name, label, PARTS.get(said))


def from_table(names: Sequence[str], text: str) -> list[Placed]:
    """Each image by its row in a CSV of file names and labels; empty if it is no such table.

    Labels are text as they stand: 001 and 1 are two classes, NA is one.
    """
    return next((placed for _, _, placed in from_tables(names, {"": text})), [])


def table_of(files_of: Callable[[str | None], Files], title: str, text: str) -> Table | None:
    """A CSV that says something of at least half of its rows' images; None if it is none.

    files_of: as `files_by_key`, which gives the files of a part, or all.
    """
    rows = read_table(text)
    if len(rows) < 2:
        return None
    by_key = files_of(PARTS.get(PurePosixPath(title).stem.lower()))
    header, body = rows[0], rows[1:]
    hits = [sum(row[c].strip() in by_key for row in body) for c in range(len(header))]
    by_name = named(header, FILE_COLUMNS)
    file_column = max(range(len(header)), key=lambda c: (hits[c], c == by_name))
    if hits[file_column] * 2 < len(body):
        return None
    files = [by_key.get(row[file_column].strip(), "") for row in body]
    split_column = named(header, SPLIT_COLUMNS)
    by_names = columns(header, LABEL_COLUMNS, {file_column, split_column})
    labels = by_names or plausible(body, {file_column, split_column})
    table = Table(title, files, header, body, split_column, labels, named=bool(by_names))
    return table if labels else None


def files_by_key(names: Sequence[str], part: str | None) -> Files:
    """The files by all that a table may call them; what may mean two files means neither.

    part: that of a table called train.csv; it means those below a folder train, if there are any.
    """
    inside = [n for n in names if part and part in parts_of(n)] or names
    found: dict[str, str] = {}
    for name in inside:
        for key in set(keys_of(name)):
            found[key] = "" if key in found else name
    return {key: name for key, name in found.items() if name} | {name: name for name in inside}


def parts_of(name: str) -> set[str | None]:
    """The parts that the folders of a file are called after."""
    return {PARTS.get(folder.lower()) for folder in name.split("/")[:-1]}


def keys_of(name: str) -> list[str]:
    """The ways in which a table may mean a file: whole path, tail, with and without its ending."""
    path = PurePosixPath(name)
    tails = ["/".join(path.parts[i:]) for i in range(len(path.parts))]
    return [*tails, path.stem]


def named(header: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The first column that has one of the wanted names."""
    lowered = [cell.strip().lower() for cell in header]
    return next((lowered.index(name) for name in wanted if name in lowered), None)


def columns(header: Sequence[str], wanted: Sequence[str], taken: set[int | None]) -> list[int]:
    """All columns that have one of the wanted names, in the order of those."""
    lowered = [cell.strip().lower() for cell in header]
    places = [lowered.index(name) for name in wanted if name in lowered]
    return [place for place in places if place not in taken]


def plausible(body: list[list[str]], taken: set[int | None]) -> list[int]:
    """The columns that may be labels, as they have few different values; the fewest come first."""
    kinds = {c: len({row[c] for row in body}) for c in range(len(body[0])) if c not in taken}
    usable = {c: n for c, n in kinds.items() if 2 <= n <= max(2, len(body) // 2)}
    return sorted(usable, key=usable.__getitem__)


def packed(names: Sequence[str], title: str, text: str) -> list[Placed]:
    """Each image as Headstart packed it; empty for any other table, or one that was tampered with.

    Names, classes and parts are then what they were, whatever the folders are called.
    """
    start = ",".join(PACKED_COLUMNS)
    if not text.startswith((start + "\r\n", start + "\n")):
        return []
    width = len(PACKED_COLUMNS)
    try:
        found = islice(csv.reader(io.StringIO(text, newline="")), MOST_ROWS)
        rows = [row for row in found if len(row) == width][1:]
    except csv.Error:
        return []
    folder = title[: title.rfind("/") + 1]
    by_file = {folder + plain_cell(row[0]): [plain_cell(cell) for cell in row[1:]] for row in rows}
    called = {name for _, _, name in by_file.values()}
    if len(called) < len(rows) or not set(names) <= set(by_file) or not all(map(is_clean, called)):
        return []
    told = [(file, *by_file[file]) for file in names]
    return [Placed(f, label, PARTS.get(part), name) for f, label, part, name in told if label]


def is_clean(name: str) -> bool:
    """Whether a name leads nowhere and is written as names from archives are."""
    try:
        return bool(name) and clean_name(name) == name
    except ArchiveRefused:
        return False
