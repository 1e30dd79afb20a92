"""A search: trials are proposed, trained as runs of the queue, pruned, and the best is judged.

Data flow: plan -> trial -> recipe -> run(s) -> validation figure -> next trial; at the end the best
recipe is trained once more as an ordinary run, and only that one sees the test images. The recipe
as it was comes first, so that what wins is no worse on validation than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from core import recipe as recipes
from core.data import folding
from core.errors import HeadstartError
from core.runs import engine
from core.runs import run as runs
from core.runs.engine import Engine
from core.runs.run import Place, Run
from core.schema import Recipe
from core.storage import Json, read_json, write_json
from core.studies import study as studies
from core.studies.candidates import Crew, figures, folded, mean_of, trial_place
from core.studies.methods import METHODS
from core.studies.plan import Plan, read_plan
from core.studies.space import applied
from core.studies.study import Study
from core.studies.trials import COMPLETE, FAILED, PRUNED, Ledger, opened
from core.training.events import epochs_of

BASE, WINNER = "base", "winner"
# When so many trials fail before any is complete, the others would too.
HOPELESS = 5


@dataclass
class Search:
    """A search under way. known: the values of recipes that were tried, with the trial's number.

    engine: what is asked how many trials there may be at once; none where the plan says it. base:
    the figure of the recipe as it was, once it is known.
    """

    study: Study
    plan: Plan
    recipe: Recipe
    folds: list[folding.Fold]
    ledger: Ledger
    crew: Crew
    engine: Engine | None
    known: dict[str, Json] = field(default_factory=dict)
    base: float | None = None


def conduct(study: Study) -> Iterator[None]:
    """Search until all is tried; yields whenever there is nothing to do but wait.

    It may be left at any time, and begun again by another process.
    Raises: HeadstartError when nothing of it can be trained.
    """
    search = taken_up(study)
    while True:
        base = look_at_base(search)
        for number in sorted(search.ledger.open):
            look_at(search, number)
        if study.asked_to_pause and not search.ledger.open:
            return
        if base is not None and over(search):
            break
        if base is None or not begin(search):
            yield
    yield from judged(search)


def taken_up(study: Study) -> Search:
    """A search where it stands."""
    recipe = study.recipe
    plan = read_plan(study.plan, recipe)
    if plan.folds:
        recipe = recipes.changed(recipe, {"data": {"keep_test": True}})
        folds = folding.of_count(study.data(), recipe, plan.folds)
    else:
        folds = []
    asked = None if plan.parallel else engine.chosen()
    search = Search(study, plan, recipe, folds, opened(study, plan), Crew.of(study), asked)
    for record in search.ledger.records:
        remember(search, record)
    return search


def remember(search: Search, record: Json) -> None:
    """Know a recipe that was tried, so that the same is not trained twice."""
    if record["state"] == COMPLETE:
        recipe = applied(search.recipe, record["params"])
        search.known.setdefault(recipes.to_yaml(recipe), record)


def names_of(search: Search, key: str) -> list[str]:
    """The members of one candidate: itself, or one for each fold."""
    return [f"{key}.{k + 1}" for k in range(len(search.folds))] or [key]


def begun(search: Search, key: str, title: str, recipe: Recipe) -> list[str]:
    """The members of a candidate, each with its run.

    Raises: RecipeRefused, WeightsMissing.
    """
    members = names_of(search, key)
    measured = {"val", "test"} if search.folds else {"val"}
    if len(search.plan.directions) > 1:
        measured.add("milliseconds")
    variants = [folded(recipe, fold) for fold in search.folds] or [recipe]
    for member, variant in zip(members, variants, strict=True):
        place = trial_place(search.study, member, measured)
        search.crew.begin(member, variant, f"{title} of {search.study.name}", place)
    return members


def look_at_base(search: Search) -> float | None:
    """The figure of the recipe as it was; None while it is being trained.

    Raises: HeadstartError when it cannot be trained.
    """
    if search.base is not None:
        return search.base
    members = begun(search, BASE, "Start", search.recipe)
    stopping = search.study.asked_to_stop
    outcomes = [search.crew.look(member, cut=stopping) for member in members]
    for member, outcome in zip(members, outcomes, strict=True):
        if outcome == "failed":
            if stopping:
                return math.nan
            stop_all(search, list(search.crew.runs))
            raise HeadstartError(
                f"The recipe that the search begins with cannot be trained: "
                f"{search.crew.why(member)}",
                "Train it alone first, then search around it.",
            )
    if stopping:
        stop_all(search, members)
    if "live" in outcomes:
        return None
    if any(runs.state_of(search.crew.runs[member]) != "finished" for member in members):
        return math.nan  # It was cut, and is not the recipe as it was.
    search.base = values_of(search, members)[0]
    return search.base


def stop_all(search: Search, members: list[str]) -> None:
    """Ask the runs of a candidate to stop."""
    for member in members:
        search.crew.stop(member)


def look_at(search: Search, number: int) -> None:
    """See how a trial is: start what is missing, prune it, or write down how it ended."""
    ledger = search.ledger
    params = ledger.open[number].params
    try:
        recipe = applied(search.recipe, params)
        twin = search.known.get(recipes.to_yaml(recipe))
        if twin is not None:
            ledger.tell(number, COMPLETE, twin["values"], runs=twin["runs"], seconds=0.0,
                        same_as=twin["number"])  # fmt: skip
            return
        members = begun(search, str(number), f"Trial {number}", recipe)
    except HeadstartError as error:
        ledger.tell(number, FAILED, None, runs=[], seconds=0.0, why=str(error))
        return
    stopping = search.study.asked_to_stop
    cut = stopping or search.ledger.is_given_up(number)
    outcomes = [search.crew.look(member, cut=cut) for member in members]
    if hopeless(search, number, members):
        stop_all(search, members)
        if "live" not in outcomes:
            settle(search, number, members, PRUNED)
    elif "failed" in outcomes:
        stop_all(search, members)
        settle(search, number, members, FAILED)
    elif "live" not in outcomes:
        settle(search, number, members, COMPLETE)
    elif stopping:
        stop_all(search, members)


def hopeless(search: Search, number: int, members: list[str]) -> bool:
    """Whether a trial is given up, now or before, at an epoch that it has told since the last look.

    Its epochs are looked at in their order, whenever that is: the same search gives up the same
    trials at the same epochs. The last epoch is not asked about, since nothing is to be won there.
    """
    if METHODS[search.plan.method].objectives > 1 or search.plan.pruning == "none" or search.folds:
        return False
    if search.ledger.is_given_up(number):
        return True
    run = search.crew.runs[members[0]]
    phase = "head" if run.recipe.is_frozen else "tune"
    told = search.ledger.epochs[number]
    for epoch in epochs_of(run.events()):
        value = epoch.val.get(search.plan.judge.epoch)
        news = epoch.phase == phase and epoch.epoch not in told and epoch.epoch < epoch.epochs
        if (
            news
            and value is not None
            and math.isfinite(value)
            and search.ledger.report(number, epoch.epoch, value)
        ):
            return True
    return False


def settle(search: Search, number: int, members: list[str], state: str) -> None:
    """Write down how a trial ended."""
    results = [figures(search.crew.runs[member]) for member in members]
    facts: Json = {
        "runs": [search.crew.runs[member].id for member in members],
        "seconds": round(sum(result.get("seconds", 0.0) for result in results), 3),
    }
    states = {runs.state_of(search.crew.runs[member]) for member in members}
    if state != PRUNED and "stopped" in states and not states & {"failed", "interrupted"}:
        state, facts["why"] = PRUNED, "It was stopped before its end."
    values = values_of(search, members) if state == COMPLETE else None
    if values and not all(map(math.isfinite, values)):
        state, values, facts["why"] = FAILED, None, "Its figure is no number."
    if state == FAILED and "why" not in facts:
        failed = next(m for m in members if search.crew.look(m, cut=True) == "failed")
        facts["why"] = search.crew.why(failed)
    search.ledger.tell(number, state, values, **facts)
    remember(search, search.ledger.records[-1])


def values_of(search: Search, members: list[str]) -> list[float]:
    """What a candidate is judged by: one value for each objective; nan where there is none."""
    results = [figures(search.crew.runs[member]) for member in members]
    part = "test" if search.folds else "val"
    known = [result[part] for result in results if result.get(part, {}).get("n")]
    if len(known) < len(results):
        return [math.nan] * len(search.plan.directions)
    mean = mean_of([one[search.plan.metric] for one in known], [one["n"] for one in known])
    if len(search.plan.directions) == 1:
        return [mean]
    return [mean, mean_of([result["milliseconds"] for result in results], [1] * len(results))]


def begin(search: Search) -> bool:
    """Begin another trial if there is room; whether that was done."""
    study, ledger = search.study, search.ledger
    if ledger.asked >= search.plan.trials or len(ledger.open) >= at_once(search):
        return False
    if study.asked_to_pause or study.asked_to_stop or spent(search):
        return False
    ledger.ask()
    return True


def at_once(search: Search) -> int:
    """How many trials there may be at once: the nodes of a cluster come and go."""
    return max(1, len(search.engine.slots())) if search.engine else search.plan.parallel


def spent(search: Search) -> bool:
    """Whether the budget is used up."""
    return bool(search.plan.budget) and seconds_at_work(search.study) >= search.plan.budget


def over(search: Search) -> bool:
    """Whether there is nothing left to try.

    Raises: HeadstartError when all trials failed so far.
    """
    records = search.ledger.records
    if len(records) >= HOPELESS and all(record["state"] == FAILED for record in records):
        stop_all(search, list(search.crew.runs))
        raise HeadstartError(
            f"All of the first {len(records)} trials failed. The last one: {records[-1]['why']}",
            "Change the space, or the recipe that it begins with.",
        )
    done = search.ledger.asked >= search.plan.trials or search.study.asked_to_stop or spent(search)
    return done and not search.ledger.open


def best_of(plan: Plan, records: list[Json]) -> Json | None:
    """The best trial that was trained to its end; of equal ones the first."""
    best: Json | None = None
    for record in sorted(records, key=lambda one: int(one["number"])):
        if record["state"] == COMPLETE and (
            best is None or plan.judge.better(record["values"][0], best["values"][0])
        ):
            best = record
    return best


def is_better(plan: Plan, best: Json | None, base: float | None) -> bool:
    """Whether a trial is better than the recipe as it was, as far as that is known."""
    return best is not None and (base is None or plan.judge.better(best["values"][0], base))


def base_of(study: Study, plan: Plan, members: dict[str, Run]) -> float | None:
    """The figure of the recipe as it was."""
    if "base" in study.result:
        value: float | None = study.result["base"]
        return value
    found = [
        figures for name, run in members.items() if name.partition(".")[0] == BASE
        and (figures := runs.result_of(run.events()).get("test" if plan.folds else "val"))
    ]  # fmt: skip
    if len(found) < max(1, plan.folds):
        return None
    total = sum(one["n"] for one in found)
    return float(sum(one[plan.metric] * one["n"] for one in found) / total)


def judged(search: Search) -> Iterator[None]:
    """Train the best recipe as an ordinary run, and write down what the search came to."""
    best, base = best_of(search.plan, search.ledger.records), look_at_base(search)
    if base is not None and not math.isfinite(base):
        base = None  # It was stopped before its end.
    wins = is_better(search.plan, best, base)
    facts: Json = {
        "base": base,
        "number": best["number"] if best and wins else None,
        "params": best["params"] if best and wins else {},
        "value": best["values"][0] if best and wins else base,
        "why_ended": why_ended(search),
    }
    if search.study.asked_to_stop:
        studies.end(search.study, "stopped", **facts)
        return
    recipe = applied(search.study.recipe, facts["params"])
    run = search.crew.begin(WINNER, recipe, f"Winner of {search.study.name}",
                            Place(search.study.id, WINNER))  # fmt: skip
    while search.crew.look(WINNER, cut=True) == "live":  # Anybody may stop it: it is in the lists.
        if search.study.asked_to_stop:
            search.crew.stop(WINNER)
        yield
    studies.end(search.study, "finished", **facts, run=run.id)


def why_ended(search: Search) -> str:
    """Why nothing more was tried."""
    if search.study.asked_to_stop:
        return "It was stopped."
    if search.ledger.asked < search.plan.trials:
        return "The time was used up."
    return "All trials were made."


CLOCK = "clock.json"


def seconds_at_work(study: Study) -> float:
    """Seconds that a study was driven so far, all its drivers together."""
    path = study.folder / CLOCK
    return float(read_json(path)["seconds"]) if path.exists() else 0.0


def note_seconds(study: Study, seconds: float) -> None:
    """Keep how long a study was driven so far."""
    write_json(study.folder / CLOCK, {"seconds": round(seconds, 1)})


def winner_recipe(study: Study) -> Recipe:
    """The recipe of the best that a search has found so far."""
    result = study.result
    if "params" in result:
        return applied(study.recipe, result["params"])
    from core.studies.trials import records_of

    plan = read_plan(study.plan, study.recipe)
    best, base = best_of(plan, records_of(study)), base_of(study, plan, studies.members(study))
    return applied(study.recipe, best["params"] if best and is_better(plan, best, base) else {})


def start_winner(study: Study) -> runs.Run:
    """Train the best recipe that a search has found so far as an ordinary run."""
    return runs.start(study.data(), winner_recipe(study))
