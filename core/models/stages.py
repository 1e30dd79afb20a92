"""A backbone's stages: which parameters belong together, from the picture to the classifier.

timm says for each architecture how its layers group (`group_matcher`); where it lists many blocks,
neighbors are joined, so that "the last two stages" means much the same in every network.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core.models import network as networks
from core.schema import Recipe, Technique

# More groups than this are joined: by the size of their maps, or else into so many equal parts.
MOST_STAGES, EQUAL_PARTS = 8, 4
# Largest difference, relative to the largest feature, at which two halves count as the whole.
SPLIT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Stage:
    """Neighboring layers that are frozen, or learn, together."""

    name: str  # "stem", "stage 1", … in the order in which a picture passes them
    parameters: tuple[str, ...]  # as in `named_parameters()`
    modules: tuple[str, ...]  # dotted names of its outermost modules, those without weights too


def stages(network: nn.Module) -> tuple[Stage, ...]:
    """The stages from input to output; each parameter but the classifier's is in exactly one."""
    groups = joined(network, groups_of(network))
    modules = modules_of(network, groups)
    return tuple(
        Stage(f"stage {number}" if number else "stem", tuple(names), tuple(modules[number]))
        for number, names in enumerate(groups)
    )


def groups_of(network: nn.Module) -> list[list[str]]:
    """Names of parameters as timm groups them, in order, the classifier's left out.

    What timm lists with the classifier (last norms, attention pools, a head's convolution) comes
    after the last block and is joined to it.
    """
    from timm.models._manipulate import group_with_matcher

    head = classifier_name(network)
    names = [name for name, _ in network.named_parameters() if not within(name, head)]
    matcher = getattr(network, "group_matcher", None)
    number_of: dict[str, int] = group_with_matcher(
        # The classifier stands in line under one name, whatever it is made of.
        ((name, None) for name in [*names, f"{head}.weight"]),
        matcher(coarse=True) if matcher else by_child(network),
        reverse=True,
    )
    last = max(1, number_of.pop(f"{head}.weight"))
    groups: dict[int, list[str]] = {}
    for name in names:
        groups.setdefault(min(number_of[name], last - 1), []).append(name)
    return [groups[number] for number in sorted(groups)]


def classifier_name(network: nn.Module) -> str:
    """The dotted name of the network's last layer."""
    head = networks.classifier_of(network)
    return next(str(name) for name, module in network.named_modules() if module is head)


def within(name: str, module: str) -> bool:
    """Whether a dotted name is a module's or that of something in it."""
    return name == module or name.startswith(f"{module}.")


def by_child(network: nn.Module) -> Callable[[str], int]:
    """A grouping for networks without timm's: each child in turn, loose parameters first."""
    order = {name: number for number, (name, _) in enumerate(network.named_children(), start=1)}
    return lambda name: order.get(name.partition(".")[0], 0)


