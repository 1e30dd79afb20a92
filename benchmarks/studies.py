"""A search's trials on cached features, against the same trainings one after the other by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks import photos
from benchmarks.pairs import Line, Pair, drained, seconds_of
from core import machine, processes
from core import recipe as recipes
from core.data.dataset import Dataset
from core.data.importing import import_all
from core.schema import Recipe
from core.studies import plan as plans
from core.studies import space
from core.studies import study as studies
from core.studies.plan import Plan
from core.studies.study import Study

REFERENCE = (
    "the same recipes trained in the same order in one process that is warm, without queue, driver "
    "or database, and measuring the same figures"
)
TRIALS = 12
SPACE = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 3e-2, "log": True},
    "regularization.dropout": {"low": 0.0, "high": 0.5},
}


def measured(data: Path, repeat: int) -> Line:
    """Seconds of a whole trial, from when it is proposed to when the next is.

    The first, which starts the worker and computes the features, is left out.
    """
    machine.share_cores()
    machine.keep_heap()
    with photos.fresh_home() as home:
        dataset = import_all(data)
        base = recipes.preset("quick")
        pairs: list[Pair] = []
        seconds = 0.0
        for number in range(repeat):
            with supervised(home):
                study = searched(dataset, base, number)
            trials = sorted(
                (run for key, run in studies.members(study).items() if key.isdigit()),
                key=lambda run: int(run.member),
            )
            begun = [datetime.fromisoformat(run.created).timestamp() for run in trials]
            whole = [after - before for before, after in pairwise(begun)]
            bare = [trained(dataset, run.recipe, home / f"bare-{run.id}") for run in trials][1:-1]
            pairs += zip(whole[1:], bare, strict=True)
            seconds += begun[-1] - begun[1]
        n = len(pairs)
        overhead = [round(value - reference, 3) for value, reference in pairs]
        facts = {
            "overhead_seconds": round(median(overhead), 3), "most_overhead_seconds": max(overhead),
            "trials_per_minute": round(60 * n / seconds, 1), "trials": n,
        }  # fmt: skip
        return Line("studies", "s", "lower", REFERENCE, pairs, photos.named(data, dataset), facts)


def searched(dataset: Dataset, base: Recipe, seed: int) -> Study:
    """A random search that is over."""
    plan = Plan(space.read(SPACE, base), "random", TRIALS, pruning="none", seed=seed)
    study = plans.start(dataset, base, plan)
    while not study.result:
        studies.attend(study)
        time.sleep(0.2)
    return study


@contextmanager
def supervised(home: Path) -> Iterator[None]:
    """A supervisor that ends with what is measured."""
    process = subprocess.Popen([sys.executable, "-m", "core", "worker"], cwd=processes.ROOT)
    try:
        yield
    finally:
        processes.kill_with_children(process.pid)
        process.wait()
        (home / "supervisor.begun").unlink(missing_ok=True)


def trained(dataset: Dataset, recipe: Recipe, folder: Path) -> float:
    """Seconds that one training takes by itself."""
    from core.training.fit import Wanted, fit

    folder.mkdir()
    wanted = Wanted(("val",), model=False, timed=False)
    return seconds_of(lambda: drained(fit(dataset, recipe, folder, wanted=wanted)))
