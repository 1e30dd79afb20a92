"""Verbs of the shell that choose between finished runs."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations
from typing import Annotated

import typer

from core.asking import AsJson, Data, found_dataset, found_run
from core.errors import HeadstartError
from core.evaluation import against
from core.runs import leaderboard as boards
from core.runs import versus
from core.runs.leaderboard import Entry
from core.runs.run import Run
from core.storage import Json
from core.telling import accuracy_text, say

app = typer.Typer()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@app.command("compare-runs")
def compare_runs(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN RUN…")], as_json: AsJson = False
) -> None:
    """Compare runs two by two on the test images that they share, and tell their recipes apart.

    Each difference with its 95 % interval, and McNemar's exact test of who is right more often.
    """
    if not 2 <= len(run_ids) <= len(LETTERS):
        raise HeadstartError(
            f"Too few or too many runs to compare: {len(run_ids)}.",
            f"Name 2 to {len(LETTERS)} of them.",
        )
    lettered = dict(zip(LETTERS, map(found_run, run_ids), strict=False))
    pairs = [pair(lettered, one, other) for one, other in combinations(lettered, 2)]
    recipes = boards.recipe_rows([*lettered.values()])
    lines = [f"{letter}  {run.id}  {run.name}" for letter, run in lettered.items()]
    lines += [line for facts in pairs for line in facts.pop("lines")]
    lines += ["Recipes:"] if recipes else ["The recipes are the same in every field."]
    lines += [f"  {name}: {' | '.join(map(str, row))}" for name, row in recipes.items()]
    facts = {"runs": [run.id for run in lettered.values()], "pairs": pairs, "recipes": recipes}
    say(facts, as_json, "\n".join(lines))


def pair(lettered: dict[str, Run], one: str, other: str) -> Json:
    """What two runs' shared test images say, as JSON, and in `lines` for a person."""
    first, second = lettered[one], lettered[other]
    found = versus.compared(first, second)
    lines = [against.in_words(found, one, other)]
    lines += [
        f"  {row['figure']:<24}{row[one]:>9}{row[other]:>9}{row[f'{one} − {other}']:>9}"
        f"   95 %: {row['95 % interval']}"
        for row in against.table(found, one, other)
    ]
    return {"first": first.id, "second": second.id, **asdict(found), "lines": lines}


@app.command()
def leaderboard(
    data: Data,
    revision: Annotated[int | None, typer.Option(help="Of the dataset; else the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a revision, the most accurate first, with their time, size and speed."""
    dataset = found_dataset(data, revision)
    entries = boards.leaderboard(boards.scored_runs(dataset.id), dataset.revision)
    rows = [entry.row() for entry in entries]
    facts = {"dataset": dataset.id, "revision": dataset.revision, "runs": rows}
    lines = [line_of(entry) for entry in entries]
    say(facts, as_json, "\n".join(lines) or "No run on this revision has test images.")


def line_of(entry: Entry) -> str:
    """A run of the leaderboard in a line."""
    one = entry.accuracy
    text = accuracy_text(
        {"n": one.n, "accuracy": one.value, "accuracy_low": one.low, "accuracy_high": one.high}
    )
    speed, time = written(entry.milliseconds), written(entry.seconds)
    speed = f"≤{speed}" if entry.milliseconds_busy else speed
    return (
        f"{entry.run.id}  {text}  {speed:>7} ms  {entry.size_mb:>7.1f} MB  "
        f"{written(entry.parameters_m, 2):>7} M  {time:>8} s  {entry.run.name}"
    )


def written(value: float | None, digits: int = 1) -> str:
    """A number with so many decimal places; a dash where it is not known."""
    return "–" if value is None else f"{value:.{digits}f}"
