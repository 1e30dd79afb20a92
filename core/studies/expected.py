"""How long a study will about take: the estimate of one training, so many times.

What one training leaves for the next (a process that has loaded its libraries, features, decoded
pictures) is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable

from core import recipe as recipes
from core.data.dataset import Dataset
from core.models.advisor import Estimate
from core.schema import Recipe
from core.studies import crossval
from core.studies import plan as plans
from core.studies.crossval import Plan as Folds
from core.studies.plan import Plan
from core.training.estimate import estimate

# Phases that a training finds done when another one came before; in others nothing is kept.
KEPT = frozenset(("start", "features", "decode"))
# Groups of fields of which each value has features and pictures of its own.
OWN_FEATURES = frozenset(("backbone", "image"))


def of_search(dataset: Dataset, recipe: Recipe, plan: Plan) -> tuple[int, float]:
    """Trainings of a search, at most, and the seconds they take one after the other.

    Each is taken to last as long as that of the recipe which the search begins with. A budget ends
    the trials, not the training of the winner.
    Raises: RecipeRefused, MachineRefused.
    """
    plans.check(plan)
    trials = (1 + plans.trials_of(plan)) * max(1, plan.folds)
    one = estimate(dataset, recipe)
    winner = again(one, ())
    seconds = one.seconds + (trials - 1) * again(one, [field.name for field in plan.space])
    if plan.budget:
        seconds = min(seconds, plan.budget)
    return trials + 1, seconds + winner


def of_crossval(dataset: Dataset, recipe: Recipe, plan: Folds) -> tuple[int, float]:
    """Trainings of a cross-validation, and the seconds they take one after the other.

    Raises: DatasetRefused for folds that the images do not allow, RecipeRefused, MachineRefused.
    """
    kept_out = recipes.changed(recipe, {"data": {"keep_test": plan.keep_test}})
    n = len(crossval.folds_of(dataset, kept_out, plan))
    one = estimate(dataset, recipe)
    return n, one.seconds + (n - 1) * again(one, ())


def again(one: Estimate, varied: Iterable[str]) -> float:
    """Seconds of a training that comes after another, where some fields differ."""
    own = any(name.partition(".")[0] in OWN_FEATURES for name in varied)
    kept = {"start"} if own else KEPT
    return sum(seconds for phase, seconds in one.phases.items() if phase not in kept)
