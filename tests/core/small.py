"""Trainings of milliseconds: a tiny network on numbers instead of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import recipe as recipes
from core.schema import Recipe
from core.training import loop, optim
from core.training.events import EpochEnded, Event, Note, Progress

Images = tuple[Tensor, Tensor]
WIDTH, CLASSES = 4, 3


def recipe_of(*assignments: str) -> Recipe:
    """A recipe with values other than the defaults, as `name=value`."""
    return recipes.with_settings(Recipe(), assignments)


def clouds(n: int = 48, seed: int = 0, apart: float = 2.0) -> Images:
    """Points N×F float32 of classes that lie `apart`, and their labels N int64."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    points = rng.normal(size=(n, WIDTH)) + apart * np.eye(CLASSES, WIDTH)[labels]
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)


def linear(seed: int = 0, width: int = WIDTH, classes: int = CLASSES) -> nn.Linear:
    """A network of one layer."""
    torch.manual_seed(seed)
    return nn.Linear(width, classes)


def task_of(
    recipe: Recipe, network: nn.Module, images: Images | None = None, *,
    batch: int = 12, rate: float = 0.1, **others: Any,
) -> loop.Task:  # fmt: skip
    """A training of a network on numbers; `others` are fields of the task."""
    inputs, targets = images or clouds()
    steps = math.ceil(len(inputs) / batch)
    epochs = recipe.schedule.epochs

    def batches(epoch: int, first: int) -> Iterator[Images]:
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(batch)[first:]:
            yield inputs[rows], targets[rows]

    given: dict[str, Any] = {
        "phase": "tune", "recipe": recipe, "network": network, "hands": optim.Plain(),
        "optimizer": optim.build(recipe, rate, [(network.parameters(), 1.0)]),
        "schedule": optim.schedule_of(recipe, rate, steps * epochs),
        "criterion": nn.CrossEntropyLoss(), "batches": batches, "validate": on(clouds(30, seed=1)),
        "thaw": lambda epoch: None, "mode": network.train, "save": lambda state: None,
        "steps_per_epoch": steps, "images": len(inputs), "epochs": epochs,
    }  # fmt: skip
    return loop.Task(**{**given, **others})


def on(held_out: Images) -> Callable[[nn.Module], tuple[np.ndarray, np.ndarray]]:
    """Validation on these."""

    def validate(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            return network(held_out[0]).numpy(), held_out[1].numpy()

    return validate


def trained(task: loop.Task, state: loop.State | None = None) -> tuple[loop.State, list[Event]]:
    """Where a training ends, and all that it tells."""
    state = state or loop.State()
    return state, list(loop.train(task, state))


def epochs_of(events: list[Event]) -> list[EpochEnded]:
    """The epochs that were told of, the one before the first step left out."""
    return [event for event in events if isinstance(event, EpochEnded) and event.epoch]


def notes_of(events: list[Event]) -> list[Note]:
    """What was said in words."""
    return [event for event in events if isinstance(event, Note)]


def column(events: list[Event], name: str) -> list[Any]:
    """One value for each step that was told of: its number, its loss or its rate."""
    return [one for event in events if isinstance(event, Progress) for one in getattr(event, name)]


def weights_of(network: nn.Module) -> Tensor:
    """All parameters in one row."""
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def same(some: Any, others: Any) -> bool:
    """Whether nested dicts, lists and tensors are equal to the last bit."""
    if isinstance(some, Tensor):
        return isinstance(others, Tensor) and some.dtype == others.dtype and some.equal(others)
    if isinstance(some, dict):
        return some.keys() == others.keys() and all(same(some[k], others[k]) for k in some)
    if isinstance(some, list | tuple):
        return len(some) == len(others) and all(map(same, some, others))
    return bool(some == others)
