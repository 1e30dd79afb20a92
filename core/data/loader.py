"""From a dataset to batches of pictures: decoded once, in threads, and read ahead.

Nothing is forked and nothing random is shared: each picture's randomness comes from (seed, epoch,
row), so that the same batch comes out whatever the number of threads.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from core.data.augment import Preprocessing, augmented, fitted, picture
from core.data.dataset import Dataset
from core.errors import ImageRefused
from core.schema import Augmentation
from core.settings import settings
from core.storage import free_bytes, whole_file

In = TypeVar("In")
Out = TypeVar("Out")
# Pictures of a dataset by row number: uint8 3×H×W.
Pictures = Callable[[int], Tensor]


def threaded(
    function: Callable[[In], Out], items: Iterable[In], threads: int, ahead: int
) -> Iterator[Out]:
    """`map` in threads, in order, at most `ahead` results waiting."""
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def from_files(dataset: Dataset, preprocessing: Preprocessing) -> Pictures:
    """Pictures decoded from their files, each time anew."""
    hashes = dataset.table["sha256"].to_numpy()

    def read(row: int) -> Tensor:
        try:
            return picture(dataset.path_of(hashes[row]).read_bytes(), preprocessing)
        except (OSError, ImageRefused) as error:
            name = dataset.table["name"].iloc[row]
            raise ImageRefused(
                f"The image {name} of {dataset.name} can no longer be read ({error}).",
                "Import the dataset again.",
            ) from error

    return read


def decoded(
    dataset: Dataset, preprocessing: Preprocessing, threads: int
) -> Iterator[int | Pictures]:
    """Every picture decoded once into one file; yields how many are, last the pictures.

    The file is found again by the next run with the same images and size. Where it would be too
    large for the limit or the disk, pictures are decoded from their files each time instead.
    """
    read = from_files(dataset, preprocessing)
    stage = [dataset.digest, preprocessing.short_side, preprocessing.interpolation]
    key = hashlib.sha256(json.dumps(stage).encode()).hexdigest()[:32]
    data_path = settings().cache / "pixels" / f"{key}.bin"
    index_path = data_path.with_suffix(".npy")
    if not (index_path.exists() and data_path.exists()):
        size = expected_bytes(dataset, preprocessing)
        room = free_bytes(settings().cache) - settings().min_free_bytes
        if size > min(settings().max_pixel_cache_bytes, room):
            yield read
            return
        shapes = []
        with whole_file(data_path) as file:
            pictures = threaded(read, range(len(dataset.table)), threads, 4 * threads)
            for done, pixels in enumerate(pictures, 1):
                file.write(pixels.numpy().tobytes())
                shapes.append(pixels.shape)
                yield done
        with whole_file(index_path) as file:
            np.save(file, np.asarray(shapes, dtype=np.int64))
    shape_of = np.load(index_path)
    ends = np.cumsum(np.prod(shape_of, axis=1))
    flat = np.memmap(data_path, dtype=np.uint8, mode="r")

    def slice_of(row: int) -> Tensor:
        content = flat[ends[row] - int(np.prod(shape_of[row])) : ends[row]]
        return torch.from_numpy(np.array(content).reshape(shape_of[row]))

    yield slice_of


def expected_bytes(dataset: Dataset, preprocessing: Preprocessing) -> int:
    """Size of all pictures once decoded."""
    sides = dataset.table[["width", "height"]].to_numpy(dtype=float)
    aspect = np.minimum(sides.max(axis=1) / sides.min(axis=1), 4)
    return int(3 * preprocessing.short_side**2 * aspect.sum())


def squares(
    pictures: Pictures, rows: Sequence[int], preprocessing: Preprocessing, batch: int, threads: int
) -> Iterator[Tensor]:
    """Batches of fitted pictures in the order of `rows`: uint8 B×3×S×S, the last one smaller."""
    fit = threaded(lambda row: fitted(pictures(row), preprocessing), rows, threads, 3 * batch)
    group: list[Tensor] = []
    for square in fit:
        group.append(square)
        if len(group) == batch:
            yield torch.stack(group)
            group = []
    if group:
        yield torch.stack(group)


def training_order(n: int, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Positions 0…n-1 in the random order of one epoch, cut into batches.

    A last batch of one image is joined to the one before it: batch norm cannot take it alone.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n)
    cuts = list(range(batch, n, batch))
    if cuts and n - cuts[-1] == 1 and batch > 1:
        cuts.pop()
    return np.split(order, cuts)


def augmented_batches(
    pictures: Pictures,
    preprocessing: Preprocessing,
    augmentation: Callable[[int, int], Augmentation],
    steps: Sequence[np.ndarray],
    seed: tuple[int, int],
    threads: int,
    first: int = 0,
) -> Iterator[Tensor]:
    """Augmented training batches, from step number `first` on: uint8 B×3×S×S.

    augmentation: how a row is changed when it comes for the nth time, from 0 on. steps: rows of all
    batches of the epoch. seed: (seed, epoch). A row that comes several times in an epoch comes in
    as many versions.
    """

    def version(row_and_turn: tuple[int, int]) -> Tensor:
        rng = np.random.default_rng([*seed, *row_and_turn])
        changes = augmentation(*row_and_turn)
        return augmented(pictures(row_and_turn[0]), changes, preprocessing, rng)

    turns: Counter[int] = Counter()
    items = [[(int(row), turn_of(turns, int(row))) for row in rows] for rows in steps][first:]
    longest = max(map(len, items), default=1)
    versions = threaded(version, chain.from_iterable(items), threads, 2 * longest)
    for group in items:
        yield torch.stack([next(versions) for _ in group])


def turn_of(turns: Counter[int], row: int) -> int:
    """How many times a row has come before; it is counted."""
    turns[row] += 1
    return turns[row] - 1
