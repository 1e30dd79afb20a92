"""A small gray picture of each image, taken while it is decoded, so that copies are found later.

They lie in the dataset's folder in `signatures.bin`: records of a fixed size, one for each content,
appended as images come in, and mapped instead of read, so that memory stays flat.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from core import machine
from core.data import images
from core.data.dataset import Dataset
from core.errors import HeadstartError, MachineRefused
from core.storage import in_turn

RECORD = np.dtype([("sha256", "S64"), ("gray", "u1", (images.GRAY_SIDE, images.GRAY_SIDE))])
BLOCK = 256


@contextmanager
def written(folder: Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """A function that adds one image's content hash and gray picture to a dataset's folder.

    Raises: MachineRefused when the disk is full.
    """
    try:
        mend(file_of(folder))
        with file_of(folder).open("ab") as file:

            def add(sha256: str, gray: np.ndarray) -> None:
                file.write(np.array((sha256.encode(), gray), dtype=RECORD).tobytes())

            yield add
    except OSError as error:
        raise MachineRefused(
            f"The signatures of the images could not be written: {error.strerror or error}.",
            "Free some disk space, or check who may write to HEADSTART_HOME.",
        ) from error


def file_of(folder: Path) -> Path:
    """Where a dataset's signatures lie."""
    return folder / "signatures.bin"


def mend(path: Path) -> None:
    """Cut off a record that a killed writer left unfinished."""
    if path.exists() and path.stat().st_size % RECORD.itemsize:
        os.truncate(path, path.stat().st_size // RECORD.itemsize * RECORD.itemsize)


def mapped(folder: Path) -> np.ndarray:
    """All whole records of a folder, on the disk still: K of RECORD."""
    path = file_of(folder)
    count = path.stat().st_size // RECORD.itemsize if path.exists() else 0
    return np.memmap(path, RECORD, "r", shape=(count,)) if count else np.empty(0, RECORD)


def places(records: np.ndarray, contents: Sequence[str]) -> np.ndarray:
    """Where each content's record is: N int64, −1 for none."""
    known = {sha256.decode(): place for place, sha256 in enumerate(records["sha256"])}
    return np.array([known.get(sha256, -1) for sha256 in contents], dtype=np.int64)


def of(dataset: Dataset, contents: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Gray pictures K×S×S uint8 on the disk, and which of them is each content's: N int64.

    Those that are missing, as in datasets of older versions, are made from the files and kept.
    """
    with in_turn(dataset.folder / ".signatures.lock"):
        known = places(mapped(dataset.folder), contents)
        missing = sorted({one for one, place in zip(contents, known, strict=True) if place < 0})
        if missing:
            add_missing(dataset, missing)
    records = mapped(dataset.folder)
    return records["gray"], places(records, contents) if missing else known


def add_missing(dataset: Dataset, missing: Sequence[str]) -> None:
    """Make signatures from the image files, some at a time, on all cores."""
    with ThreadPoolExecutor(machine.processors()) as pool, written(dataset.folder) as add:
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            grays = pool.map(lambda sha256: gray_of(dataset.path_of(sha256)), block)
            for sha256, gray in zip(block, grays, strict=True):
                add(sha256, gray)


class Both:
    """Gray pictures of two files as if they were one, on the disk still: K×S×S uint8."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self.first, self.second = first, second

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The pictures at some places: those of the second file follow those of the first."""
        places = np.asarray(places)
        found = np.empty((*places.shape, *self.first.shape[1:]), np.uint8)
        later = places >= len(self.first)
        found[~later] = self.first[places[~later]]
        found[later] = self.second[places[later] - len(self.first)]
        return found


def taken_over(former: Path, folder: Path, contents: Collection[str]) -> None:
    """Add to a folder's signatures those of some contents that another folder has."""
    records = mapped(former)
    wanted = np.flatnonzero([one.decode() in contents for one in records["sha256"]])
    with in_turn(folder / ".signatures.lock"), written(folder) as add:
        for place in wanted:
            add(records["sha256"][place].decode(), records["gray"][place])


def gray_of(path: Path) -> np.ndarray:
    """The gray picture of a stored image; black, which is like nothing, where it cannot be read."""
    try:
        return images.examine(path.read_bytes(), path.name).gray
    except (HeadstartError, OSError):
        return np.zeros((images.GRAY_SIDE, images.GRAY_SIDE), np.uint8)