def joined(network: nn.Module, groups: list[list[str]]) -> list[list[str]]:
    """At most `MOST_STAGES` groups: neighbors with maps of one size together.

    Where all maps have one size, as in plain transformers, the blocks are cut into equal parts.
    """
    if len(groups) <= MOST_STAGES:
        return groups
    numbers = map_levels(network, groups)
    if len(set(numbers)) < EQUAL_PARTS:
        numbers = [0, *(1 + EQUAL_PARTS * n // (len(groups) - 1) for n in range(len(groups) - 1))]
    together: dict[int, list[str]] = {}
    for number, names in zip(numbers, groups, strict=True):
        together.setdefault(number, []).extend(names)
    return [together[number] for number in sorted(together)]


def map_levels(network: nn.Module, groups: list[list[str]]) -> list[int]:
    """For each group, how many times the maps have shrunk before it, as timm's feature_info says.

    Zeros where timm says nothing, or that they do not shrink.
    """
    info: Any = getattr(network, "feature_info", [])
    last_of = {one["reduction"]: one["module"] for one in info if isinstance(one, dict)}
    order = {name: number for number, (name, _) in enumerate(network.named_modules())}
    ends = sorted(
        max((order[name] for name in order if within(name, module)), default=0)
        for module in last_of.values()
    )
    starts = [order[names[0].rpartition(".")[0]] for names in groups]
    return [min(bisect_left(ends, start), max(0, len(ends) - 1)) for start in starts]


def modules_of(network: nn.Module, groups: list[list[str]]) -> list[list[str]]:
    """For each group, the outermost modules that belong to it alone.

    What has no parameters (an activation, a pooling) goes with what is defined before it.
    """
    owners = {name: number for number, names in enumerate(groups) for name in names}
    head = networks.classifier_of(network)
    found: list[list[str]] = [[] for _ in groups]
    settled = {id(module) for module in head.modules()}
    before = 0
    for name, module in network.named_modules():
        inside = {owners[f"{name}.{own}"] for own, _ in module.named_parameters()
                  if f"{name}.{own}" in owners}  # fmt: skip
        if id(module) in settled or len(inside) > 1 or not stands_alone(module, head):
            continue
        before = max(inside, default=before)
        found[before].append(name)
        settled.update(id(part) for part in module.modules())
    return found


def stands_alone(module: nn.Module, head: nn.Module) -> bool:
    """Whether a module can be called, and does not hold the classifier."""
    callable_itself = type(module).forward is not nn.Module.forward
    return callable_itself and all(part is not head for part in module.modules())


# How many of the last stages learn in an epoch, by technique; of n there are.
LEARNING: dict[str, Callable[[Technique, int, int], int]] = {
    "feature_extraction": lambda technique, epoch, n: 0,
    "last_stages": lambda technique, epoch, n: technique.stages,
    "gradual": lambda technique, epoch, n: 1 + (epoch - 1) // technique.epochs_per_stage,
    "finetune": lambda technique, epoch, n: n,
    "from_scratch": lambda technique, epoch, n: n,
}


def learning(recipe: Recipe, epoch: int, n_stages: int) -> int:
    """How many of the last stages learn in an epoch, counted from 1; the head always does."""
    technique = recipe.technique
    return min(n_stages, LEARNING[technique.name](technique, epoch, n_stages))


def parts_of(network: nn.Module, some: Iterable[Stage]) -> list[nn.Module]:
    """The outermost modules of some stages."""
    return [network.get_submodule(name) for stage in some for name in stage.modules]


def outputs(network: nn.Module, size: int) -> list[tuple[Stage, tuple[int, ...], int]]:
    """Each stage with the shape of what it puts out for one picture, and its parameters' number.

    Seen in one forward pass of zeros S×S, on the network's own device: on the meta device nothing
    is computed. A shape is height, width and channels; tokens that lie on no grid are counted.
    """
    every, shapes = stages(network), dict[str, tuple[int, ...]]()

    def note(stage: Stage) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim > 2:
                shapes[stage.name] = shape_of(network, output)

        return hook

    hooks = [
        part.register_forward_hook(note(stage))
        for stage in every
        for part in parts_of(network, [stage])
    ]
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network.forward_features(torch.zeros(1, 3, size, size, device=device))  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    return [
        (stage, shapes.get(stage.name, ()), sum(sizes[name] for name in stage.parameters))
        for stage in every
    ]


def shape_of(network: nn.Module, output: Tensor) -> tuple[int, ...]:
    """Height, width and channels of one picture's maps, or how many tokens with how many values."""
    if output.ndim == 4:
        channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        return tuple(output.shape[1:] if channels_last else (*output.shape[2:], output.shape[1]))
    tokens, channels = output.shape[1:]
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", (0, 0))
    on_grid = tokens - getattr(network, "num_prefix_tokens", 0) == grid[0] * grid[1]
    return (*grid, channels) if on_grid else (tokens, channels)


class Reached(Exception):
    """A picture has come to the first stage that learns; carries what that stage is given."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Stop(nn.Module):
    """Stands where a trunk ends: the forward pass goes no further."""

    def forward(self, value: Any, *others: Any, **options: Any) -> None:
        """Hand over the first argument.

        Raises: Reached, always.
        """
        raise Reached(value)


class Trunk(nn.Module):
    """A network's first stages, from pictures N×3×S×S to what the next stage is given."""

    def __init__(self, network: nn.Module, rest: Iterable[Stage]) -> None:
        """network: is changed; `rest`: its stages that are not in the trunk."""
        super().__init__()
        for stage in rest:
            for name in stage.modules:
                network.set_submodule(name, Stop())
        self.network = network
        self.pretrained_cfg: Any = networks.config_of(network)

    def forward(self, pictures: Tensor) -> Any:
        """What the first stage beyond is given: a tensor N×… in every network that can be cut."""
        try:
            return self.network(pictures)
        except Reached as reached:
            return reached.value


def split_at(network: nn.Module, n_last: int) -> tuple[nn.Module, nn.Module] | None:
    """The frozen first stages, and the last ones with the classifier, as networks of their own.

    network: in evaluation mode; both halves are too. `rest(trunk(pictures))` is
    `network(pictures)`, and what is left in `rest` has the names that it has in the network.
    None where that does not hold, which is looked at and not guessed.
    """
    every = stages(network)
    first = len(every) - n_last
    if not 0 < first < len(every):
        return None
    trunk = Trunk(copy.deepcopy(network), every[first:])
    rest = without(copy.deepcopy(network), every[:first])
    return (trunk, rest) if is_whole(network, trunk, rest) else None


def without(network: nn.Module, frozen: Iterable[Stage]) -> nn.Module:
    """The network with these stages passed by: it takes what they would have put out."""
    positions = positions_of(network)
    for stage in frozen:
        for name in stage.modules:
            network.set_submodule(name, PassedBy())
    left = dict(network.named_parameters())
    for name in (name for stage in frozen for name in stage.parameters if name in left):
        left[name].requires_grad_(False)
    for name, value in positions.items():
        setattr(network, name, value)
    return network


class PassedBy(nn.Module):
    """Stands where a frozen stage was: hands on what it is given."""

    def forward(self, value: Tensor, *others: Any, **options: Any) -> Tensor:
        """The first argument."""
        return value


def positions_of(network: nn.Module) -> dict[str, Any]:
    """What takes the place of a transformer's parts that add positions, by attribute.

    The tokens have theirs already; EVA-02 and DINOv3 tell every block again (`rope`).
    """
    if not hasattr(network, "_pos_embed"):
        return {}
    if not hasattr(network, "rope"):
        return {"_pos_embed": tokens_alone}
    grid: Any = network.patch_embed.grid_size  # type: ignore[union-attr]
    return {"rope": network.rope, "_pos_embed": partial(tokens_and_rope, network.rope, grid)}


def tokens_alone(tokens: Tensor) -> Tensor:
    """In place of timm's `_pos_embed`."""
    return tokens


def tokens_and_rope(rope: Any, grid: tuple[int, int], tokens: Tensor) -> tuple[Tensor, Any]:
    """In place of timm's `_pos_embed` where blocks are told the positions again."""
    return tokens, None if rope is None else rope.get_embed(shape=grid)


def is_whole(network: nn.Module, trunk: nn.Module, rest: nn.Module) -> bool:
    """Whether two halves give a random picture the features that the whole network gives it."""
    size = networks.config_of(network)["input_size"][-1]
    device = next(network.parameters()).device
    random = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 3, size, size, generator=random).to(device)
    with torch.inference_mode():
        expected = networks.pooled(network, pictures)
        try:
            actual = networks.pooled(rest, trunk(pictures))
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError):
            return False  # What runs through is no single tensor, or a stage is used out of turn.
    difference = (actual - expected).abs().max() if actual.shape == expected.shape else torch.inf
    return float(difference) <= SPLIT_TOLERANCE * float(expected.abs().max())
