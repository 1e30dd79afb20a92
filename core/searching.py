"""Verbs of the shell for studies: several runs that answer one question."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from core.asking import AsJson, Data, found_dataset
from core.choosing import Preset, RecipeFile, Settings, chosen_recipe, text_of
from core.errors import HeadstartError, NotFound
from core.runs import run as runs
from core.storage import Json
from core.studies import crossval as crossvals
from core.studies import outcomes
from core.studies import plan as plans
from core.studies import search as searches
from core.studies import space as spaces
from core.studies import study as studies
from core.studies.methods import METHODS, PRUNING
from core.studies.plan import METRICS, Plan
from core.studies.study import Kind, Study
from core.studies.trials import records_of
from core.telling import accuracy_text, say

app = typer.Typer()
SECONDS_BETWEEN_LOOKS = 0.3
Name = Annotated[str, typer.Option(help="What the study is called.")]
Detach = Annotated[bool, typer.Option(help="Return at once; it goes on in the background.")]
StudyId = Annotated[str, typer.Argument(metavar="STUDY", help="The id of a study.")]


def told(table: dict[str, str]) -> str:
    """The entries of a table as help."""
    return "; ".join(f"{name}: {text.rstrip('.')}" for name, text in table.items()) + "."


@app.command()
def search(
    data: Data,
    method: Annotated[str, typer.Option(
        help=told({name: one.title for name, one in METHODS.items()})
    )] = "tpe",
    trials: Annotated[int, typer.Option(help="How many trainings to try, at most.")] = 30,
    space: Annotated[Path | None, typer.Option(
        help="A YAML file of fields and what to try: `optimizer.learning_rate: {low: 0.0001, "
        "high: 0.1, log: true}` or `head.kind: \\[linear, mlp]`. Else a usual one."
    )] = None,
    budget: Annotated[str, typer.Option(help="Time after which no trial begins: 20m, 2h.")] = "",
    metric: Annotated[str, typer.Option(
        help=told({name: one.title for name, one in METRICS.items()})
        + " Of the validation images."
    )] = "log_loss",
    pruning: Annotated[str, typer.Option(
        help="Stops hopeless trials. " + told({n: one.help for n, one in PRUNING.items()})
    )] = "median",
    folds: Annotated[int, typer.Option(
        help="Judge each trial on so many folds; 0: on the validation images."
    )] = 0,
    parallel: Annotated[int, typer.Option(help="Trials at once; 0: one for each device.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the choice; the same seed, the same trials.")] = 0,
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    assignments: Settings = [],  # noqa: B006 (typer reads it, nobody changes it)
    name: Name = "",
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Search for the best recipe: many trainings, chosen on validation; one is then tested.

    It goes on in the background when this is interrupted; `studies` lists it.
    """
    base = chosen_recipe(preset, recipe, assignments)
    if space is None:
        found = spaces.read(spaces.starter(base), base)
    else:
        found = spaces.from_yaml(text_of(space), base)
    plan = Plan(
        found, method, trials, metric, pruning, seed, plans.seconds_of(budget), folds, parallel
    )
    study = plans.start(found_dataset(data), base, plan, name)
    awaited(study, detach, as_json, search_line)


