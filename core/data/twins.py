"""Images that are copies of one picture, however they were saved: found, paired and grouped.

A near-duplicate here is the same picture, re-encoded, resized, cropped by up to a tenth of each
side, made brighter or darker, or all of these at once. It is looked for in gray, so a recolored or
a gray copy counts. Not near-duplicates are: mirrored and turned copies, larger crops, the next
photo of a series unless it agrees in every detail, and pictures of one thing taken anew.
Pictures under 32 pixels a side have too little detail to tell: only identical pixels count there.

Three steps, each for what the former leaves: a low-pass of each picture against all others (blocks
of matrix products), the distance to what small shifts and stretches would make of it (tangent
distance; Simard, LeCun and Denker 1993), and registration (`alignment`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeVar

from core import machine
from core.data import alignment, signatures
from core.data.alignment import Grays
from core.data.dataset import Dataset
from core.data.grouping import NAME_LENGTH
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.storage import Json

# Cosines of the low-pass below which no pair is looked at: 95 % of copies changed in every way at
# once have more than 0.76 (hands before a wall; 0.88 insects), and 0.3 % of two different photos.
LEAST_COSINE = 0.7
# The same after small shifts and stretches: copies 0.95 (95 % of them), other photos 0.01 %.
LEAST_AFTER_SHIFTS = 0.93
# Frequencies along both sides together; more would tell photos apart better, but also crops.
FREQUENCIES = 11
# Where everything is alike, as many are registered with one image: those most alike after shifts.
MOST_REGISTERED = 16
# And of each block of 16,384 images, as many are shifted: 95 % of copies of hands among 2,062
# hands before the same wall are among the 34 with the largest cosines.
MOST_SHIFTED = 256
SMALLEST_SIDE = 32
# Root mean square of a low-pass, in gray levels, under which a picture is plain.
LEAST_CONTRAST = 2.0
# Larger groups must be copies of one picture, not a chain in which each is like the next.
LONGEST_CHAIN = 100
# A block of cosines is 16 MB, and each thread has one.
ROWS, COLUMNS, MOST_THREADS = 256, 16384, 8
HALF = 32
# How much of the whole search it is to find the pairs that are then registered.
SHARE_OF_FINDING = 0.5
Result = TypeVar("Result")
# Yields how much is done, from 0 to 1, and returns what it found.
Steps = Generator[float, None, Result]


class Pair(NamedTuple):
    """Two images by name, how alike they are (0.88–1), and whether "exact" or "near"."""

    first: str
    second: str
    similarity: float
    kind: str


def pairs(dataset: Dataset) -> list[Pair]:
    """All copies in a dataset: each exact one beside the first of its content, and near ones.

    A content stands for all its exact copies, so that near pairs name the first of each.
    """
    firsts = dataset.table.drop_duplicates("sha256")
    name_of = dict(zip(firsts["sha256"], firsts["name"], strict=True))
    again = dataset.table[dataset.table.duplicated("sha256")]
    exact = [
        Pair(name_of[sha256], name, 1.0, "exact")
        for sha256, name in zip(again["sha256"], again["name"], strict=True)
    ]
    grays, places = signatures.of(dataset, list(firsts["sha256"]))
    found, similarity = finished(near(grays, places, sides_of(firsts)))
    names = firsts["name"].to_numpy()
    return exact + [
        Pair(names[i], names[j], float(value), "near")
        for (i, j), value in zip(found, similarity, strict=True)
    ]


def groups(dataset: Dataset, fresh: np.ndarray | None = None) -> np.ndarray:
    """The group of each image, N text; "" for those that have no copy.

    fresh: N bool; near-duplicates are looked for only beside images that are fresh.
    """
    grays, places = signatures.of(dataset, list(dataset.table["sha256"]))
    return finished(grouped(dataset.table, grays, places, fresh))


def finished(steps: Steps[Result]) -> Result:
    """What is found when nobody looks at the progress."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]


def fill(folder: Path, rows: Sequence[Json]) -> Steps[None]:
    """Give each row of a dataset that is being written its `group`; its signatures are there."""
    table = pd.DataFrame(rows, columns=["sha256", "width", "height"])
    found = signatures.Signatures(folder)
    groups = yield from grouped(table, found, found.places(list(table["sha256"])))
    for row, group in zip(rows, groups, strict=True):
        row["group"] = str(group)


def grouped(
    table: pd.DataFrame, grays: Grays, places: np.ndarray, fresh: np.ndarray | None = None
) -> Steps[np.ndarray]:
    """The group of each row, N text: named after the least hash in it, whatever the order.

    table: columns sha256, width and height. grays: K×64×64 uint8; places: N, each row's in it.
    fresh: as in `groups`.
    """
    table = table.assign(place=places, fresh=True if fresh is None else fresh)
    firsts = table.drop_duplicates("sha256").sort_values("sha256")
    places = firsts["place"].to_numpy()
    found, _ = yield from near(grays, places, sides_of(firsts), firsts["fresh"].to_numpy())
    number = without_chains(components(len(firsts), found), found, grays, places)
    contents = firsts["sha256"].to_numpy(dtype=str)
    leader = table["sha256"].map(dict(zip(contents, contents[number], strict=True)))
    alone = leader.map(leader.value_counts()) < 2
    return np.where(alone, "", leader.str[:NAME_LENGTH]).astype(str)


