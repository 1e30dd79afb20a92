"""Which sizes of picture a backbone takes: tried on the meta device, where nothing is computed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import torch
from torch import nn

from core.errors import RecipeRefused

# Sizes that are looked at in search of one that fits: every multiple of the patch, or else of this.
STEP, TRIES = 16, 20
SMALLEST, LARGEST = 32, 1024  # of image.size
# What timm's layers raise on pictures that they cannot take.
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError)


def check(network: nn.Module, name: str, size: int) -> None:
    """Let pass what the network can take, as it was made for that size.

    Raises: RecipeRefused, naming the nearest sizes that it takes.
    """
    if not takes(network, size):
        raise refusal(name, size)


def takes(network: nn.Module, size: int) -> bool:
    """Whether pictures of S×S pass through a network, and all of each is seen."""
    if size % patch_of(network):
        return False  # timm leaves out what is left over beside the last whole patch.
    # Not every network can be tried on the meta device: what is refused there is tried for real.
    own = next(network.parameters()).device
    return passes(network, size, torch.device("meta")) or passes(network, size, own)


def passes(network: nn.Module, size: int, device: torch.device) -> bool:
    """Whether one picture passes through; on the meta device only its shape does."""
    named = chain(network.named_parameters(), network.named_buffers())
    values = {name: tensor.to(device) for name, tensor in named}
    picture = torch.zeros(1, 3, size, size, device=device)
    learning = network.training
    try:
        with torch.no_grad():
            torch.func.functional_call(network.eval(), values, (picture,))
    except REFUSALS:
        return False
    finally:
        network.train(learning)
    return True


def patch_of(network: nn.Module) -> int:
    """The side of the patches that a network cuts pictures into, in pixels; 1 where it does not."""
    patch: Any = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    return int(patch[0] if isinstance(patch, tuple | list) else patch)


def options(name: str, size: int | str) -> dict[str, Any]:
    """What timm must be told to make a network for pictures of that size."""
    import timm

    config = timm.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    return {"img_size": size} if fixed and size != "auto" else {}


def refusal(name: str, size: int) -> RecipeRefused:
    """That a backbone cannot take a size, and the nearest ones that it can."""
    near = nearest(name, size)
    remedy = f"Set image.size to {' or '.join(map(str, near))}, or to auto."
    return RecipeRefused(
        f"The backbone {name} cannot take pictures of {size} × {size} pixels.",
        remedy if near else "Set image.size to auto.",
    )


def nearest(name: str, size: int) -> list[int]:
    """The next smaller and the next larger size that a backbone takes, as far as there are."""
    step = step_of(name)
    larger = range(size + step - size % step, LARGEST + 1, step)
    found = (next_smaller(name, size), first_that_fits(name, larger))
    return [one for one in found if one is not None]


@lru_cache(maxsize=256)  # The doctor asks again after each epoch.
def next_smaller(name: str, size: int) -> int | None:
    """The largest size below another one that a backbone takes."""
    step = step_of(name)
    return first_that_fits(name, range(size - 1 - (size - 1) % step, SMALLEST - 1, -step))


@lru_cache(maxsize=256)
def step_of(name: str) -> int:
    """What the sizes that are tried for a backbone are multiples of: its patch, or else `STEP`."""
    import timm

    with torch.device("meta"):
        patch = patch_of(timm.create_model(name, num_classes=0))
    return patch if patch > 1 else STEP


def first_that_fits(name: str, sizes: Iterable[int]) -> int | None:
    """The first of the sizes that a backbone takes; only some are tried."""
    return next((size for size in islice(sizes, TRIES) if fits(name, size)), None)


def fits(name: str, size: int) -> bool:
    """Whether a backbone can be made for a size and takes it."""
    import timm

    try:
        with torch.device("meta"):
            return takes(timm.create_model(name, num_classes=0, **options(name, size)), size)
    except REFUSALS:
        return False
