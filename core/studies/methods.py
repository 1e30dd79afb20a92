"""How a search chooses what to try next, and which trials it gives up early: tables over optuna.

A sampler is made anew for every trial, its seed drawn from the search's own and the trial's number:
what it proposes depends on the trials before it alone, not on which process asks, so that a search
taken up again goes on as if it had never been interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.machine import late_numpy as np
from core.studies.space import Space, grid


@dataclass(frozen=True)
class Method:
    """One way to choose. make(seed, space, trials): an optuna sampler.

    one_order: whether all trials have the seed of the search, since it puts everything in order.
    """

    title: str
    help: str
    make: Callable[[int, Space, int], Any]
    objectives: int = 1
    numbers_only: bool = False
    one_order: bool = False


def random(seed: int, space: Space, trials: int) -> Any:
    """Independent draws (Bergstra and Bengio 2012)."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def raster(seed: int, space: Space, trials: int) -> Any:
    """Every combination, in a random order."""
    from optuna.samplers import GridSampler

    return GridSampler(grid(space), seed=seed)


def beginning(trials: int) -> int:
    """Trials that are drawn at random before a model of the others says anything."""
    return max(4, min(10, trials // 3))


def tpe(seed: int, space: Space, trials: int) -> Any:
    """Tree-structured Parzen estimators, all fields together (Bergstra et al. 2011)."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=beginning(trials), multivariate=True)


def gaussian(seed: int, space: Space, trials: int) -> Any:
    """A Gaussian process and its expected improvement (Jones et al. 1998)."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=beginning(trials))


def cma(seed: int, space: Space, trials: int) -> Any:
    """A normal distribution that moves and stretches towards the better (Hansen 2016)."""
    from optuna.samplers import CmaEsSampler, RandomSampler

    return CmaEsSampler(
        seed=seed, warn_independent_sampling=False,
        independent_sampler=RandomSampler(seed=seed),
        popsize=max(4, min(4 + int(3 * np.log(max(1, len(space)))), trials // 3)),
    )  # fmt: skip


def nsga2(seed: int, space: Space, trials: int) -> Any:
    """Generations of which those survive that no other beats in everything (Deb et al. 2002)."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=max(4, min(50, trials // 4)))


METHODS: dict[str, Method] = {
    "tpe": Method(
        "Bayesian (TPE)",
        "Tries at random first, then where good trials were. The usual choice.",
        tpe,
    ),
    "gp": Method(
        "Bayesian (Gaussian process)",
        "Fits a smooth surface through all trials. Good with few trials and few fields; slow "
        "beyond some hundred.",
        gaussian,
    ),
    "cmaes": Method(
        "Evolutionary (CMA-ES)",
        "Generations of trials around the best so far. For ranges of numbers; wants 50 trials or "
        "more. Lists of values are drawn at random.",
        cma,
        numbers_only=True,
    ),
    "nsga2": Method(
        "Evolutionary, accuracy and speed (NSGA-II)",
        "Looks for all classifiers that are the best for their speed. Search the backbone or the "
        "image size with it: a head changes no speed.",
        nsga2,
        objectives=2,
    ),
    "random": Method("Random", "Every trial independent of the others. Hard to fool.", random),
    "grid": Method(
        "Grid",
        "Every combination of the listed values; four points of a range without steps.",
        raster,
        one_order=True,
    ),
}


@dataclass(frozen=True)
class Pruning:
    """One way to give up trials that are hopeless. make(): an optuna pruner."""

    title: str
    help: str
    make: Callable[[], Any]


def nothing() -> Any:
    """No trial is given up."""
    from optuna.pruners import NopPruner

    return NopPruner()


def median() -> Any:
    """Below the median of the earlier trials at the same epoch (Golovin et al. 2017)."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=4, n_warmup_steps=1)


def halving() -> Any:
    """Asynchronous successive halving (Li et al. 2020)."""
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)


PRUNING: dict[str, Pruning] = {
    "median": Pruning(
        "Median", "Stops a trial that is worse than half of the earlier ones at its epoch.", median
    ),
    "halving": Pruning(
        "Successive halving", "Only the best third goes on at epochs 2, 6, 18, ….", halving
    ),
    "none": Pruning("None", "Every trial is trained to its end.", nothing),
}


def sampler(method: str, seed: int, number: int, space: Space, trials: int) -> Any:
    """What proposes the trial with this number."""
    chosen = METHODS[method]
    return chosen.make(seed if chosen.one_order else seed_of(seed, number), space, trials)


@dataclass(frozen=True)
class Whole:
    """A sampler of optuna that draws all fields of a trial before the first is written down.

    Optuna asks it for one field after the other, each written before the next is drawn. A process
    that takes up a trial cut off in between would have random numbers left that were used before;
    this one draws the same fields again, of which those that are known already are only read.
    wanted: the distribution of each field.
    """

    inner: Any
    wanted: dict[str, Any]

    def before_trial(self, study: Any, trial: Any) -> None:
        """What the sampler itself does first."""
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """All fields."""
        return self.wanted

    def sample_relative(self, study: Any, trial: Any, space: dict[str, Any]) -> dict[str, Any]:
        """The values of all fields, by name."""
        storage, number = study._storage, trial._trial_id
        for name in storage.get_trial_system_attrs(number):
            if "relative_params" in name:  # What was drawn before is no other trial's.
                storage.set_trial_system_attr(number, name, "")
        fresh = storage.get_trial(number)
        together = self.inner.infer_relative_search_space(study, fresh)
        values: dict[str, Any] = self.inner.sample_relative(study, fresh, together)
        return values | {
            name: self.inner.sample_independent(study, fresh, name, one)
            for name, one in space.items()
            if name not in values and not one.single()
        }

    def sample_independent(self, study: Any, trial: Any, name: str, one: Any) -> Any:
        """Of a field whose value was outside of its range."""
        return self.inner.sample_independent(study, trial, name, one)


def seed_of(seed: int, number: int) -> int:
    """The seed of one trial's sampler."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def distribution(parameter: Any) -> Any:
    """A field of a space as optuna knows it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    if parameter.whole:
        step = int(parameter.step or 1)
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, step)
    return FloatDistribution(
        float(parameter.low), float(parameter.high), parameter.log, parameter.step
    )


def rastered(space: Space) -> dict[str, Any]:
    """The fields of a space as a grid knows them: lists of values."""
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(values) for name, values in grid(space).items()}
