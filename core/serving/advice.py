"""What the Recipe page asks before a training: a preview and an estimate. Torch comes in late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.data.dataset import Dataset
from core.recipe import Recipe

if TYPE_CHECKING:
    from core.training.estimate import Estimate


def preview(dataset: Dataset, recipe: Recipe, n: int, seed: int) -> list[tuple[str, str]]:
    """See `preview.preview`."""
    from core.serving.preview import preview as made

    return made(dataset, recipe, n, seed)


def estimate(dataset: Dataset, recipe: Recipe) -> Estimate:
    """See `estimate.estimate`."""
    from core.training.estimate import estimate as made

    return made(dataset, recipe)
