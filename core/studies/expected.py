"""How long a study will about take: the estimates of single trainings, so many times.

What one training leaves for the next (a process that has loaded its libraries, features, decoded
pictures) is counted once.
"""

from __future__ import annotations

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
    trial = fmean(drawn(dataset, recipe, plan) or [again(base)])
    seconds = base.seconds + (folds - 1) * again(base) + n * folds * trial
    if plan.budget:
        seconds = min(seconds, plan.budget + folds * trial)
    return (1 + n) * folds + 1, seconds + trial


def drawn(dataset: Dataset, recipe: Recipe, plan: Plan) -> list[float]:
    """Seconds of some trials of a search, those left out that would fail at once."""
    own = any(field.name.partition(".")[0] in OWN_PICTURES for field in plan.space)
    found = []
    for params in trials.some(plan, DRAWN):
        try:
            one = estimate(dataset, applied(recipe, params))
        except HeadstartError:
            continue
        found.append(again(one, frozenset(("start",)) if own else KEPT))
    return found


def of_crossval(dataset: Dataset, recipe: Recipe, plan: Folds) -> tuple[int, float]:
    """Trainings of a cross-validation, and the seconds they take one after the other.

    Raises: DatasetRefused for folds that the images do not allow, RecipeRefused, MachineRefused,
    WeightsMissing.
    """
    kept_out = recipes.changed(recipe, {"data": {"keep_test": plan.keep_test}})
    n = len(crossval.folds_of(dataset, kept_out, plan))
    one = estimate(dataset, recipe)
    return n, one.seconds + (n - 1) * again(one)


def again(one: Estimate, kept: frozenset[str] = KEPT) -> float:
    """Seconds of a training that comes after another."""
    return sum(seconds for phase, seconds in one.phases.items() if phase not in kept)
