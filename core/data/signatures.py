"""A small gray picture of each image, taken while it is decoded, so that copies are found later.

They lie in the dataset's folder in `signatures.bin`: records of a fixed size, one for each content,
appended as images come in, and read some at a time, so that memory stays flat.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from core import machine
from core.data import images
from core.data.dataset import Dataset
from core.errors import HeadstartError, MachineRefused
from core.machine import late_numpy as np
from core.storage import in_turn

# One image's record: the characters of its content's hash, then its gray picture.
HASH_BYTES, GRAY_BYTES = 64, images.GRAY_SIDE**2
RECORD_BYTES = HASH_BYTES + GRAY_BYTES
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
                file.write(np.array((sha256.encode(), gray), dtype=record_type()).tobytes())

            yield add
    except OSError as error:
        raise MachineRefused(
            f"The signatures of the images could not be written: {error.strerror or error}.",
            "Free some disk space, or check who may write to HEADSTART_HOME.",
        ) from error


def record_type() -> np.dtype[np.void]:
    """How numpy reads a record."""
    gray = (images.GRAY_SIDE, images.GRAY_SIDE)
    return np.dtype([("sha256", f"S{HASH_BYTES}"), ("gray", "u1", gray)])


def file_of(folder: Path) -> Path:
    """Where a dataset's signatures lie."""
    return folder / "signatures.bin"


def mend(path: Path) -> None:
    """Cut off a record that a killed writer left unfinished."""
    if path.exists() and path.stat().st_size % RECORD_BYTES:
        os.truncate(path, path.stat().st_size // RECORD_BYTES * RECORD_BYTES)


class Signatures:
    """The signatures in a folder: their hashes in memory, their gray pictures on the disk still.

    They are read and not mapped: mapped pages count as this process's memory, 4 KB an image.
    """

    def __init__(self, folder: Path) -> None:
        self.path = file_of(folder)
        self.hashes = hashes_in(self.path)

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The gray pictures at some places: as many, each S×S uint8."""
        places = np.asarray(places)
        found = np.empty((*places.shape, images.GRAY_SIDE, images.GRAY_SIDE), np.uint8)
        flat = found.reshape(places.size, images.GRAY_SIDE**2)
        with self.path.open("rb", buffering=0) as file:
            for picture, place in zip(flat, places.ravel().tolist(), strict=True):
                file.seek(place * RECORD_BYTES + HASH_BYTES)
                file.readinto(picture.data)
        return found

    def places(self, contents: Sequence[str]) -> np.ndarray:
        """Where each content's record is: N int64, −1 for none."""
        if not len(self):
            return np.full(len(contents), -1, dtype=np.int64)
        wanted, order = np.array(contents, dtype="S64"), np.argsort(self.hashes)
        near = np.searchsorted(self.hashes, wanted, sorter=order)
        found = order[np.minimum(near, len(order) - 1)]
        return np.where(self.hashes[found] == wanted, found, -1)


def hashes_in(path: Path) -> np.ndarray:
    """The hashes of all whole records of a file, K S64; read some records at a time."""
    count = path.stat().st_size // RECORD_BYTES if path.exists() else 0
    found = np.empty(count, f"S{HASH_BYTES}")
    for start in range(0, count, BLOCK):
        offset, most = start * RECORD_BYTES, min(BLOCK, count - start)
        found[start : start + most] = np.fromfile(path, record_type(), most, offset=offset)[
            "sha256"
        ]
    return found


def of(dataset: Dataset, contents: Sequence[str]) -> tuple[Signatures, np.ndarray]:
    """A dataset's signatures, and which of them is each content's: N int64.

    Those that are missing, as in datasets of older versions, are made from the files and kept.
    """
    with in_turn(dataset.folder / ".signatures.lock"):
        found = Signatures(dataset.folder)
        known = found.places(contents)
        missing = sorted({one for one, place in zip(contents, known, strict=True) if place < 0})
        if not missing:
            return found, known
        add_missing(dataset, missing)
        found = Signatures(dataset.folder)
    return found, found.places(contents)


def add_missing(dataset: Dataset, missing: Sequence[str]) -> None:
    """Make signatures from the image files, some at a time, on all cores."""
    with ThreadPoolExecutor(machine.processors()) as pool, written(dataset.folder) as add:
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            grays = pool.map(lambda sha256: gray_of(dataset.path_of(sha256)), block)
            for sha256, gray in zip(block, grays, strict=True):
                add(sha256, gray)


class Both:
    """Signatures of two folders as if they were one: the second's follow the first's."""

    def __init__(self, first: Signatures, second: Signatures) -> None:
        self.first, self.second = first, second

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """As `Signatures.__getitem__`."""
        places = np.asarray(places)
        found = np.empty((*places.shape, images.GRAY_SIDE, images.GRAY_SIDE), np.uint8)
        later = places >= len(self.first)
        found[~later] = self.first[places[~later]]
        found[later] = self.second[places[later] - len(self.first)]
        return found


def taken_over(former: Path, folder: Path, contents: Collection[str]) -> None:
    """Add to a folder's signatures those of some contents that another folder has."""
    found = Signatures(former)
    wanted = np.flatnonzero(np.isin(found.hashes, np.array(sorted(contents), dtype="S64")))
    with in_turn(folder / ".signatures.lock"), written(folder) as add:
        for place in wanted:
            add(found.hashes[place].decode(), found[np.array(place)])


def gray_of(path: Path) -> np.ndarray:
    """The gray picture of a stored image; black, which is like nothing, where it cannot be read."""
    try:
        return images.examine(path.read_bytes(), path.name).gray
    except (HeadstartError, OSError):
        return np.zeros((images.GRAY_SIDE, images.GRAY_SIDE), np.uint8)
