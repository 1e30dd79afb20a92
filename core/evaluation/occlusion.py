"""What a classifier misses most when it is covered (Zeiler and Fergus 2014): a map of any model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core.data.augment import normalized
from core.models.classifier import Classifier

# A patch has a seventh of the picture's side, and moves by half of its own.
PATCHES, BATCH = 7, 32
SMALLEST = 1e-12


def occlusion(classifier: Classifier, square: Tensor, number: int) -> np.ndarray:
    """By how much the logarithm of a class's probability falls where a patch lies: S×S in 0–1.

    square: uint8 3×S×S. number: of the class. Patches have the mean color of what the network
    learned from; a place has the mean of the patches that covered it.
    """
    side = square.shape[-1]
    inputs = normalized(square[None], classifier.preprocessing)[0]
    whole = np.log(classifier.probabilities(inputs[None])[0, number] + SMALLEST)
    falls, covers = np.zeros((2, side, side))
    for group in grouped(places(side)):
        covered = torch.stack([inputs] * len(group))
        for picture, (rows, columns) in zip(covered, group, strict=True):
            picture[:, rows, columns] = 0  # The mean color, as inputs are normalized.
        said = np.log(classifier.probabilities(covered)[:, number] + SMALLEST)
        for fall, (rows, columns) in zip(whole - said, group, strict=True):
            falls[rows, columns] += max(0.0, fall)
            covers[rows, columns] += 1
    heat = falls / np.maximum(covers, 1)
    return np.asarray(heat / max(heat.max(), SMALLEST), dtype=np.float32)


def places(side: int) -> list[tuple[slice, slice]]:
    """Where patches lie: all of a square of that side is covered."""
    patch = max(2, round(side / PATCHES))
    starts = sorted({*range(0, side - patch, max(1, patch // 2)), side - patch})
    return [(slice(y, y + patch), slice(x, x + patch)) for y in starts for x in starts]


def grouped(found: list[tuple[slice, slice]]) -> Iterator[list[tuple[slice, slice]]]:
    """Batches of patches."""
    for start in range(0, len(found), BATCH):
        yield found[start : start + BATCH]
