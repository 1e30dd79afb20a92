"""From file names alone to classes and splits: what people mean by the way they sorted photos."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.data.images import IMAGE_ENDINGS
from core.errors import DatasetRefused

PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
JUNK = frozenset(("__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "__pycache__"))
LABEL_COLUMNS = ("label", "class", "category", "target", "species", "labels", "class_name", "y")
FILE_COLUMNS = ("file", "filename", "file_name", "image", "path", "name", "image_id", "id")
SPLIT_COLUMNS = ("split", "part", "set", "subset", "fold")
EXPECTED = (
    "Put each class in a folder of its own (photos/ants/…, photos/bees/…), or the images beside "
    "one CSV file with the columns file and label."
)


@dataclass(frozen=True)
class Placed:
    """One image file: its name in the archive, its class, and its part where the user chose it."""

    name: str
    label: str
    part: str | None


def is_junk(name: str) -> bool:
    """Whether a file is the leftover of some program: hidden, or known to be one."""
    return any(p.startswith(".") or p.lower() in JUNK for p in name.split("/"))


def is_image_name(name: str) -> bool:
    """Whether a file is meant as an image; one without an ending may be."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in IMAGE_ENDINGS or not suffix


def place(names: Sequence[str], tables: Mapping[str, str]) -> list[Placed]:
    """Class and part of every image.

    names: of the image files, with `/`. tables: text of each CSV file by its name.
    Raises: DatasetRefused when no way of reading the folders gives two classes.
    """
    by_folder = from_folders(names)
    classes = {placed.label for placed in by_folder}
    if len(classes) < 2 or all(label.lower() in PARTS for label in classes):
        for text in tables.values():
            by_table = from_table(names, text)
            if len({placed.label for placed in by_table}) >= 2:
                return by_table
    if not names:
        raise DatasetRefused("There are no images in it.", EXPECTED)
    if not classes:
        raise DatasetRefused("The images are not sorted into classes.", EXPECTED)
    if len(classes) < 2:
        shown = next(iter(classes))[:80]
        raise DatasetRefused(f"There are images of one class only ({shown}).", EXPECTED)
    return by_folder


def from_folders(names: Sequence[str]) -> list[Placed]:
    """Each image by the folder it is in: below the wrapping folders, and below train/val/test.

    Files that lie beside the class folders have no class and are left out.
    """
    pairs = [(name, tuple(name.split("/")[:-1])) for name in names]
    pairs = below(pairs, shared(pairs))
    part_of = {name: part for name, folders in pairs if (part := PARTS.get(folders[0].lower()))}
    inside = [(n, folders[1:]) for n, folders in pairs if n in part_of and len(folders) > 1]
    inner = below(inside, shared(inside))
    trained_on = {folders[0] for name, folders in inner if part_of[name] == "train"}
    # Other folders beside train and test ("images to test") hold what nobody has labelled.
    if len(trained_on) < 2 or len(set(part_of.values())) < 2:
        return [Placed(name, folders[0], None) for name, folders in pairs]
    return [Placed(name, folders[0], part_of[name]) for name, folders in inner]


Pairs = list[tuple[str, tuple[str, ...]]]


def below(pairs: Pairs, depth: int) -> Pairs:
    """The images that lie in folders below a depth, those folders alone."""
    return [(name, folders[depth:]) for name, folders in pairs if len(folders) > depth]


def shared(pairs: Pairs) -> int:
    """How many leading folders only wrap the class folders: one at each depth, more below it."""
    depth = 0
    while True:
        here = {folders[depth] for _, folders in pairs if len(folders) > depth}
        deeper = any(len(folders) > depth + 1 for _, folders in pairs)
        if len(here) != 1 or not deeper:
            return depth
        depth += 1


def from_table(names: Sequence[str], text: str) -> list[Placed]:
    """Each image by its row in a CSV of file names and labels; empty if it is no such table.

    Labels are text as they stand: 001 and 1 are two classes, NA is one.
    """
    rows = read_table(text)
    if len(rows) < 2:
        return []
    by_key = {key: name for name in names for key in keys_of(name)}
    header, body = rows[0], rows[1:]
    hits = [sum(row[c].strip() in by_key for row in body) for c in range(len(header))]
    by_name = named(header, FILE_COLUMNS)
    file_column = max(range(len(header)), key=lambda c: (hits[c], c == by_name))
    if hits[file_column] * 2 < len(body):
        return []
    split_column = named(header, SPLIT_COLUMNS)
    label_column = guessed(header, body, {file_column, split_column})
    if label_column is None:
        return []
    placed: dict[str, Placed] = {}
    for row in body:
        name = by_key.get(row[file_column].strip())
        label = row[label_column].strip()
        if name and label:
            said = "" if split_column is None else row[split_column].strip().lower()
            part = PARTS.get(said)
            placed[name] = Placed(name, label, part)
    return list(placed.values())


def read_table(text: str) -> list[list[str]]:
    """The rows of a CSV whose rows all have as many cells as its header."""
    sample = text.lstrip("\ufeff")
    try:
        dialect: type[csv.Dialect] | str = csv.Sniffer().sniff(sample[:10_000], ",;\t|")
    except csv.Error:
        dialect = "excel"
    try:
        rows = list(csv.reader(io.StringIO(sample), dialect))
    except csv.Error:
        return []
    width = len(rows[0]) if rows else 0
    return [row for row in rows if len(row) == width and width >= 2]


def keys_of(name: str) -> list[str]:
    """The ways in which a table may mean a file: whole path, tail, with and without its ending."""
    path = PurePosixPath(name)
    tails = ["/".join(path.parts[i:]) for i in range(len(path.parts))]
    return [*tails, path.stem]


def named(header: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The first column that has one of the wanted names."""
    lowered = [cell.strip().lower() for cell in header]
    return next((lowered.index(name) for name in wanted if name in lowered), None)


def guessed(header: Sequence[str], body: list[list[str]], taken: set[int | None]) -> int | None:
    """The column of labels: by its name, else the one with fewest different values (at least 2).

    taken: columns that mean something else.
    """
    by_name = named(header, LABEL_COLUMNS)
    if by_name is not None and by_name not in taken:
        return by_name
    kinds = {c: len({row[c] for row in body}) for c in range(len(header)) if c not in taken}
    usable = {c: n for c, n in kinds.items() if 2 <= n <= max(2, len(body) // 2)}
    return min(usable, key=usable.__getitem__) if usable else None