def sides_of(table: pd.DataFrame) -> np.ndarray:
    """Width and height of each image: N×2 int64."""
    return table[["width", "height"]].to_numpy(dtype=np.int64)


def near(
    grays: Grays, places: np.ndarray, sides: np.ndarray, fresh: np.ndarray | None = None
) -> Steps[tuple[np.ndarray, np.ndarray]]:
    """Pairs of near-duplicates, P×2 int64 in [0, N) with the smaller first; and their likeness.

    Of many copies of one picture each is paired with some, so that all are linked, not with all.
    grays: K×64×64 uint8. places: N, where each image's picture lies in it. sides: N×2, in pixels.
    fresh: N bool; only pairs of which at least one image is fresh are looked for.
    """
    yield 0.0
    fresh = np.ones(len(places), dtype=bool) if fresh is None else fresh
    vectors, contrast = low_pass(grays, places)
    plain = contrast < LEAST_CONTRAST
    usable = np.flatnonzero((sides.min(axis=1, initial=1 << 30) >= SMALLEST_SIDE) & ~plain)
    best = yield from alike(vectors[usable], grays, places[usable], fresh[usable])
    ranked = [usable[of_rank] for of_rank in best]
    same = identical(grays, places, sides, plain)
    same = same[fresh[same].any(axis=1)]
    found, likeness = [same], [np.ones(len(same), np.float32)]
    for rank, candidates in enumerate(ranked):
        yield SHARE_OF_FINDING + (1 - SHARE_OF_FINDING) * rank / len(ranked)
        number = components(len(places), np.concatenate(found))
        apart = candidates[number[candidates[:, 0]] != number[candidates[:, 1]]]
        values = alignment.likeness(grays, places[apart])
        found.append(apart[values > 0])
        likeness.append(values[values > 0])
    pairs, first = np.unique(np.concatenate(found), axis=0, return_index=True)
    return pairs, np.concatenate(likeness)[first]


def frequencies() -> np.ndarray:
    """The low frequencies of the cosine transform, the mean left out: F×1024 float32, unit rows."""
    wave = np.arange(FREQUENCIES)[:, None]
    one = np.cos(np.pi * wave * (np.arange(HALF) + 0.5) / HALF) * np.sqrt(2 / HALF)
    one[0] /= np.sqrt(2)
    both = one[:, None, :, None] * one[None, :, None, :]
    chosen = (wave + wave.T > 0) & (wave + wave.T < FREQUENCIES)
    return np.asarray(both[chosen].reshape(-1, HALF * HALF), dtype=np.float32)


