"""Blends of training images and of their labels: mixup and CutMix, on whole batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor
from torch.nn.functional import one_hot

from core.policies import Augmentation

# Two batches and the share that the first is to have: their blend and the share that it did get.
Mix = Callable[[Tensor, Tensor, float, np.random.Generator], tuple[Tensor, float]]


def mixed(
    inputs: Tensor, labels: Tensor, n_classes: int, settings: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A batch in which every image is blended with another, and the share of each class in it.

    inputs: float B×3×S×S. labels: int64 B. Where neither mixup nor cutmix is on, both come back as
    they are; else the labels as B×C float32 whose rows sum to 1. Where both are on, each batch
    takes one of the two by even chance.
    """
    kinds = ((blended, settings.mixup), (pasted, settings.cutmix))
    on = [(mix, alpha) for mix, alpha in kinds if alpha > 0]
    if not on:
        return inputs, labels
    mix, alpha = on[rng.integers(len(on))]
    # No image is its own partner, but one that is alone.
    step = int(rng.integers(1, max(2, len(inputs))))
    result, share = mix(inputs, inputs.roll(step, 0), rng.beta(alpha, alpha), rng)
    own = one_hot(labels, n_classes).float()  # B×C
    return result, own.lerp(own.roll(step, 0), 1 - share)


def blended(
    inputs: Tensor, others: Tensor, share: float, rng: np.random.Generator
) -> tuple[Tensor, float]:
    """Mixup: each pixel is the weighted mean of both (Zhang et al. 2018)."""
    return inputs.lerp(others, 1 - share), share


def pasted(
    inputs: Tensor, others: Tensor, share: float, rng: np.random.Generator
) -> tuple[Tensor, float]:
    """CutMix: a rectangle of the other, in the same place (Yun et al. 2019).

    Its middle may lie anywhere, so that its rim may be cut off: the share is what is left.
    """
    sides = np.array(inputs.shape[-2:])
    half = sides * math.sqrt(1 - share) / 2
    middle = rng.uniform(0, sides)
    (top, left), (bottom, right) = (
        np.clip(corner.round().astype(int), 0, sides) for corner in (middle - half, middle + half)
    )
    result = inputs.clone()
    result[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return result, 1 - float((bottom - top) * (right - left) / sides.prod())
