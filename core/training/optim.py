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

# Learning rates for `auto`, by what is trained. AdamW's body rate with a head ten times faster is
# the usual choice for LP-FT (Kumar et al. 2022); the others were measured to do about as well.
RATES: dict[str, dict[str, float]] = {
    "adamw": {"feature_extraction": 2e-3, "finetune": 2e-4, "from_scratch": 1e-3},
    "adam": {"feature_extraction": 2e-3, "finetune": 2e-4, "from_scratch": 1e-3},
    "sgd": {"feature_extraction": 5e-2, "finetune": 5e-3, "from_scratch": 5e-2},
    "rmsprop": {"feature_extraction": 1e-3, "finetune": 3e-5, "from_scratch": 3e-4},
}
MOMENTUM = 0.9


def rate_of(recipe: Recipe, technique: str) -> float:
    """The learning rate of a recipe, `auto` looked up."""
    rate = recipe.optimizer.learning_rate
    return RATES[recipe.optimizer.name][technique] if rate == "auto" else float(rate)


def build(
    recipe: Recipe, rate: float, body: nn.Module | None, head: nn.Module, head_scale: float
) -> Optimizer:
    """An optimizer of timm over a body and a head that learns `head_scale` times as fast.

    Norms and biases are not decayed: pulling them to zero only shifts the features.
    """
    from timm.optim import create_optimizer_v2

    of_head = {id(p) for p in head.parameters()}
    rest = [p for p in body.parameters() if id(p) not in of_head] if body else []
    groups = [
        *decayed(rest, recipe.optimizer.weight_decay, 1.0),
        *decayed(head.parameters(), recipe.optimizer.weight_decay, head_scale),
    ]
    for group in groups:
        group["lr"] = rate * group["lr_scale"]
    made: Optimizer = create_optimizer_v2(
        groups, opt=recipe.optimizer.name, lr=rate, weight_decay=0.0, momentum=MOMENTUM
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


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a share of the base rate, by step; it has no state to keep."""

    share: Callable[[float], float]
    steps: int
    warmup: int
    rate: float

    def at(self, step: int) -> float:
        """The base rate at a step, 0 … steps − 1."""
        if step < self.warmup:
            return self.rate * (step + 1) / (self.warmup + 1)
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * self.share(progress)

    def apply(self, optimizer: Optimizer, step: int) -> float:
        """Set every group's rate for a step; the base rate."""
        rate = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        return rate


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * min(1.0, progress))),
    "constant": lambda progress: 1.0,
}


def schedule_of(recipe: Recipe, rate: float, steps: int) -> Schedule:
    """The schedule of a recipe over so many steps."""
    warmup = round(recipe.schedule.warmup * steps)
    return Schedule(SCHEDULES[recipe.schedule.name], steps, warmup, rate)


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
    """An Accelerator for one device and precision; one for each process."""
    from accelerate import Accelerator

    # accelerate chooses the device itself unless this names it.
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    return Accelerator(mixed_precision=MIXED[precision], cpu=device.type == "cpu")
