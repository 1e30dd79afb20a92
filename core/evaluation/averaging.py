"""Test-time augmentation: the mean of what a classifier says of several views of an image.

Views are changes that the classifier learned to see through; each costs one forward pass more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from core.errors import RecipeRefused
from core.schema import Augmentation
from core.storage import read_json, write_json

FILE = "views.json"
# How much of each side is left where a view comes closer.
CLOSER = 0.875


@dataclass(frozen=True)
class View:
    """A view by its title; how it is made of a square uint8 3×S×S, and for which recipes."""

    title: str
    make: Callable[[Tensor], Tensor]
    suits: Callable[[Augmentation], bool]


def closer(square: Tensor) -> Tensor:
    """The middle of a square, as large as all of it."""
    side = square.shape[-1]
    middle = functional.center_crop(square, [round(CLOSER * side)])
    resized: Tensor = functional.resize(middle, [side, side], antialias=True)
    return resized


VIEWS = {
    "mirrored": View(
        "mirrored", lambda square: square.flip(-1), lambda a: a.horizontal_flip > 0
    ),
    "upside_down": View(
        "upside down", lambda square: square.flip(-2), lambda a: a.vertical_flip > 0
    ),
    "closer": View("closer", closer, lambda a: True),
}  # fmt: skip


def suiting(augmentation: Augmentation) -> tuple[str, ...]:
    """The views that a recipe's augmentation taught the classifier to see through."""
    return tuple(name for name, view in VIEWS.items() if view.suits(augmentation))


def seen(square: Tensor, views: Sequence[str]) -> Tensor:
    """A square uint8 3×S×S and its views: (1 + V)×3×S×S."""
    return torch.stack([square, *(VIEWS[name].make(square) for name in views)])


def kept(model: Path) -> tuple[str, ...]:
    """The views that whoever predicts with the classifier in a `model` folder averages over."""
    path = model / FILE
    return tuple(read_json(path)["views"]) if path.exists() else ()


def keep(model: Path, views: Sequence[str]) -> None:
    """Average over these views from now on; over none is to classify the image alone.

    Raises: RecipeRefused for an unknown view.
    """
    for name in views:
        if name not in VIEWS:
            raise RecipeRefused(f"There is no view {name}.", f"There are {', '.join(VIEWS)}.")
    write_json(model / FILE, {"views": list(views)})
