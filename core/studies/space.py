"""What a search may change: recipe fields by dotted name, each with a range or a list of values.

A space is written as YAML or JSON: `regularization.dropout: {low: 0, high: 0.5}`, with `log: true`
for even steps of a factor and `step` for a raster, or a list: `head.kind: [linear, mlp]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import yaml

from core import recipe as recipes
from core.errors import RecipeRefused
from core.recipe import LONGEST_YAML, PlainLoader
from core.schema import Recipe
from core.storage import Json

Value = float | int | str | bool
FIELDS = dict(recipes.fields())
MOST_PARAMETERS, MOST_CHOICES, MOST_POINTS = 30, 50, 10_000
# Where a grid is laid over a range that has no steps.
GRID_POINTS = 4
KEYS = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Parameter:
    """One field that a search changes: numbers from low to high, or one of `choices`.

    log: each factor is as likely as another. step: distance of the values, None for any. whole:
    whether the values are whole numbers.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()
    whole: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that must be possible: both ends, or every choice."""
        return self.choices or tuple(v for v in (self.low, self.high) if v is not None)

    def grid(self) -> tuple[Value, ...]:
        """The values that a grid has of it: all choices, all steps, or a few points evenly."""
        if self.choices or self.low is None or self.high is None:
            return self.choices
        if self.step is not None:
            n = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            found = [self.low + k * self.step for k in range(n)]
        elif self.log:
            ratio = self.high / self.low
            found = [self.low * ratio ** (k / (GRID_POINTS - 1)) for k in range(GRID_POINTS)]
        else:
            width = self.high - self.low
            found = [self.low + width * k / (GRID_POINTS - 1) for k in range(GRID_POINTS)]
        values = (round(v) if self.whole else float(f"{v:.6g}") for v in found)
        return tuple(dict.fromkeys(values))

    def to_json(self) -> Any:
        """As it is written in a space."""
        if self.choices:
            return list(self.choices)
        facts = {"low": self.low, "high": self.high, "log": self.log, "step": self.step}
        return {
            key: value for key, value in facts.items() if value is not None and value is not False
        }


Space = tuple[Parameter, ...]


def read(values: Mapping[str, Any], recipe: Recipe) -> Space:
    """A space from what was written; every end and choice must be possible in the recipe.

    Raises: RecipeRefused, naming the field and what is wrong with it.
    """
    if not 1 <= len(values) <= MOST_PARAMETERS:
        raise RecipeRefused(
            f"The space has {len(values)} fields.", f"Name 1 to {MOST_PARAMETERS} recipe fields."
        )
    found = tuple(parameter(str(name), value) for name, value in values.items())
    for one in found:
        if one.name.startswith(JUDGES):
            raise RecipeRefused(
                f"{one.name} cannot be searched: it decides which images judge, and those are the "
                "same for all trials.",
                "Leave it out of the space.",
            )
        for value in one.ends:
            recipes.changed(recipe, recipes.by_section({one.name: value}))
    return found


def parameter(name: str, value: Any) -> Parameter:
    """One field of a space.

    Raises: RecipeRefused.
    """
    if name not in FIELDS:
        raise RecipeRefused(
            f"There is no recipe field {name}.", "`python -m core fields` lists them."
        )
    if isinstance(value, list | tuple):
        if not 1 <= len(value) <= MOST_CHOICES or not all(isinstance(v, Value) for v in value):
            raise wrong(name, f"a list has 1 to {MOST_CHOICES} plain values")
        return Parameter(name, choices=tuple(dict.fromkeys(value)))
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) <= KEYS:
        raise wrong(name, "a range has low and high, and may have log and step")
    low, high, step = (value.get(key) for key in ("low", "high", "step"))
    numbers = [v for v in (low, high, step) if v is not None]
    if not all(is_number(v) for v in numbers) or low is None or high is None:
        raise wrong(name, "low, high and step are numbers")
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise wrong(name, "log is true or false")
    if low >= high or (step is not None and not 0 < step <= high - low):
        raise wrong(name, "low is less than high, and step less than their distance")
    if log and (low <= 0 or step is not None):
        raise wrong(name, "with log, low is more than 0 and there is no step")
    whole = "float" not in str(FIELDS[name].annotation)
    if whole and any(v != int(v) for v in numbers):
        raise wrong(name, "low, high and step are whole numbers")
    return Parameter(name, low, high, log, step, whole=whole)


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(float(value))  # type: ignore[arg-type]


def wrong(name: str, rule: str) -> RecipeRefused:
    """The refusal of one field of a space."""
    return RecipeRefused(
        f"The space's {name} cannot be used: {rule}.",
        "Write it as {low: 0.001, high: 0.1, log: true}, or as a list of values.",
    )


def from_yaml(text: str, recipe: Recipe) -> Space:
    """A space from YAML.

    Raises: RecipeRefused.
    """
    try:
        values = yaml.load(text[:LONGEST_YAML], PlainLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeRefused(f"The space is no valid YAML: {error}.", "Correct it.") from error
    if not isinstance(values, dict):
        raise RecipeRefused("The space is no list of fields.", "Write name: {low: 0, high: 1}.")
    return read(values, recipe)


def to_json(space: Space) -> Json:
    """A space as it is written."""
    return {one.name: one.to_json() for one in space}


def grid(space: Space) -> dict[str, list[Value]]:
    """Every field's values for a grid.

    Raises: RecipeRefused for more points than anybody would wait for.
    """
    values = {one.name: list(one.grid()) for one in space}
    n = math.prod(map(len, values.values()))
    if n > MOST_POINTS:
        raise RecipeRefused(
            f"The grid has {n:,} points.", f"Leave out fields or values: {MOST_POINTS:,} are most."
        )
    return values


def points(space: Space) -> list[Json]:
    """All points of a grid."""
    values = grid(space)
    return [dict(zip(values, one, strict=True)) for one in product(*values.values())]


def applied(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """The recipe of a trial. Values of fields that say nothing beside the others are left out.

    So two trials that differ in such a field alone have the same recipe.
    Raises: RecipeRefused for values that do not go together.
    """
    every = {name: recipes.value_of(recipe, name) for name, _ in recipes.fields()} | dict(values)
    used = {name: value for name, value in values.items() if recipes.applies(name, every)}
    return recipes.changed(recipe, recipes.by_section(used))


# What the page offers for a field, and the shell takes for a field without a range.
RANGES: dict[str, Any] = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 3e-2, "log": True},
    "optimizer.name": ["adam", "adamw", "sgd", "rmsprop"],
    "optimizer.weight_decay": {"low": 1e-4, "high": 0.3, "log": True},
    "optimizer.l1": {"low": 1e-7, "high": 1e-3, "log": True},
    "head.kind": ["linear", "mlp"],
    "head.hidden": [64, 128, 256, 512],
    "head.activation": ["relu", "gelu", "tanh"],
    "head.c": {"low": 0.01, "high": 100.0, "log": True},
    "regularization.dropout": {"low": 0.0, "high": 0.6},
    "regularization.label_smoothing": {"low": 0.0, "high": 0.2},
    "regularization.drop_path": {"low": 0.0, "high": 0.3},
    "compute.batch_size": [8, 16, 32, 64, 128],
    "schedule.epochs": {"low": 5, "high": 60},
    "schedule.name": ["constant", "cosine", "one_cycle", "step"],
    "schedule.warmup": {"low": 0.0, "high": 0.3},
    "technique.name": ["feature_extraction", "last_stages", "finetune"],
    "technique.layer_decay": {"low": 0.6, "high": 1.0},
    "augmentation.policy": ["none", "light", "medium"],
    "balance.method": ["none", "class_weights", "oversample", "focal"],
    "image.size": [160, 192, 224, 288],
    "backbone.name": ["tf_efficientnet_lite0", "mobilenetv3_large_100", "resnet18"],
}
# Fields that decide which images are learned from, and which judge.
JUDGES = ("seed", "data.")
# Fields that are searched together, by technique.
STARTERS: dict[str, tuple[str, ...]] = {
    "head": (
        "head.kind", "head.hidden", "optimizer.learning_rate", "optimizer.weight_decay",
        "regularization.dropout", "regularization.label_smoothing",
    ),
    "finetune": (
        "optimizer.learning_rate", "optimizer.weight_decay", "technique.layer_decay",
        "augmentation.policy", "regularization.dropout", "regularization.label_smoothing",
    ),
}  # fmt: skip


def starter(recipe: Recipe) -> Json:
    """The space that a search of a recipe begins with: see `read`."""
    kind = "head" if recipe.is_frozen else "finetune"
    return {name: RANGES[name] for name in STARTERS[kind]}
