"""What a page shows of a search: its trials as rows, the best so far, how much each field matters.

Everything is read from the study's folder and its runs; nothing of it asks the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from core.reference import label_of
from core.runs import run as runs
from core.runs.run import Run
from core.runs.status import status_of
from core.schema import Recipe
from core.storage import Json
from core.studies import study as studies
from core.studies.methods import METHODS
from core.studies.plan import Plan, read_plan
from core.studies.search import WINNER, base_of, best_of, seconds_at_work
from core.studies.study import Study
from core.studies.trials import COMPLETE, as_trial, records_of

# Fewer complete trials say nothing about what matters.
FEWEST_FOR_IMPORTANCE = 4


@dataclass(frozen=True)
class Progress:
    """A search as it stands.

    records: trials that are over, by number. live: member, phase and share done of those under way.
    base: the figure of the recipe as it was, None before it is known. seconds: at work so far.
    seconds_left: by the pace so far, None where nothing is known of it.
    """

    plan: Plan
    recipe: Recipe
    records: list[Json]
    live: list[Json]
    base: float | None
    seconds: float
    seconds_left: float | None
    best: Json | None
    winner: Run | None

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended in which way."""
        states = [record["state"] for record in self.records]
        return {state: states.count(state) for state in dict.fromkeys(states)}


def progress(study: Study) -> Progress:
    """A search as it stands."""
    recipe = study.recipe
    plan = read_plan(study.plan, recipe)
    records = sorted(records_of(study), key=lambda one: int(one["number"]))
    members = studies.members(study)
    over = {str(record["number"]) for record in records}
    seconds = seconds_at_work(study)
    return Progress(
        plan, recipe, records,
        [row for name, run in members.items() if (row := live_row(name, run, over)) is not None],
        base_of(study, plan, members), seconds, seconds_left(plan, records, seconds),
        best_of(plan, records), members.get(WINNER),
    )  # fmt: skip


def live_row(member: str, run: Run, over: set[str]) -> Json | None:
    """What a run of a search does now; None for one that is over."""
    if member.partition(".")[0] in over:
        return None
    status = status_of(run, run.events())
    if status.state not in runs.LIVE:
        return None
    return {
        "trial": member, "state": status.state, "epoch": f"{status.epoch} of {status.epochs}",
        "share": status.progress.share, "place": status.place,
    }  # fmt: skip


def seconds_left(plan: Plan, records: list[Json], seconds: float) -> float | None:
    """The time to the last trial or the end of the budget, whichever is first, and the winner."""
    if not records or not seconds:
        return plan.budget - seconds if plan.budget else None
    # The recipe as it was is done, and the winner to come.
    by_trials = (plan.trials - len(records) + 1) * seconds / (len(records) + 1)
    return max(0.0, min(by_trials, plan.budget - seconds) if plan.budget else by_trials)


def table(found: Progress) -> list[Json]:
    """One row a trial, the best first, then those that were given up or failed."""
    names = [one.name for one in found.plan.space]
    rows = []
    for record in ranked(found):
        values = record["values"] or [None]
        row: Json = {
            "trial": record["number"],
            "state": record["state"],
            found.plan.judge.title: values[0],
        }
        if len(found.plan.directions) > 1:
            row["ms an image"] = values[1] if len(values) > 1 else None
        row |= {label_of(name): short(record["params"].get(name, "")) for name in names}
        row |= {"seconds": record["seconds"], "remark": remark(record)}
        rows.append(row)
    return rows


def ranked(found: Progress) -> list[Json]:
    """The trials, the best first; those without a figure last."""
    sign = -1 if found.plan.judge.larger_is_better else 1
    return sorted(
        found.records,
        key=lambda one: (one["values"] is None, sign * (one["values"] or [0])[0], one["number"]),
    )


def remark(record: Json) -> str:
    """What else there is to say of a trial."""
    if "same_as" in record:
        return f"same recipe as trial {record['same_as']}"
    return str(record.get("why", ""))


def pareto(found: Progress) -> list[int]:
    """The trials that no other beats in both figure and speed, the fastest first."""
    complete = [record for record in found.records if record["state"] == COMPLETE]
    if len(found.plan.directions) < 2:
        return []
    sign = -1 if found.plan.judge.larger_is_better else 1
    front: list[int] = []
    least = float("inf")
    for record in sorted(complete, key=lambda one: (one["values"][1], sign * one["values"][0])):
        if sign * record["values"][0] < least:
            least = sign * record["values"][0]
            front.append(record["number"])
    return front


def importance(study: Study) -> dict[str, float]:
    """How much of the differences each field explains, 0–1, the most first; empty if unknown.

    By a forest over the complete trials (fANOVA, Hutter et al. 2014; optuna.importance).
    """
    return dict(_importance(study.id, len(records_of(study))))


@lru_cache(maxsize=32)
def _importance(study_id: str, n: int) -> tuple[tuple[str, float], ...]:
    import optuna

    study = studies.load(study_id)
    plan = read_plan(study.plan, study.recipe)
    complete = [r for r in records_of(study)[:n] if r["state"] == COMPLETE]
    values = {record["values"][0] for record in complete}
    if len(complete) < FEWEST_FOR_IMPORTANCE or len(values) < 2:
        return ()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kept = optuna.create_study()
    for record in complete:
        kept.add_trial(as_trial(plan, {**record, "values": record["values"][:1], "epochs": []}))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(kept, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return ()  # Trials that all agree in every field.
    return tuple(found.items())


def method_title(plan: Plan) -> str:
    """How a search chooses, in words."""
    return METHODS[plan.method].title


def short(value: object) -> str:
    """A value as a table shows it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def told(study: Study) -> list[str]:
    """What a search came to, in sentences."""
    result, plan = study.result, read_plan(study.plan, study.recipe)
    title = plan.judge.title
    if result.get("value") is None:
        return [f"{result['why_ended']} No trial came to its end."]
    lines = [result["why_ended"]]
    if result["number"] is None:
        lines.append(
            f"No trial was better than the recipe as it was ({title} {result['base']:.4f})."
        )
    else:
        params = ", ".join(f"{name}={short(value)}" for name, value in result["params"].items())
        before = (
            f"; the recipe as it was: {result['base']:.4f}" if result["base"] is not None else ""
        )
        lines.append(
            f"Best: trial {result['number']}, {title} {result['value']:.4f}{before}. {params}"
        )
    return lines