def low_pass(grays: Grays, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each picture's low frequencies as unit vectors, N×F float32; and their contrast, N float32.

    The contrast is their root mean square in gray levels.
    """
    basis = frequencies()
    found = np.empty((len(places), len(basis)), np.float32)
    for start in range(0, len(places), ROWS):
        pictures = alignment.pooled(grays[places[start : start + ROWS]], HALF)
        found[start : start + ROWS] = pictures.reshape(-1, HALF * HALF) @ basis.T
    length = np.linalg.norm(found, axis=1)
    found /= np.maximum(length, 1e-6)[:, None]
    return found, length / HALF


def spans(grays: np.ndarray) -> np.ndarray:
    """What small shifts and stretches make of pictures, to first order: N×F×5, orthonormal."""
    pictures, x = alignment.pooled(grays, HALF), alignment.centers(HALF)
    down, across = np.gradient(pictures, axis=(1, 2))
    changes = (pictures, across, across * x, down, down * x[:, None])
    flat = np.stack(changes, axis=-1).reshape(len(grays), HALF * HALF, 5)
    return np.asarray(np.linalg.qr(frequencies() @ flat)[0])


def alike(
    vectors: np.ndarray, grays: Grays, places: np.ndarray, fresh: np.ndarray
) -> Steps[list[np.ndarray]]:
    """Pairs worth registering: the best of each image, its second best, and so on.

    Each entry of the list: P×2 int64 in [0, N), the smaller first; not both of them old.
    """
    found = [np.empty((0, 3), np.int64)]
    everything, new = np.arange(len(vectors)), np.flatnonzero(fresh)
    # New images beside all, old ones beside the new alone.
    work = [*blocks(new, everything), *blocks(np.flatnonzero(~fresh), new)]

    def best(rows_and_others: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rows, others = rows_and_others
        return best_of_rows(vectors, rows, spans(grays[places[rows]]), others)

    with ThreadPoolExecutor(min(MOST_THREADS, machine.processors())) as pool:
        try:
            for done, block in enumerate(pool.map(best, work), 1):
                found.append(block)
                yield SHARE_OF_FINDING * done / len(work)
        finally:
            pool.shutdown(cancel_futures=True)
    rank, pairs = np.concatenate(found)[:, 0], np.sort(np.concatenate(found)[:, 1:], axis=1)
    wanted = fresh[pairs].any(axis=1)
    ranks = range(MOST_REGISTERED)
    return [np.unique(pairs[wanted & (rank == number)], axis=0) for number in ranks]


def blocks(rows: np.ndarray, others: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Some images at a time, each with those that they are to be compared with."""
    if not len(others):
        return []
    return [(rows[start : start + ROWS], others) for start in range(0, len(rows), ROWS)]


def best_of_rows(
    vectors: np.ndarray, rows: np.ndarray, span: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """For each of some images, which of the others are most alike.

    P×3 int64: the rank from 0 on, the image, the other one.
    """
    found = list(compared(vectors, rows, span, others))
    if not found:
        return np.empty((0, 3), np.int64)
    hits = pd.DataFrame(np.concatenate(found), columns=["row", "other", "cosine"])
    hits = hits.sort_values(["row", "cosine"], ascending=[True, False], kind="stable")
    hits = hits.assign(rank=hits.groupby("row").cumcount())
    best = hits.loc[hits["rank"] < MOST_REGISTERED, ["rank", "row", "other"]]
    return best.to_numpy().astype(np.int64)


def compared(
    vectors: np.ndarray, rows: np.ndarray, span: np.ndarray, others: np.ndarray
) -> Iterator[np.ndarray]:
    """Images, others, and their cosines after shifts of the first, where both cosines suffice: K×3.

    A crop is nearer to what shifts make of its original than the other way round, so that each
    pair is looked at from both sides.
    """
    own = vectors[rows]
    for first in range(0, len(others), COLUMNS):
        numbers = others[first : first + COLUMNS]
        columns = vectors[numbers]
        cosines = own @ columns.T
        hit, other = np.nonzero(cosines > LEAST_COSINE)
        ends = np.searchsorted(hit, np.arange(len(rows) + 1))
        for row in np.flatnonzero(np.diff(ends)):
            chosen = other[ends[row] : ends[row + 1]]
            chosen = chosen[largest(cosines[row, chosen], MOST_SHIFTED)]
            after = np.linalg.norm(columns[chosen] @ span[row], axis=1)
            after[(after <= LEAST_AFTER_SHIFTS) | (numbers[chosen] == rows[row])] = 0
            best = largest(after, MOST_REGISTERED)
            best = best[after[best] > 0]
            here = np.full(len(best), rows[row])
            yield np.stack([here, numbers[chosen[best]], after[best]], axis=1)


def largest(values: np.ndarray, most: int) -> np.ndarray:
    """Where the largest values are, at most so many, in any order."""
    if len(values) <= most:
        return np.arange(len(values))
    return np.argpartition(-values, most)[:most]


def identical(grays: Grays, places: np.ndarray, sides: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Pairs of the same gray pixels and size under different hashes, plain ones left out: P×2."""
    first_of: dict[tuple[bytes, int, int], int] = {}
    found = []
    for number in np.flatnonzero(~plain):
        digest = blake2b(grays[places[number]].tobytes(), digest_size=16).digest()
        width, height = map(int, sides[number])
        first = first_of.setdefault((digest, width, height), int(number))
        if first != number:
            found.append((first, int(number)))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def components(count: int, links: np.ndarray) -> np.ndarray:
    """The least number that each of 0…count−1 is linked to, over any steps: N int64."""
    least = np.arange(count)
    while True:
        lower = least.copy()
        for here, there in (links.T, links.T[::-1]):
            np.minimum.at(lower, here, least[there])
        lower = lower[lower]
        if np.array_equal(lower, least):
            return least
        least = lower


def without_chains(
    number: np.ndarray, links: np.ndarray, grays: Grays, places: np.ndarray
) -> np.ndarray:
    """Groups of over 100 taken apart where they are no copies of one picture.

    In a film each frame is like the next, and its end like nothing at its start. Such a group is
    divided into what is like its best linked picture and what is linked to that, the same for the
    best linked one that is left, and so on; a real group of many copies stays whole.
    """
    number = number.copy()
    degree = np.bincount(links.ravel(), minlength=len(number))
    for leader in np.flatnonzero(np.bincount(number) > LONGEST_CHAIN):
        left = np.flatnonzero(number == leader)
        while len(left):
            center = left[degree[left].argmax()]
            vectors, _ = low_pass(grays, places[left])
            copies = (vectors @ vectors[left == center][0] > LEAST_COSINE) | (left == center)
            near = np.union1d(left[copies], links[np.isin(links, left[copies]).any(axis=1)])
            together = np.intersect1d(near, left)
            number[together] = together.min()
            left = np.setdiff1d(left, together)
    return number
