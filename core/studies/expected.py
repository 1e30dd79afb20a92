"""How long a study will about take: the estimates of single trainings, so many times.

What one training leaves for the next (a process that has loaded its libraries, features, decoded
pictures) is counted once.
"""

from __future__ import annotations

from contextlib import suppress
from math import ceil, prod
from statistics import fmean

from core import recipe as recipes
from core.data.dataset import Dataset
from core.errors import HeadstartError
from core.models.advisor import Estimate
from core.schema import Recipe
from core.studies import crossval, trials
from core.studies import plan as plans
from core.studies.crossval import Plan as Folds
from core.studies.plan import Plan
from core.studies.space import applied
from core.training.estimate import estimate

# Phases that a training finds done when another one with the same pictures came before.
KEPT = frozenset(("start", "features", "decode"))
# Groups of fields of which each value has features and pictures of its own.
OWN_PICTURES = frozenset(("backbone", "image"))
# So many trials are drawn and measured; their mean stands for all.
DRAWN = 5


def of_search(dataset: Dataset, recipe: Recipe, plan: Plan) -> tuple[int, float]:
    """Trainings of a search, at most, and the seconds they take one after the other.

    That is without trials that are given up early. After a budget the last trial comes to its end,
    and the winner is trained. Raises: RecipeRefused, MachineRefused, WeightsMissing.
    """
    plans.check(plan)
    folds, n = max(1, plan.folds), plans.trials_of(plan)
    base = estimate(dataset, recipe)
    some = drawn(dataset, recipe, plan) or [base]
    trial = fmean(map(again, some))
    pictures = fmean(one.seconds - again(one) - start_of(one) for one in some)
    begin = base.seconds + (folds - 1) * again(base) + kinds_of(plan, n) * pictures
    if plan.budget:
        n = min(n, max(0, ceil((plan.budget - begin) / (folds * trial))))
    return (1 + n) * folds + 1, begin + n * folds * trial + trial


def drawn(dataset: Dataset, recipe: Recipe, plan: Plan) -> list[Estimate]:
    """Estimates of some trials of a search, those left out that would fail at once."""
    found = []
    for params in trials.some(plan, DRAWN):
        with suppress(HeadstartError):
            found.append(estimate(dataset, applied(recipe, params)))
    return found


def kinds_of(plan: Plan, n: int) -> int:
    """How many times n trials compute features or decode anew: once for what the base has not."""
    own = [one for one in plan.space if one.name.partition(".")[0] in OWN_PICTURES]
    return min(n, prod(len(one.choices) or n for one in own)) if own else 0


def of_crossval(dataset: Dataset, recipe: Recipe, plan: Folds) -> tuple[int, float]:
    """Trainings of a cross-validation, and the seconds they take one after the other.

    Raises: DatasetRefused for folds that the images do not allow, RecipeRefused, MachineRefused,
    WeightsMissing.
    """
    kept_out = recipes.changed(recipe, {"data": {"keep_test": plan.keep_test}})
    n = len(crossval.folds_of(dataset, kept_out, plan))
    one = estimate(dataset, recipe)
    return n, one.seconds + (n - 1) * again(one)


def again(one: Estimate) -> float:
    """Seconds of a training that comes after another with the same pictures."""
    return sum(seconds for phase, seconds in one.phases.items() if phase not in KEPT)


def start_of(one: Estimate) -> float:
    """Seconds until a process has loaded its libraries."""
    return one.phases.get("start", 0.0)
