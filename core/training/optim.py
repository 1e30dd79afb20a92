"""Optimizers, schedules, precision: tables and small objects, so that the loop has no branches."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core.schema import Recipe
from core.schema import Schedule as ScheduleSettings

# Learning rates for `auto`, by what is trained: a head on features, a pretrained network with batch
# norm, one with layer norm (transformers, ConvNeXt), a network from scratch. 5e-4 was measured with
# lite0 on sign-digits and textile photos, four epochs; layer norms want less, 1e-4 with a head ten
# times faster being the usual choice for LP-FT (Kumar et al. 2022). The others were not measured.
RATES: dict[str, dict[str, float]] = {
    "adamw": {"head": 2e-3, "tune": 5e-4, "tune_layer_norm": 1e-4, "scratch": 1e-3},
    "adam": {"head": 2e-3, "tune": 5e-4, "tune_layer_norm": 1e-4, "scratch": 1e-3},
    "sgd": {"head": 5e-2, "tune": 1e-2, "tune_layer_norm": 5e-3, "scratch": 5e-2},
    "rmsprop": {"head": 1e-3, "tune": 5e-5, "tune_layer_norm": 2e-5, "scratch": 3e-4},
}
# timm's names: its sgd is Nesterov's, its momentum the plain one.
OPTIMIZERS = {("sgd", True): "sgd", ("sgd", False): "momentum"}
# Batch size that the rates above suit, and how a rate follows a larger batch: in proportion for
# SGD (Goyal et al. 2017), by the root of it for the adaptive ones (Malladi et al. 2022).
USUAL_BATCH = 16
GROWTH = {"sgd": 1.0}
ADAPTIVE_GROWTH = 0.5
LAYER_DECAY = 0.85
# One-cycle's momentum moves so far to either side while the rate does the reverse (Smith 2018).
MOMENTUM_SWING, MOST_MOMENTUM = 0.05, 0.99
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1e-4


def kind_of_rate(recipe: Recipe, network: nn.Module) -> str:
    """Which column of `RATES` the training of a network looks in."""
    if not recipe.is_pretrained:
        return "scratch"
    normed = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    return "tune" if normed else "tune_layer_norm"


def rate_of(recipe: Recipe, kind: str) -> float:
    """The learning rate of a recipe, `auto` looked up; `find` begins its search from there."""
    rate = recipe.optimizer.learning_rate
    return float(RATES[recipe.optimizer.name][kind]) if isinstance(rate, str) else rate


def scaled(rate: float, optimizer: str, growth: float) -> float:
    """A learning rate for a batch that is `growth` times the usual one."""
    return float(rate * growth ** GROWTH.get(optimizer, ADAPTIVE_GROWTH))


def layer_decay_of(recipe: Recipe) -> float:
    """How much slower each earlier stage learns, `auto` looked up."""
    wanted = recipe.technique.layer_decay
    if wanted != "auto":
        return float(wanted)
    return LAYER_DECAY if recipe.is_pretrained else 1.0


# Parameters and how many times the base rate they learn at.
Part = tuple[Iterable[nn.Parameter], float]


def build(recipe: Recipe, rate: float, parts: Iterable[Part]) -> Optimizer:
    """An optimizer of timm over parts of a network that learn at rates of their own.

    Norms and biases are not decayed: pulling them to zero only shifts the features.
    """
    from timm.optim import create_optimizer_v2

    settings = recipe.optimizer
    groups = [
        group
        for parameters, scale in parts
        for group in decayed(parameters, settings.weight_decay, scale)
    ]
    for group in groups:
        group["lr"] = rate * group["lr_scale"]
    name = OPTIMIZERS.get((settings.name, settings.nesterov), settings.name)
    made: Optimizer = create_optimizer_v2(
        groups, opt=name, lr=rate, weight_decay=0.0, momentum=settings.momentum
    )
    return made


def decayed(parameters: Iterable[nn.Parameter], decay: float, scale: float) -> list[dict[str, Any]]:
    """Two groups of the parameters that learn: matrices with weight decay, vectors without."""
    learning = [p for p in parameters if p.requires_grad]
    matrices, vectors = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": decay, "lr_scale": scale},
        {"params": vectors, "weight_decay": 0.0, "lr_scale": scale},
    ]
    return [group for group in groups if group["params"]]


def absolute_sum(optimizer: Optimizer) -> Tensor:
    """The sum of the sizes of all weights that learn now: what L1 makes small."""
    weights = [
        p
        for group in optimizer.param_groups
        for p in group["params"]
        if p.ndim > 1 and p.requires_grad
    ]
    return torch.stack([p.abs().sum() for p in weights]).sum()


@dataclass(frozen=True)
class Shape:
    """share: of the base rate, from the share of the training that lies behind, after warm-up.

    start: share at which warm-up begins; None is one step's worth. cycled: whether the momentum
    moves against the rate.
    """

    share: Callable[[float], float]
    start: float | None = None
    cycled: bool = False


def shape_of(settings: ScheduleSettings) -> Shape:
    """The shape of a recipe's schedule."""
    factor, drops = settings.factor, settings.drops
    shapes = {
        "constant": Shape(lambda progress: 1.0),
        # Only validation knows when a plateau is reached: `Schedule.at` is told how often.
        "plateau": Shape(lambda progress: 1.0),
        "step": Shape(lambda progress: factor ** fallen(progress, drops)),
        "exponential": Shape(lambda progress: factor**progress),
        "cosine": Shape(half_wave),
        "one_cycle": Shape(
            lambda progress: ONE_CYCLE_END + (1 - ONE_CYCLE_END) * half_wave(progress),
            start=ONE_CYCLE_START,
            cycled=True,
        ),
    }
    return shapes[settings.name]


