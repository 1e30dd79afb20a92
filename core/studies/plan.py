"""What a search is told: how to choose, among what, by which figure, and when to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from core import recipe as recipes
from core.data.dataset import Dataset
from core.errors import RecipeRefused
from core.schema import Recipe
from core.storage import Json
from core.studies import study as studies
from core.studies.methods import METHODS, PRUNING
from core.studies.space import Space, points, read, to_json
from core.studies.study import Study

MOST_TRIALS, MOST_PARALLEL, MOST_FOLDS = 10_000, 64, 20


@dataclass(frozen=True)
class Metric:
    """A figure that trials are compared by. epoch: its name in the figures of an epoch."""

    title: str
    help: str
    epoch: str
    larger_is_better: bool

    def better(self, one: float, other: float) -> bool:
        """Whether one value is better than another."""
        return one > other if self.larger_is_better else one < other


METRICS: dict[str, Metric] = {
    "log_loss": Metric(
        "log loss",
        "How far the probabilities are from the truth. Finer than accuracy: with few validation "
        "images many trials have the same accuracy.",
        "loss",
        False,
    ),
    "accuracy": Metric("accuracy", "Share of images classified right.", "accuracy", True),
    "macro_f1": Metric(
        "macro-F1", "Mean of the classes' F1: a rare class counts the same.", "macro_f1", True
    ),
}


@dataclass(frozen=True)
class Plan:
    """What a search is told.

    trials: how many, at most. metric: of the validation images; with folds, of each fold's own
    images, averaged. seed: of the choice; the trainings have the recipe's. budget: seconds at work
    after which no trial begins, 0 is no limit. folds: trainings of one trial, 0 is one split.
    parallel: trials at once, 0 is one for each device.
    """

    space: Space
    method: str = "tpe"
    trials: int = 30
    metric: str = "log_loss"
    pruning: str = "median"
    seed: int = 0
    budget: float = 0.0
    folds: int = 0
    parallel: int = 0

    @property
    def judge(self) -> Metric:
        """The figure that decides."""
        return METRICS[self.metric]

    @property
    def directions(self) -> list[str]:
        """For each objective whether it is maximized; the second is milliseconds an image."""
        first = "maximize" if self.judge.larger_is_better else "minimize"
        return [first, "minimize"][: METHODS[self.method].objectives]

    def to_json(self) -> Json:
        """As a study keeps it."""
        return {**asdict(self), "space": to_json(self.space)}


def check(plan: Plan) -> None:
    """Refuse what cannot be searched.

    Raises: RecipeRefused.
    """
    for name, known in (("method", METHODS), ("metric", METRICS), ("pruning", PRUNING)):
        if getattr(plan, name) not in known:
            raise RecipeRefused(
                f"There is no {name} {getattr(plan, name)!r}.", f"Choose {', '.join(known)}."
            )
    limits = {"trials": (1, MOST_TRIALS), "parallel": (0, MOST_PARALLEL), "seed": (0, 2**31 - 1)}
    for name, (least, most) in limits.items():
        if not least <= getattr(plan, name) <= most:
            raise RecipeRefused(f"{name} is {getattr(plan, name)}.", f"Give {least} to {most:,}.")
    if plan.folds and not 2 <= plan.folds <= MOST_FOLDS:
        raise RecipeRefused(
            f"A trial cannot have {plan.folds} folds.", f"Give 2 to {MOST_FOLDS}, or 0 for none."
        )
    if not 0 <= plan.budget < float("inf"):
        raise RecipeRefused("The budget is no time.", "Give it as 20m, 2h or seconds.")
    if METHODS[plan.method].numbers_only and not any(p.low is not None for p in plan.space):
        raise RecipeRefused(
            f"{METHODS[plan.method].title} moves along numbers, and the space has lists alone.",
            "Add a range of numbers, or choose another method.",
        )


def read_plan(values: Json, recipe: Recipe) -> Plan:
    """A plan as a study keeps it.

    Raises: RecipeRefused.
    """
    known = {field.name for field in fields(Plan)}
    given: dict[str, Any] = {k: v for k, v in values.items() if k in known}
    return Plan(**{**given, "space": read(values["space"], recipe)})


def trials_of(plan: Plan) -> int:
    """How many trials there will be, at most: a grid has no more than its points."""
    return min(plan.trials, len(points(plan.space))) if plan.method == "grid" else plan.trials


def start(dataset: Dataset, recipe: Recipe, plan: Plan, name: str = "") -> Study:
    """Begin a search; it goes on in the background.

    Raises: RecipeRefused, WeightsMissing.
    """
    check(plan)
    n = trials_of(plan)
    around = f"{n} trials around {recipes.short_name(recipe)}"
    title = name or f"{METHODS[plan.method].title}, {around} on {dataset.name}"
    return studies.create("search", dataset, recipe, {**plan.to_json(), "trials": n}, title)


UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """A time as people write it, in seconds: 90, 90s, 20m, 1.5h, 1d; "" is 0.

    Raises: RecipeRefused.
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "s")
    try:
        return float(number or 0) * UNITS[unit]
    except ValueError as error:
        raise RecipeRefused(f"{text!r} is no time.", "Give it as 90s, 20m or 2h.") from error
