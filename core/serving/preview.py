"""A dozen of the user's own images as training would see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.data.augment import Preprocessing, augmented, fitted, picture
from core.data.dataset import Dataset
from core.evaluation.explain import png
from core.schema import Recipe
from core.serving.predictor import data_url
from core.storage import Json

SIDE = 160
# The share of the shorter side that most backbones are shown: timm's usual crop_pct.
CROPPED = 0.875


def preview(dataset: Dataset, recipe: Recipe, n: int, seed: int) -> list[Json]:
    """Some images as a grid in the browser wants them, each augmented as the recipe says.

    Feature extraction shows them without augmentation, since it trains on them as they are. The
    images are spread over the classes; another seed shows other versions of the same ones.
    """
    short = round(SIDE / CROPPED) if recipe.image.fit == "crop" else SIDE
    prepared = Preprocessing(SIDE, recipe.image.fit, short, (0, 0, 0), (1, 1, 1), "bilinear")
    rows = spread(dataset.table["label"].to_numpy(), n)
    found = []
    for row in rows:
        facts = dataset.table.iloc[row]
        pixels = picture(dataset.path_of(facts["sha256"]).read_bytes(), prepared)
        if recipe.technique.name == "feature_extraction":
            square = fitted(pixels, prepared)
        else:
            rng = np.random.default_rng([seed, row])
            square = augmented(pixels, recipe.augmentation, prepared, rng)
        url = data_url(png(square.permute(1, 2, 0).numpy()))
        name = str(facts["name"])
        caption = name.rpartition("/")[2]
        found.append({"src": url, "id": name, "title": str(facts["label"]), "caption": caption})
    return found


def spread(labels: np.ndarray, n: int) -> Sequence[int]:
    """At most n positions, as evenly over the classes as can be."""
    order = np.lexsort((np.arange(len(labels)), labels))
    chosen = np.linspace(0, len(labels) - 1, min(n, len(labels))).round().astype(int)
    return [int(position) for position in order[chosen]]