@app.command()
def crossval(
    data: Data,
    folds: Annotated[int, typer.Option(help="How many folds.")] = 5,
    repeats: Annotated[int, typer.Option(help="How often the folds are drawn anew.")] = 1,
    groups: Annotated[bool, typer.Option(
        "--leave-groups-out", help="One fold for each group of the dataset instead."
    )] = False,
    keep_test: Annotated[bool, typer.Option(
        help="Keep the test part of the recipe's split out of all folds."
    )] = False,
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    assignments: Settings = [],  # noqa: B006 (typer reads it, nobody changes it)
    name: Name = "",
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Cross-validate a recipe: each image is judged once by a model that has not seen it."""
    base = chosen_recipe(preset, recipe, assignments)
    plan = crossvals.Plan(0 if groups else folds, 1 if groups else repeats, keep_test)
    study = crossvals.start(found_dataset(data), base, plan, name)
    awaited(study, detach, as_json, fold_line)


@app.command("studies")
def studies_(as_json: AsJson = False) -> None:
    """List all studies, the newest first."""
    rows = [facts_of(study) for study in studies.all_studies()]
    lines = [f"{r['study']}  {r['kind']:<9}{r['state']:<12}{r['name']}" for r in rows]
    say({"studies": rows}, as_json, "\n".join(lines) or "There are no studies yet.")


@app.command()
def study(
    study_id: StudyId,
    do: Annotated[str, typer.Option(help="pause, resume, stop or delete it.")] = "",
    wait: Annotated[bool, typer.Option(help="Until it is over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a study, or pause, resume, stop or delete it."""
    found = studies.load(study_id)
    if do and do not in ACTIONS:
        raise NotFound(f"A study cannot be told to {do}.", f"Say {', '.join(ACTIONS)}.")
    if do:
        ACTIONS[do](found)
    if do == "delete":
        say({"study": study_id, "deleted": True}, as_json, f"{study_id} is deleted.")
        return
    line = search_line if found.kind == "search" else fold_line
    awaited(found, not wait, as_json, line)


ACTIONS: dict[str, Callable[[Study], None]] = {
    "pause": studies.pause,
    "resume": studies.resume,
    "stop": studies.stop,
    "delete": studies.delete,
}


def awaited(study: Study, detach: bool, as_json: bool, line: Callable[[Study, int], str]) -> None:
    """Tell how a study goes until it is over, or at once how it is."""
    told = 0
    while not detach and not study.result and studies.state_of(study) != "paused":
        while not as_json and (text := line(study, told)):
            print(text, flush=True)
            told += 1
        studies.attend(study)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    while not as_json and (text := line(study, told)):
        print(text, flush=True)
        told += 1
    result = study.result
    if result.get("reason") == "failed":
        raise HeadstartError(result["what"], result["remedy"])
    say(facts_of(study), as_json, in_words(study))


def search_line(study: Study, number: int) -> str:
    """What there is to say of the trial that ended as number `number`; "" before that."""
    records = records_of(study)
    if number >= len(records):
        return ""
    record = records[number]
    values = " ".join(f"{value:.4f}" for value in record["values"] or [])
    params = " ".join(f"{k}={outcomes.short(v)}" for k, v in record["params"].items())
    ending = values or record["state"]
    return f"trial {record['number']:>3}  {ending:<10} {record['seconds']:>6.1f} s  {params}"


def fold_line(study: Study, number: int) -> str:
    """What there is to say of a fold that ended; "" before that."""
    members = studies.members(study)
    run = members.get(str(number))
    figures = runs.result_of(run.events()) if run else {}
    if not figures:
        return ""
    fold = study.plan["members"][number]
    return f"fold {fold:<8} {accuracy_text(figures['test'])}  {figures['seconds']:.1f} s"


def facts_of(study: Study) -> Json:
    """The JSON of a study."""
    facts: Json = {
        "study": study.id, "kind": study.kind, "name": study.name,
        "state": studies.state_of(study), "dataset": study.dataset, "revision": study.revision,
        "created": study.created, "seconds": searches.seconds_at_work(study), **study.result,
    }  # fmt: skip
    if study.kind == "search":
        facts["trials"] = records_of(study)
        with suppress(NotFound):  # Its winner may have been deleted.
            facts["test"] = runs.result_of(runs.load(facts.get("run", "")).events()).get("test", {})
    return facts


def in_words(study: Study) -> str:
    """What a study came to, for a person."""
    state, result = studies.state_of(study), study.result
    lines = [f"{study.id} {state}: {study.name}"]
    if study.kind == "search" and result:
        lines += outcomes.told(study)
    elif result:
        lines += crossvals.told(study)
    if result.get("run"):
        lines += made(study.kind, result["run"])
    return "\n".join(lines)


def made(kind: Kind, run_id: str) -> list[str]:
    """The run that a study came to, and its figure on images that nothing was chosen by."""
    try:
        run = runs.load(run_id)
    except NotFound:
        return [f"Its run {run_id} was deleted."]
    figures = runs.result_of(run.events()).get("test", {})
    if kind == "search":
        said = f"test accuracy {accuracy_text(figures)}" if figures.get("n") else runs.state_of(run)
        return [f"Winner: run {run_id}, {said}."]
    from core.studies import ensemble  # With torch, which takes seconds.

    return [f"Run {run_id}: evaluate, predict and audit --run take it.",
            *ensemble.told(ensemble.gain(run))]  # fmt: skip
