"""From a decoded picture to what the network sees, with and without random changes.

Pictures are uint8 tensors, 3×H×W, 0–255, all the way; `normalized` makes floats of a whole batch
on the device. `AUGMENTATIONS` is the table of the random changes, which `changes` and
`policies_drawn` hold; those of whole batches are in `mixing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import annotated_types
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from core.data.changes import FILL, Change, blurred, colored, erased, flipped, moved, noised
from core.data.images import decode
from core.data.policies_drawn import drawn
from core.policies import Augmentation

# In this order, after the crop: colors first, while no gray from outside is in the picture.
AUGMENTATIONS: tuple[Change, ...] = (flipped, colored, moved, drawn, blurred, noised, erased)
# Beyond this the short side would be blown up into a picture of many megapixels.
LONGEST_TO_SHORTEST = 4
ASPECT_RANGE = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Preprocessing:
    """How a file becomes the network's input; training, validation and serving share it.

    size: side of the square, pixels. short_side: the picture's shorter side before it is fitted.
    mean, std: of the pretraining data, for values in 0–1. interpolation: bicubic, …
    """

    size: int
    fit: str
    short_side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """As JSON kept it."""
        lists = {key: tuple(values[key]) for key in ("mean", "std")}
        return cls(**{**values, **lists})


def picture(content: bytes, preprocessing: Preprocessing) -> Tensor:
    """A file's bytes as uint8 3×H×W, the shorter side `short_side` long, the shape kept.

    Where the longer side would be over four times that, the longer side is made four times that
    instead. Raises: ImageRefused.
    """
    image = decode(content, preprocessing.short_side)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    short, long = min(image.size), max(image.size)
    factor = preprocessing.short_side / short
    factor = min(factor, LONGEST_TO_SHORTEST * preprocessing.short_side / long)
    size = [max(1, round(image.height * factor)), max(1, round(image.width * factor))]
    resized: Tensor = F.resize(
        pixels, size, InterpolationMode(preprocessing.interpolation), antialias=True
    )
    return resized


def fitted(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The square that validation and serving show the network: uint8 3×S×S."""
    return FITS[preprocessing.fit](pixels, preprocessing)


def middle(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The middle square of a picture, its margin cut off."""
    shortest = min(pixels.shape[-2:])
    if shortest != preprocessing.short_side:  # Only pictures of extreme shape.
        pixels = F.resize(pixels, [preprocessing.short_side], antialias=True)
    square: Tensor = F.center_crop(pixels, [preprocessing.size, preprocessing.size])
    return square


def squashed(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The whole picture, its shape distorted to a square."""
    square: Tensor = F.resize(pixels, [preprocessing.size, preprocessing.size], antialias=True)
    return square


def letterboxed(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The whole picture in its own shape, with gray bars."""
    size = preprocessing.size
    height, width = pixels.shape[-2:]
    factor = size / max(height, width)
    inner = [max(1, round(height * factor)), max(1, round(width * factor))]
    top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
    padding = [left, top, size - inner[1] - left, size - inner[0] - top]
    square: Tensor = F.pad(F.resize(pixels, inner, antialias=True), padding, fill=FILL)
    return square


FITS: dict[str, Callable[[Tensor, Preprocessing], Tensor]] = {
    "crop": middle,
    "squash": squashed,
    "letterbox": letterboxed,
}


def normalized(batch: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 N×3×S×S as float32 with the pretraining data's mean 0 and deviation 1."""
    mean = torch.tensor(preprocessing.mean, device=batch.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(preprocessing.std, device=batch.device).view(1, 3, 1, 1) * 255
    return (batch.float() - mean) / std


def augmented(
    pixels: Tensor, settings: Augmentation, preprocessing: Preprocessing, rng: np.random.Generator
) -> Tensor:
    """One random version of a picture: uint8 3×S×S. All randomness comes from `rng`."""
    square = cropped(pixels, settings.random_crop, preprocessing, rng)
    for change in AUGMENTATIONS:
        square = change(square, settings, rng)
    return square


def cropped(
    pixels: Tensor, smallest: float, preprocessing: Preprocessing, rng: np.random.Generator
) -> Tensor:
    """A random part of at least `smallest` of the area, fitted to the square.

    Inception-style cropping (Szegedy et al. 2015) with a gentler range: ImageNet's 0.08 deletes
    small objects.
    """
    if smallest >= 1:
        return fitted(pixels, preprocessing)
    height, width = pixels.shape[-2:]
    area = height * width * rng.uniform(smallest, 1)
    natural = 1.0 if preprocessing.fit == "crop" else width / height
    aspect = natural * math.exp(rng.uniform(math.log(ASPECT_RANGE[0]), math.log(ASPECT_RANGE[1])))
    h = min(height, max(1, round(math.sqrt(area / aspect))))
    w = min(width, max(1, round(math.sqrt(area * aspect))))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    part = pixels[:, top : top + h, left : left + w]
    return (letterboxed if preprocessing.fit == "letterbox" else squashed)(part, preprocessing)


def strengthened(settings: Augmentation, factor: float) -> Augmentation:
    """The same changes `factor` times as strong, as far as each field's range goes.

    What is off stays off. Flips stay as they are: a chance of one half is the strongest.
    """
    if settings.does_nothing:
        return settings
    strengths = settings.model_dump(exclude={"policy", "horizontal_flip", "vertical_flip"})
    # The share that a crop keeps falls as it gets stronger: twice as strong is a crop of a crop.
    crop = strengths.pop("random_crop") ** factor
    stronger = {name: value * factor for name, value in strengths.items()} | {"random_crop": crop}
    update = {name: float(np.clip(value, *bounds(name))) for name, value in stronger.items()}
    return settings.model_copy(update=update)


def bounds(name: str) -> tuple[float, float]:
    """The smallest and the largest value that the recipe takes for a strength."""
    limits: dict[str, Any] = {}
    for limit in Augmentation.model_fields[name].metadata:
        if isinstance(limit, annotated_types.Ge | annotated_types.Le):
            limits |= asdict(limit)
    return limits["ge"], limits["le"]
