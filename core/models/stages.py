"""A backbone's stages: which parameters belong together, from the picture to the classifier.

timm says for each architecture how its layers group (`group_matcher`); where it lists many blocks,
neighbors are joined, so that "the last two stages" means much the same in every network.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from core.models import network as networks
from core.schema import Recipe, Technique

# More groups than this are joined: by the size of their maps, or else into so many equal parts.
MOST_STAGES, EQUAL_PARTS = 8, 4


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
    return next(name for name, module in network.named_modules() if module is head)


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


def freeze(network: nn.Module, n_last: int) -> list[nn.Module]:
    """Let the last stages learn, and the classifier; the frozen modules.

    The caller keeps those in evaluation mode, or their batch norms would still move.
    """
    every = stages(network)
    first = max(0, len(every) - n_last)
    still = {name for stage in every[:first] for name in stage.parameters}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in still)
    return parts_of(network, every[:first])


def parts_of(network: nn.Module, some: Iterable[Stage]) -> list[nn.Module]:
    """The outermost modules of some stages."""
    return [network.get_submodule(name) for stage in some for name in stage.modules]
