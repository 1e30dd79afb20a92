"""Whether an image is like any that a classifier learned from: distances in its feature space.

A classifier must name one of its classes, whatever it is shown, and often is sure of it. How far an
image's features lie from the nearest ones of the training images says what it does not (Sun et al.
2022, "Out-of-distribution detection with deep nearest neighbors").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

NEIGHBORS = 5
# Of the validation images, how many count as familiar.
KEPT = 0.95
CONFIDENCE = 0.9
# Training images that are remembered with a classifier; more say hardly more.
MOST_REMEMBERED = 5000
AT_ONCE = 2048
FILE = "familiar.safetensors"


@dataclass(frozen=True)
class Familiar:
    """What a classifier remembers of its training images, and how strange validation images were.

    features: M×F float16, of length 1. held_out: V float32, the strangeness of validation images,
    rising.
    """

    features: np.ndarray
    held_out: np.ndarray

    @cached_property
    def threshold(self) -> float:
        """The strangeness that at least 95 % of images like the validation images do not exceed.

        With 90 % confidence, by an order statistic (Wilks 1941): a few dozen images tell their 95 %
        quantile so roughly that a sixth of all might lie beyond it. Of under 45, the largest.
        """
        from scipy.stats import binom

        place = int(binom.ppf(CONFIDENCE, len(self.held_out), KEPT))
        return float(self.held_out[min(place, len(self.held_out) - 1)])

    def strangeness(self, features: np.ndarray) -> np.ndarray:
        """How far images lie from what was learned from: N float32, 0 to 2, from N×F."""
        return strangeness(features, self.features)

    def judged(self, features: np.ndarray) -> tuple[float, bool]:
        """The share of validation images that are less strange than one, F; if it is strange."""
        strange = float(self.strangeness(features[None])[0])
        rarer_than = float(np.searchsorted(self.held_out, strange) / len(self.held_out))
        return rarer_than, strange > self.threshold


def unit(features: np.ndarray) -> np.ndarray:
    """Features N×F float32, each of length 1."""
    values = features.astype(np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def strangeness(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The mean cosine distance of each image to its five nearest known ones: N float32.

    features: N×F. known: M×F, of length 1, M > 0.
    """
    k = min(NEIGHBORS, len(known))
    remembered = known.astype(np.float32)
    found = []
    for start in range(0, len(features), AT_ONCE):
        alike = unit(features[start : start + AT_ONCE]) @ remembered.T
        nearest = np.partition(alike, len(known) - k, axis=1)[:, -k:]
        found.append(1 - nearest.mean(axis=1))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)


def learned(
    train: np.ndarray, labels: np.ndarray, held_out: np.ndarray, seed: int
) -> Familiar | None:
    """What to remember: features of training images N×F, their classes, and of validation images.

    None without any of either. Of very many, as many of each class are remembered as its share.
    """
    if not len(train) or not len(held_out):
        return None
    order = np.random.default_rng(seed).permutation(len(train))
    # Every so-manieth image of the shuffled ones in the order of classes keeps their shares.
    order = order[np.argsort(labels[order], kind="stable")]
    count = min(MOST_REMEMBERED, len(order))
    chosen = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
    features = unit(train[chosen]).astype(np.float16)
    return Familiar(features, np.sort(strangeness(held_out, features)))


def nearest(features: np.ndarray, known: np.ndarray, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The k most alike known images of each: positions N×k int64 and cosine similarities N×k.

    features: N×F. known: M×F. The most alike first; fewer where there are fewer.
    """
    alike = unit(features) @ unit(known).T
    order = np.argsort(-alike, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(alike, order, axis=1)


def write(familiar: Familiar, folder: Path) -> None:
    """Write what is remembered into a folder."""
    from safetensors.numpy import save_file

    values = {"features": familiar.features, "held_out": familiar.held_out}
    save_file(values, str(folder / FILE))


def read(folder: Path) -> Familiar | None:
    """What `write` wrote; None for a classifier that remembers nothing."""
    from safetensors.numpy import load_file

    path = folder / FILE
    if not path.exists():
        return None
    found = load_file(str(path))
    return Familiar(found["features"], found["held_out"])
