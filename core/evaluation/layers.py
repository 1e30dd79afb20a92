"""The layers of a network whose outputs can be laid over a picture, and how they become maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.models import stages

Reshape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """A layer by its name; reshape makes maps N×C×H×W of its output, None where it is such maps."""

    name: str
    module: nn.Module
    reshape: Reshape | None


def layers(network: nn.Module, inputs: Tensor) -> list[Layer]:
    """The layers that can be explained, in the order in which a picture passes them; at least one.

    inputs: normalized pictures N×3×S×S. Of a transformer each block's first norm, tokens laid out
    on their grid, but for the last one the final norm where attention pools all tokens; of others
    the end of each stage that yields maps.
    """
    blocks = getattr(network, "blocks", None)
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if grid is not None and blocks is not None and hasattr(blocks[-1], "norm1"):
        prefix = int(getattr(network, "num_prefix_tokens", 0))
        reshape = on_grid(int(grid[0]), int(grid[1]), prefix)
        norms = [block.norm1 for block in blocks]
        # Under attention pooling, Grad-CAM's mean of the gradients speaks against the class before
        # the last block: many of its maps were blank there, none behind it.
        if getattr(network, "attn_pool", None) is not None:
            norms[-1] = network.norm
        return [
            Layer(f"block {number} of {len(norms)}", norm, reshape)
            for number, norm in enumerate(norms, start=1)
        ]
    ends = ends_of_stages(network, inputs)
    nhwc = getattr(network, "output_fmt", "NCHW") == "NHWC"
    return [
        Layer(f"stage {number} of {len(ends)}", end, channels_first if nhwc else None)
        for number, end in enumerate(ends, start=1)
    ]


def on_grid(height: int, width: int, prefix: int) -> Reshape:
    """What lays tokens N×T×C out on their grid, the first `prefix` (class, registers) left out."""

    def laid_out(tokens: Tensor) -> Tensor:
        n, _, channels = tokens.shape
        maps = tokens[:, prefix:].reshape(n, height, width, channels)
        return maps.permute(0, 3, 1, 2)  # N×C×H×W

    return laid_out


def channels_first(maps: Tensor) -> Tensor:
    """Maps N×H×W×C as N×C×H×W."""
    return maps.permute(0, 3, 1, 2)


def ends_of_stages(network: nn.Module, inputs: Tensor) -> list[nn.Module]:
    """The module of each stage whose output is the last one with four dimensions, in order.

    Of the last stage it is the last part of `forward_features`, with what it contains: the last
    leaf alone may be one branch of many.
    """
    modules = dict(network.named_modules())
    outermost = {
        id(modules[name]): number
        for number, stage in enumerate(stages.stages(network))
        for name in stage.modules
    }
    seen: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen.append(module)

    parts = [module for module in network.modules() if module is not network]
    hooks = [part.register_forward_hook(note) for part in parts]
    try:
        with torch.no_grad():
            network.forward_features(inputs)  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[int, nn.Module] = {}
    for module in seen:
        if id(module) in outermost:
            found[outermost[id(module)]] = module
    before = [found[number] for number in sorted(found)][:-1]
    return [*(one for one in before if one is not seen[-1]), seen[-1]]
