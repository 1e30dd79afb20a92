"""The trials of a search: optuna proposes them and keeps them in the home's database.

What is over is also a line of the study's `trials.jsonl`, from which everything can be made again
but the generations of the evolutionary methods, which then begin anew.
Whether a trial lives is not asked of optuna (its heartbeat works within `optimize` alone, as its
documentation says): the kernel's lock on the run tells.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from typing import Any

from core import recipe as recipes
from core.schema import Recipe
from core.settings import settings
from core.storage import Json, append_line, held, mend_lines, read_lines
from core.studies.methods import PRUNING, Whole, distribution, rastered, sampler
from core.studies.plan import Plan
from core.studies.study import Study, members

FILE = "trials.jsonl"
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
GIVEN_UP = "given up"
SECONDS_FOR_THE_DATABASE = 60


@dataclass
class Ledger:
    """The trials of a search.

    open: those under way, by number, as optuna has them. epochs: what was told of them, by epoch.
    """

    study: Study
    plan: Plan
    optuna: Any
    records: list[Json]
    open: dict[int, Any] = field(default_factory=dict)
    epochs: dict[int, dict[int, float]] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many trials were begun."""
        return len(self.records) + len(self.open)

    def ask(self) -> None:
        """Begin another trial."""
        self.optuna.sampler = self.sampler(self.asked)
        trial = self.optuna.ask(distributions(self.plan))
        self.open[trial.number] = trial
        self.epochs[trial.number] = {}

    def sampler(self, number: int) -> Any:
        """What proposes the trial with this number."""
        plan = self.plan
        own = sampler(plan.method, plan.seed, number, plan.space, plan.trials)
        return Whole(own, distributions(plan))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Tell how a trial is after an epoch that was not told before; whether it is hopeless."""
        trial = self.open[number]
        trial.report(value, epoch)
        self.epochs[number][epoch] = value
        if trial.should_prune():
            trial.set_user_attr(GIVEN_UP, epoch)
        return self.is_given_up(number)

    def is_given_up(self, number: int) -> bool:
        """Whether a trial was found hopeless."""
        return GIVEN_UP in self.open[number].user_attrs

    def tell(self, number: int, state: str, values: list[float] | None, **facts: Any) -> None:
        """Write down how a trial ended: in the database, then as a line."""
        trial = self.open.pop(number)
        record = {
            "number": number, "state": state, "params": trial.params, "values": values, **facts,
            "epochs": sorted(map(list, self.epochs.pop(number).items())),
        }  # fmt: skip
        trial.set_user_attr("record", record)
        close(self.optuna, trial, state, values)
        self.write(record)

    def write(self, record: Json) -> None:
        """Add the line of a trial that is over."""
        append_line(self.study.folder / FILE, record, durable=True)
        self.records.append(record)


def some(plan: Plan, n: int) -> list[dict[str, Any]]:
    """Values of trials drawn at random from the space, of which nothing is kept."""
    import optuna

    optuna.logging.set_verbosity(logging.ERROR)
    kept = optuna.create_study(sampler=optuna.samplers.RandomSampler(plan.seed))
    return [kept.ask(distributions(plan)).params for _ in range(n)]


def distributions(plan: Plan) -> dict[str, Any]:
    """The space as optuna knows it."""
    if plan.method == "grid":
        return rastered(plan.space)
    return {one.name: distribution(one) for one in plan.space}


def states() -> dict[str, Any]:
    """How trials end, as optuna says it."""
    from optuna.trial import TrialState

    return {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}


def close(study: Any, trial: Any, state: str, values: list[float] | None) -> None:
    """Tell optuna how a trial ended."""
    from optuna.samplers import RandomSampler

    # The sampler of a grid would end a loop here that there is none of.
    study.sampler = RandomSampler()
    study.tell(trial, values if state == COMPLETE else None, states()[state])


def records_of(study: Study) -> list[Json]:
    """The trials of a search that are over, in the order of their ends.

    Each has number, state (complete, pruned, failed), params, values, runs, seconds, why, epochs.
    """
    return read_lines(study.folder / FILE)


def opened(study: Study, plan: Plan) -> Ledger:
    """The trials of a search as they stand; those that were under way are so again."""
    import optuna
    from optuna.samplers import RandomSampler
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    url = f"sqlite:///{settings().home / 'headstart.db'}"
    directions = [StudyDirection[one.upper()] for one in plan.directions]
    with held(settings().home / "optuna.lock", SECONDS_FOR_THE_DATABASE):
        storage = optuna.storages.RDBStorage(
            url, engine_kwargs={"connect_args": {"timeout": SECONDS_FOR_THE_DATABASE}}
        )
        kept = optuna.create_study(
            storage=storage, study_name=study.id,
            directions=directions, sampler=RandomSampler(),
            pruner=PRUNING[plan.pruning].make(), load_if_exists=True,
        )  # fmt: skip
    mend_lines(study.folder / FILE)
    ledger = Ledger(study, plan, kept, records_of(study))
    recover(ledger)
    return ledger


def recover(ledger: Ledger) -> None:
    """Make database and lines say the same again, after a death in between or a lost database."""
    known = {record["number"] for record in ledger.records}
    make_again(ledger)
    for trial in ledger.optuna.get_trials(deepcopy=False):
        if trial.state.is_finished() and trial.number not in known:
            ledger.write(trial.user_attrs["record"])
        elif not trial.state.is_finished():
            ledger.open[trial.number] = reopened(ledger, trial)
            ledger.epochs[trial.number] = dict(trial.intermediate_values)


def make_again(ledger: Ledger) -> None:
    """Add what a lost database lacks, each trial with the number that it had.

    Those that are over are made by their lines, others by the recipes of their runs; what these do
    not say is drawn when they are taken up.
    """
    over = {int(record["number"]): record for record in ledger.records}
    begun = begun_recipes(ledger.study)
    n = len(ledger.optuna.get_trials(deepcopy=False))
    for number in range(n, max([*over, *begun], default=-1) + 1):
        if number in over:
            trial = as_trial(ledger.plan, over[number])
        else:
            trial = as_begun(ledger.plan, begun.get(number))
        ledger.optuna.add_trial(trial)


def begun_recipes(study: Study) -> dict[int, Recipe]:
    """The recipes of the trials that were begun, by number."""
    numbered = ((name.partition(".")[0], run) for name, run in members(study).items())
    return {int(name): run.recipe for name, run in numbered if name.isdigit()}


def as_begun(plan: Plan, recipe: Recipe | None) -> Any:
    """A trial of optuna that is under way, with those values of a recipe that say something."""
    from optuna.trial import TrialState, create_trial

    wanted = distributions(plan)
    every = {name: recipes.value_of(recipe, name) for name, _ in recipes.fields()} if recipe else {}
    used = {name: every[name] for name in wanted if recipe and recipes.applies(name, every)}
    params = {name: value for name, value in used.items() if has(wanted[name], value)}
    return create_trial(
        state=TrialState.RUNNING, params=params,
        distributions={name: wanted[name] for name in params},
    )  # fmt: skip


def has(one: Any, value: Any) -> bool:
    """Whether a distribution of optuna has a value."""
    try:
        return bool(one._contains(one.to_internal_repr(value)))
    except ValueError:
        return False  # Of another kind, such as a word among numbers.


def reopened(ledger: Ledger, trial: Any) -> Any:
    """A trial that is under way; one that was cut off while it was proposed is completed."""
    from optuna.trial import Trial

    wanted = distributions(ledger.plan)
    if not wanted.keys() <= trial.params.keys():
        ledger.optuna.sampler = ledger.sampler(trial.number)
    found = Trial(ledger.optuna, trial._trial_id)
    for name, one in wanted.items():
        found._suggest(name, one)  # As `ask` does; what is known already is only read.
    return found


def as_trial(plan: Plan, record: Json) -> Any:
    """A line as a trial of optuna."""
    from optuna.trial import create_trial

    return create_trial(
        state=states()[record["state"]], params=record["params"],
        distributions=distributions(plan), values=record["values"],
        user_attrs={"record": record},
        intermediate_values={int(epoch): value for epoch, value in record["epochs"]},
    )  # fmt: skip
