"""A dozen of the user's own images as training would see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.data.augment import Preprocessing, augmented, fitted, picture
from core.data.dataset import Dataset
from core.data.mixing import mixed
from core.evaluation.explain import png
from core.schema import Augmentation, Recipe
from core.serving.predictor import data_url
from core.storage import Json

SIDE = 160
# The share of the shorter side that most backbones are shown: timm's usual crop_pct.
CROPPED = 0.875


def preview(dataset: Dataset, recipe: Recipe, n: int, seed: int) -> list[Json]:
    """Some images as a grid in the browser wants them, each augmented as the recipe says.

    Feature extraction shows them without augmentation, since it trains on them as they are. The
    images are spread over the classes; another seed shows other versions of the same ones. Where
    training blends images, as many blends follow.
    """
    rows = spread(dataset.table["label"].to_numpy(), n)
    squares = [square(dataset, recipe, row, seed) for row in rows]
    names = [str(dataset.table["name"].iloc[row]) for row in rows]
    found = [
        {
            "src": source(pixels),
            "id": name,
            "title": str(dataset.table["label"].iloc[row]),
            "caption": name.rpartition("/")[2],
        }
        for row, name, pixels in zip(rows, names, squares, strict=True)
    ]
    if recipe.is_frozen or not (recipe.augmentation.mixup or recipe.augmentation.cutmix):
        return found
    labels = torch.from_numpy(dataset.labels.to_numpy()[rows])
    blends = blended(squares, labels, dataset.classes, recipe.augmentation, seed)
    for blend, name in zip(blends, names, strict=True):
        found.append({**blend, "id": f"{name}, blended"})
    return found


def square(dataset: Dataset, recipe: Recipe, row: int, seed: int) -> Tensor:
    """One image as training would see it, uint8 3×SIDE×SIDE."""
    short = round(SIDE / CROPPED) if recipe.image.fit == "crop" else SIDE
    prepared = Preprocessing(SIDE, recipe.image.fit, short, (0, 0, 0), (1, 1, 1), "bilinear")
    content = dataset.path_of(dataset.table["sha256"].iloc[row]).read_bytes()
    pixels = picture(content, prepared)
    if recipe.is_frozen:
        return fitted(pixels, prepared)
    return augmented(pixels, recipe.augmentation, prepared, np.random.default_rng([seed, row]))


def blended(
    squares: Sequence[Tensor],
    labels: Tensor,
    classes: Sequence[str],
    settings: Augmentation,
    seed: int,
) -> list[Json]:
    """Each square blended with another, as in batches of their own, so that shares differ."""
    found = []
    for place in range(len(squares)):
        # Half a round on: squares are in the order of their classes.
        both = [place, (place + len(squares) // 2) % len(squares)]
        inputs = torch.stack([squares[one] for one in both]).float() / 255
        rng = np.random.default_rng([seed, place])
        blends, targets = mixed(inputs, labels[both], len(classes), settings, rng)
        shares = {classes[number]: float(targets[0, number]) for number in targets[0].nonzero()}
        found.append(
            {
                "src": source((blends[0] * 255).round().to(torch.uint8)),
                "title": " + ".join(shares),
                "caption": ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
            }
        )
    return found


def source(pixels: Tensor) -> str:
    """A square uint8 3×S×S as the address of a PNG."""
    return data_url(png(pixels.permute(1, 2, 0).numpy()))


def spread(labels: np.ndarray, n: int) -> list[int]:
    """At most n positions, as evenly over the classes as can be."""
    order = np.lexsort((np.arange(len(labels)), labels))
    chosen = np.linspace(0, len(labels) - 1, min(n, len(labels))).round().astype(int)
    return [int(position) for position in order[chosen]]