def fallen(progress: float, drops: int) -> int:
    """How many of its falls lie behind a rate that falls at equal distances."""
    # 22 * (15 / 22) is a little less than 15.
    return min(drops, int(progress * (drops + 1) + 1e-9))


def half_wave(progress: float) -> float:
    """From 1 to 0 as half a cosine wave."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class Schedule:
    """The learning rate by step; it has no state to keep."""

    shape: Shape
    steps: int
    warmup: int
    rate: float
    factor: float = 1.0  # of the rate, for each plateau
    patience: int = 0  # epochs that make a plateau; 0: there are none
    momentum: float = 0.9  # in the middle of a cycle

    def share(self, step: int) -> float:
        """Of the base rate at a step, 0 … steps - 1, plateaus left out."""
        if step < self.warmup:
            start, risen = self.shape.start, (step + 1) / (self.warmup + 1)
            return risen if start is None else start + (1 - start) * (1 - half_wave(risen))
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.shape.share(progress)

    def at(self, step: int, plateaus: int = 0) -> float:
        """The base rate at a step after so many plateaus."""
        return self.rate * self.share(step) * self.factor**plateaus

    def apply(self, optimizer: Optimizer, step: int, plateaus: int = 0) -> float:
        """Set every group's rate, and momentum if it moves, for a step; the base rate."""
        rate = self.at(step, plateaus)
        swing = MOMENTUM_SWING * (1 - 2 * self.share(step))
        momentum = min(MOST_MOMENTUM, max(0.0, self.momentum + swing))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
            if self.shape.cycled and "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif self.shape.cycled and group.get("momentum"):
                group["momentum"] = momentum
        return rate


def schedule_of(recipe: Recipe, rate: float, steps: int) -> Schedule:
    """The schedule of a recipe over so many steps."""
    settings = recipe.schedule
    watched = settings.name == "plateau"
    return Schedule(
        shape_of(settings),
        steps,
        round(settings.warmup * steps),
        rate,
        settings.factor if watched else 1.0,
        settings.patience if watched else 0,
        recipe.optimizer.momentum,
    )


def epochs_of(recipe: Recipe, steps_per_epoch: int) -> int:
    """The epochs of a recipe, more of them where so few images would make too few steps."""
    return max(recipe.schedule.epochs, math.ceil(recipe.schedule.min_steps / steps_per_epoch))


class Plain:
    """Full precision on one device: what a head on cached features needs.

    It has those methods of accelerate's Accelerator that the loop calls, doing only the plain
    thing.
    """

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip_grad_norm_(self, parameters: Any, max_norm: float) -> Any:
        """Shorten the gradient to a norm of at most `max_norm`."""
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    def autocast(self) -> AbstractContextManager[None]:
        """Nothing: the numbers stay as they are."""
        return torch.autocast("cpu", enabled=False)


MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def accelerator(device: torch.device, precision: str) -> Any:
    """An Accelerator for one device and precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # accelerate keeps the first choice of a process for good, unless it is told to forget it.
    AcceleratorState._reset_state(reset_partial_state=True)
    # accelerate chooses the device itself unless this names it.
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    return Accelerator(mixed_precision=MIXED[precision], cpu=device.type == "cpu")
