"""Images unlike all others, and the images that are most alike, by the features of a backbone."""

from __future__ import annotations

import numpy as np

from core.auditing.findings import Finding, Group

NEIGHBORS = 10
# Deviations (1.4826 · median absolute deviation) above the middle at which an image stands apart.
FAR = 6.0
FEWEST = 30
BLOCK = 1024
# Against so many images, drawn at random, distances are as telling, and the time grows with their
# number and not with its square.
MOST_COMPARED = 20_000


def distances(vectors: np.ndarray, seed: int) -> np.ndarray:
    """How far each image lies from its nearest ones: mean cosine distance to ten, N float32.

    vectors: N×F, each of length 1.
    """
    n = len(vectors)
    others = np.arange(n)
    if n > MOST_COMPARED:
        others = np.sort(np.random.default_rng(seed).permutation(n)[:MOST_COMPARED])
    k = min(NEIGHBORS, len(others) - 1)
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

    The limit is the median and so many times the median absolute deviation (Leys et al. 2013),
    which the outliers themselves hardly move.
    """
    if len(distance) < FEWEST:
        return np.empty(0, dtype=np.int64)
    middle = float(np.median(distance))
    spread = 1.4826 * float(np.median(np.abs(distance - middle)))
    rows = np.flatnonzero(distance > middle + FAR * spread)
    return np.asarray(rows[np.argsort(-distance[rows], kind="stable")])


def nearest_of(vectors: np.ndarray, row: int, among: np.ndarray, most: int) -> np.ndarray:
    """The rows, of those among which to look, that are most like one image; itself left out."""
    others = among[among != row]
    alike = vectors[others] @ vectors[row]
    return np.asarray(others[np.argsort(-alike, kind="stable")[:most]])


def found(names: np.ndarray, vectors: np.ndarray, seed: int) -> list[Finding]:
    """The finding about images that stand apart, if there are any.

    names: N text. vectors: N×F, each of length 1.
    """
    distance = distances(vectors, seed)
    usual = max(float(np.median(distance)), 1e-6)
    groups = tuple(
        Group((str(names[row]),), f"{distance[row] / usual:.1f} times as far from others as usual")
        for row in apart(distance)
    )
    return [Finding("outlier", groups)] if groups else []
