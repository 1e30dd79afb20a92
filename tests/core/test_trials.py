"""The trials of a search in the database, without any training: what is proposed, and again."""

from __future__ import annotations

from itertools import count

import pytest

from core import recipe as recipes
from core.data import importing
from core.runs import run as runs
from core.runs import supervisor
from core.runs.run import Place
from core.studies import plan as plans
from core.studies import space, trials
from core.studies import study as studies
from core.studies.methods import METHODS
from core.studies.plan import Plan

NUMBERS = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "optimizer.weight_decay": {"low": 0.0, "high": 0.1},
    "head.hidden": {"low": 8, "high": 64, "step": 8},
}
LISTS = {"head.kind": ["linear", "mlp"], "optimizer.name": ["adam", "sgd"], "head.dropout": [0.1]}
TOLD, SEED = 5, 3
WRITES = ("create_new_trial", "set_trial_param", "set_trial_system_attr")


class CutOffError(Exception):
    """Stands for the death of a process."""


@pytest.fixture
def photos(class_photos, make_folder, monkeypatch):
    monkeypatch.setattr(supervisor, "ensure", lambda: None)  # Nobody else works on these.
    return importing.import_all(make_folder(class_photos("ants", "bees", each=2)))


@pytest.fixture
def ledger_of(photos):
    """Makes the ledger of a new search with trials that were told before."""

    def made(method: str) -> trials.Ledger:
        recipe = recipes.preset("quick")
        fields = NUMBERS if METHODS[method].numbers_only else {**NUMBERS, **LISTS}
        plan = Plan(space.read(fields, recipe), method=method, trials=12, seed=SEED, pruning="none")
        study = plans.start(photos, recipe, plan)
        ledger = trials.opened(study, plan)
        for number in range(TOLD):
            ledger.ask()
            params = ledger.open[number].params
            values = [params["optimizer.learning_rate"], params["head.hidden"]]
            ledger.tell(number, trials.COMPLETE, values[: len(plan.directions)], runs=[])
        return ledger

    return made


def cut_off(ledger: trials.Ledger, writes: int, monkeypatch) -> bool:
    """Propose a trial and die after so many writes; whether it came so far."""
    numbers = count()
    with monkeypatch.context() as patch:
        for name in WRITES:
            write = getattr(ledger.optuna._storage, name)

            def written(*given, write=write, **options):
                if next(numbers) == writes:
                    raise CutOffError
                return write(*given, **options)

            patch.setattr(ledger.optuna._storage, name, written)
        try:
            ledger.ask()
        except CutOffError:
            return True
    return False


def lose_database(home):
    for path in home.glob("headstart.db*"):
        path.unlink()


@pytest.mark.parametrize("method", METHODS)
def test_a_lost_database_is_made_again_with_the_numbers_of_all_trials(method, ledger_of, home):
    ledger = ledger_of(method)
    data, recipe = ledger.study.data(), ledger.study.recipe
    for number in (TOLD, TOLD + 1):
        ledger.ask()
        place = Place(ledger.study.id, str(number))
        params = ledger.open[number].params
        runs.create(data, space.applied(recipe, params), place=place)
    open_one, done = ledger.open[TOLD].params, ledger.open[TOLD + 1].params
    values = [0.5] * len(ledger.plan.directions)
    ledger.tell(TOLD + 1, trials.COMPLETE, values, runs=[])  # The later one is over first.
    lines = [record["number"] for record in ledger.records]
    lose_database(home)
    for _ in range(3):
        again = trials.opened(ledger.study, ledger.plan)
        assert [record["number"] for record in trials.records_of(ledger.study)] == lines
        assert list(again.open) == [TOLD]
        trained = studies.members(ledger.study)[str(TOLD)].recipe
        assert space.applied(recipe, again.open[TOLD].params) == trained
        assert again.open[TOLD].params.keys() == open_one.keys()
    again.ask()
    assert sorted(again.open) == [TOLD, TOLD + 2]
    kept = again.optuna.get_trials()[TOLD + 1]
    assert kept.params == done and kept.state.is_finished()


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_cut_off_at_any_write_is_proposed_as_it_would_have_been(
    method, ledger_of, monkeypatch
):
    undisturbed = ledger_of(method)
    undisturbed.ask()
    wanted = undisturbed.open[TOLD].params
    assert len(wanted) >= len(NUMBERS)
    for writes in count():
        ledger = ledger_of(method)
        cut = cut_off(ledger, writes, monkeypatch)
        again = trials.opened(ledger.study, ledger.plan)
        if TOLD not in again.open:
            again.ask()
        assert again.open[TOLD].params == wanted, f"cut off after {writes} writes"
        if not cut:
            break
    assert writes > len(NUMBERS)
