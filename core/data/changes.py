"""Random changes to a square picture, each by the strengths of a recipe.

Pictures are uint8 3×S×S, 0–255. Every change takes (picture, settings, rng), draws all its
randomness from `rng` and gives the picture itself back where its strengths are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import functional as F

from core.policies import Augmentation

Change = Callable[[Tensor, Augmentation, np.random.Generator], Tensor]
# What bars, turned corners and patches are filled with: mid gray, as far from all classes as any.
FILL = 127
# Share of red, green and blue in how bright a color looks, and the two axes of color, each of which
# is 0 for grays (the YIQ axes of ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
# Random erasing's range of the area, and of height to width (Zhong et al. 2020).
ERASED_AREA, ERASED_ASPECT = (0.02, 0.33), (0.3, 1 / 0.3)


def rotation(degrees: float) -> np.ndarray:
    """A turn about the middle, as `warped` wants it."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def shift(x: float, y: float) -> np.ndarray:
    """A shift by shares of the side, as `warped` wants it."""
    return np.array([[1, 0, 2 * x], [0, 1, 2 * y], [0, 0, 1]])


def shear(x: float, y: float) -> np.ndarray:
    """A slant by shares of the side, as `warped` wants it."""
    return np.array([[1, x, 0], [y, 1, 0], [0, 0, 1]])


def tilt(farthest: float, x: float, y: float) -> np.ndarray:
    """The view of a camera that looks askance, with the middle held, as `warped` wants it.

    farthest: share of the side that a corner moves at most. x, y: −1 to 1, how far to which side.
    """
    # A corner at distance √2 from the middle goes to √2 / (1 − reach), farthest · 2 further out.
    reach = math.sqrt(2) * farthest / (1 + math.sqrt(2) * farthest)
    return np.array([[1, 0, 0], [0, 1, 0], [reach * x / 2, reach * y / 2, 1]])


def warped(pixels: Tensor, matrix: np.ndarray) -> Tensor:
    """A picture whose points went where a 3×3 projection sends them, resampled once.

    matrix: on columns (x, y, 1), in half sides from the middle, x to the right and y down.
    """
    side = pixels.shape[-1]
    x = (torch.arange(side) * 2 + 1) / side - 1  # Middles of the pixels, in half sides.
    # For each pixel of the result, where it comes from: S×S each.
    across, down, depth = (
        float(a) * x + (float(b) * x + float(c))[:, None] for a, b, c in np.linalg.inv(matrix)
    )
    origin = torch.stack([across / depth, down / depth], dim=-1)
    around = (
        pixels[None].float() - FILL
    )  # Outside of the picture is 0 here and mid gray at the end.
    seen = grid_sample(around, origin[None], mode="bilinear", align_corners=False)[0]
    return seen.add_(FILL).round_().to(torch.uint8)


def moved(pixels: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """Rotation, translation, zoom and perspective in one resampling."""
    if not any((settings.rotation, settings.translation, settings.zoom, settings.perspective)):
        return pixels
    angle, x, y, zoom, *aside = rng.uniform(-1, 1, 6)
    matrix = shift(settings.translation * x, settings.translation * y)
    matrix = matrix @ rotation(settings.rotation * angle)
    # In by a factor is as likely as out by it.
    scale = (1 + settings.zoom) ** zoom
    matrix = matrix @ np.diag([scale, scale, 1])
    return warped(pixels, matrix @ tilt(settings.perspective, *aside))


def flipped(pixels: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """Mirrored left to right, upside down, both, or neither."""
    if rng.random() < settings.horizontal_flip:
        pixels = F.horizontal_flip(pixels)
    if rng.random() < settings.vertical_flip:
        pixels = F.vertical_flip(pixels)
    return pixels


def colored(pixels: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation, hue and loss of color, in one pass over the pixels."""
    names = ("brightness", "contrast", "saturation", "hue", "grayscale")
    strengths = np.array([getattr(settings, name) for name in names])
    if not strengths.any():
        return pixels
    bright, contrast, saturation, turn = strengths[:4] * rng.uniform(-1, 1, 4) + (1, 1, 1, 0)
    colorful = 0 if rng.random() < settings.grayscale else saturation
    gray = np.outer(np.ones(3), LUMA)
    turned = np.linalg.inv(YIQ) @ rotation_of_hue(turn) @ YIQ
    matrix = bright * contrast * (colorful * np.eye(3) + (1 - colorful) * gray) @ turned
    flat = pixels.reshape(3, -1).float()
    # Neither saturation nor hue changes how bright the picture is, so its mean is known beforehand.
    mean = bright * float(flat.mean(dim=1) @ torch.from_numpy(LUMA).float())
    offset = torch.full((3, 1), (1 - contrast) * mean)
    changed = torch.addmm(offset, torch.from_numpy(matrix).float(), flat)
    return changed.round_().clamp_(0, 255).to(torch.uint8).reshape(pixels.shape)


def rotation_of_hue(turn: float) -> np.ndarray:
    """A turn of the color circle, on columns (Y, I, Q); 1 is all the way round."""
    return np.roll(rotation(360 * turn), (1, 1), (0, 1))


def blurred(pixels: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """Out of focus: each pixel a mean of those around it, weighted by a Gaussian."""
    if settings.blur == 0:
        return pixels
    deviation = rng.uniform(0, settings.blur)
    place = torch.arange(pixels.shape[-1])
    # Along columns and along rows, each as a product with S×S weights whose rows sum to 1.
    weights = ((place - place[:, None]) / deviation).square().div(-2).softmax(dim=1)
    return (weights @ pixels.float() @ weights.T).round_().to(torch.uint8)


def noised(pixels: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """Gaussian noise on every pixel and channel."""
    if settings.noise == 0:
        return pixels
    noise = rng.standard_normal(tuple(pixels.shape), dtype=np.float32) * (settings.noise * 255)
    return (pixels + torch.from_numpy(noise)).round_().clamp_(0, 255).to(torch.uint8)


def erased(pixels: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    """A gray patch somewhere (Zhong et al. 2020), at the chance that is set."""
    if rng.random() >= settings.erasing:
        return pixels
    side = pixels.shape[-1]
    area = side**2 * rng.uniform(*ERASED_AREA)
    aspect = math.exp(rng.uniform(*np.log(ERASED_ASPECT)))
    height = min(side, max(1, round(math.sqrt(area * aspect))))
    width = min(side, max(1, round(area / height)))
    top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
    patched = pixels.clone()
    patched[:, top : top + height, left : left + width] = FILL
    return patched
