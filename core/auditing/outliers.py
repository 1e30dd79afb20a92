"""Images unlike all others, and the images that are most alike, by the features of a backbone."""

from __future__ import annotations

import numpy as np

from core.auditing.findings import Finding, Group

# As many neighbors as this share of images, so that a handful of strangers are not each other's
# only company; at least so many.
SHARE, NEIGHBORS = 0.05, 10
# An image stands apart at so many times the distance from the median to the 90th percentile. That
# upper side of the spread is what differs between datasets; the median absolute deviation would
# name 0.5 % of insects, but 5 % of hands. So it is 1.5 % to 2 %, and strangers come first.
FAR, UPPER = 2.0, 0.9
FEWEST = 30
BLOCK = 1024
# Against so many images, drawn at random, distances are as telling, and the time grows with their
# number and not with its square.
MOST_COMPARED = 20_000


def distances(vectors: np.ndarray, seed: int) -> np.ndarray:
    """How far each image lies from its nearest ones: mean cosine distance, N float32.

    vectors: features N×F, each scaled to length 1 and not centered: on centered ones strangers are
    hardly farther than others.
    """
    n = len(vectors)
    others = np.arange(n)
    if n > MOST_COMPARED:
        others = np.sort(np.random.default_rng(seed).permutation(n)[:MOST_COMPARED])
    k = min(max(NEIGHBORS, int(SHARE * len(others))), len(others) - 1)
    result = np.empty(n, dtype=np.float32)
    for start in range(0, n, BLOCK):
        alike = vectors[start : start + BLOCK] @ vectors[others].T
        rows = np.arange(start, start + len(alike))
        place = np.searchsorted(others, rows)
        own = (place < len(others)) & (others[np.minimum(place, len(others) - 1)] == rows)
        alike[np.flatnonzero(own), place[own]] = -np.inf
        nearest = np.partition(alike, -k, axis=1)[:, -k:]
        result[start : start + len(alike)] = 1 - nearest.mean(axis=1)
    return result


def apart(distance: np.ndarray) -> np.ndarray:
    """Rows of images that stand apart, the farthest first.

    The limit is the median and so many times the upper spread, which less than a tenth of outliers
    hardly move.
    """
    if len(distance) < FEWEST:
        return np.empty(0, dtype=np.int64)
    middle = float(np.median(distance))
    spread = float(np.quantile(distance, UPPER)) - middle
    rows = np.flatnonzero(distance > middle + FAR * spread)
    return np.asarray(rows[np.argsort(-distance[rows], kind="stable")])


def nearest_of(vectors: np.ndarray, row: int, among: np.ndarray, most: int) -> np.ndarray:
    """The rows, of those among which to look, that are most like one image; itself left out."""
    others = among[among != row]
    alike = vectors[others] @ vectors[row]
    return np.asarray(others[np.argsort(-alike, kind="stable")[:most]])


def found(names: np.ndarray, vectors: np.ndarray, seed: int) -> list[Finding]:
    """The finding about images that stand apart, if there are any.

    names: N text. vectors: as for `distances`.
    """
    distance = distances(vectors, seed)
    usual = max(float(np.median(distance)), 1e-6)
    groups = tuple(
        Group((str(names[row]),), f"{distance[row] / usual:.1f} times as far from others as usual")
        for row in apart(distance)
    )
    return [Finding("outlier", groups)] if groups else []
