"""Policies that draw changes by themselves: TrivialAugment and RandAugment.

Both draw from the same fourteen operations, RandAugment's (Cubuk et al. 2020), with the ranges that
Müller and Hutter (2021) give for them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from core.data.changes import rotation, shear, shift, warped
from core.policies import Augmentation

# A change of a square uint8 3×S×S by a strength from −1 to 1. Where there is only one way to go,
# the sign says nothing; two operations know no strength at all.
Operation = Callable[[Tensor, float], Tensor]
OPERATIONS: dict[str, Operation] = {
    "Identity": lambda pixels, _: pixels,
    "AutoContrast": lambda pixels, _: F.autocontrast(pixels),
    "Equalize": lambda pixels, _: F.equalize(pixels),
    "Rotate": lambda pixels, strength: warped(pixels, rotation(30 * strength)),
    "Solarize": lambda pixels, strength: F.solarize(pixels, 255 * (1 - abs(strength))),
    "Color": lambda pixels, strength: F.adjust_saturation(pixels, 1 + 0.9 * strength),
    "Posterize": lambda pixels, strength: F.posterize(pixels, 8 - round(4 * abs(strength))),
    "Contrast": lambda pixels, strength: F.adjust_contrast(pixels, 1 + 0.9 * strength),
    "Brightness": lambda pixels, strength: F.adjust_brightness(pixels, 1 + 0.9 * strength),
    "Sharpness": lambda pixels, strength: F.adjust_sharpness(pixels, 1 + 0.9 * strength),
    "ShearX": lambda pixels, strength: warped(pixels, shear(0.3 * strength, 0)),
    "ShearY": lambda pixels, strength: warped(pixels, shear(0, 0.3 * strength)),
    "TranslateX": lambda pixels, strength: warped(pixels, shift(10 / 32 * strength, 0)),
    "TranslateY": lambda pixels, strength: warped(pixels, shift(0, 10 / 32 * strength)),
}
# How many operations, and from which share of the magnitude on their strengths are drawn:
# TrivialAugment's are anything up to it, RandAugment's are it.
DRAWS = {"TrivialAugment": (1, 0.0), "RandAugment": (2, 1.0)}


def drawn(pixels: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """What the policy draws for this picture; the picture itself where it draws nothing."""
    if settings.policy not in DRAWS or settings.magnitude == 0:
        return pixels
    count, least = DRAWS[settings.policy]
    for name in rng.choice(list(OPERATIONS), count):
        strength = settings.magnitude * rng.uniform(least, 1) * rng.choice([-1, 1])
        pixels = OPERATIONS[name](pixels, float(strength))
    return pixels
