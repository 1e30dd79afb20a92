"""A backbone as a person sees it: its stages, what they put out, and which learn when.

Imports torch only when asked, so that pages open at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from core import recipe as recipes
from core.schema import Recipe

if TYPE_CHECKING:
    from torch import nn

FROZEN = "frozen"


@dataclass(frozen=True)
class Layer:
    """A stage as the network has it, whatever the recipe says of it."""

    stage: str
    shape: tuple[int, ...]  # height, width, channels of one picture's output
    parameters: int


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    stage: str
    output: str
    parameters: int | None  # None: depends on how many classes there are
    learns: str


def rows(recipe: Recipe) -> list[Row]:
    """The stages from the picture to the head, under a recipe.

    Raises: RecipeRefused for a backbone that timm does not know, or a size it cannot take.
    """
    seen = layers(recipe.backbone.name, recipe.image.size)
    return [
        Row(one.stage, " × ".join(map(str, one.shape)), one.parameters, when)
        for one, when in zip(seen, learns(recipe, len(seen)), strict=True)
    ] + [Row("head", "one value for each class", None, "learns")]


def check(recipe: Recipe) -> None:
    """Refuse a size of picture or a drop path that the backbone cannot take, before it is trained.

    Raises: RecipeRefused.
    """
    if recipe.image.size != "auto" or recipe.regularization.drop_path:
        bare(recipe.backbone.name, recipe.image.size, recipe.regularization.drop_path)


@lru_cache(maxsize=64)
def bare(name: str, size: int | Literal["auto"], drop_path: float = 0.0) -> nn.Module:
    """A backbone without values: shapes alone."""
    import torch

    from core.models import network as networks

    values = {"backbone.name": name, "image.size": size, "regularization.drop_path": drop_path}
    with torch.device("meta"):
        return networks.create(recipes.made(values), 2, pretrained=False).eval()


@lru_cache(maxsize=64)
def layers(name: str, size: int | Literal["auto"]) -> tuple[Layer, ...]:
    """The stages of a backbone for pictures of a size, found without weights or arithmetic."""
    from core.models import network as networks
    from core.models import stages

    network = bare(name, size)
    side = networks.config_of(network)["input_size"][-1]
    return tuple(
        Layer(stage.name, shape, number) for stage, shape, number in stages.outputs(network, side)
    )


def learns(recipe: Recipe, n_stages: int) -> list[str]:
    """For each stage, the first the picture passes first: frozen, learns, or from which epoch."""
    from core.models import stages

    longest = 1 + n_stages * recipe.technique.epochs_per_stage
    by_epoch = [stages.learning(recipe, epoch, n_stages) for epoch in range(1, longest)]
    firsts = [
        next((epoch for epoch, n in enumerate(by_epoch, start=1) if n >= from_the_end), None)
        for from_the_end in range(n_stages, 0, -1)
    ]
    # Epochs that `min_steps` adds are known only with the images.
    last = longest if recipe.schedule.min_steps else recipe.schedule.epochs
    return [in_words(first, last) for first in firsts]


def in_words(first_epoch: int | None, last_epoch: int) -> str:
    """What becomes of a stage that learns from an epoch on, or never."""
    if first_epoch is None:
        return FROZEN
    if first_epoch > last_epoch:
        return f"{FROZEN}: its turn would be epoch {first_epoch}"
    return "learns" if first_epoch == 1 else f"learns from epoch {first_epoch}"


def summary(table: list[Row]) -> str:
    """How much of the backbone learns, in one sentence."""
    total = sum(row.parameters or 0 for row in table)
    learning = sum(row.parameters or 0 for row in table if not row.learns.startswith(FROZEN))
    if not learning:
        return f"The backbone's {total / 1e6:.1f} million parameters stay as they are."
    if learning == total:
        return f"All of the backbone's {total / 1e6:.1f} million parameters learn."
    return f"{learning / 1e6:.1f} of the backbone's {total / 1e6:.1f} million parameters learn."
