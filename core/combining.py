"""The verb of the shell that puts several runs together."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from core.asking import AsJson, found_run
from core.errors import HeadstartError
from core.runs import run as runs
from core.runs.run import Run
from core.storage import Json
from core.studies.weighing import SOUP, SOUP_HELP, WAYS
from core.telling import accuracy_text, say

if TYPE_CHECKING:
    from core.studies.ensemble import Gain

app = typer.Typer()
HELP = " ".join(f"{name}: {way.help}" for name, way in WAYS.items()) + f" {SOUP}: {SOUP_HELP}"


@app.command()
def ensemble(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN RUN…")],
    method: Annotated[str, typer.Option(help=HELP)] = "mean",
    name: Annotated[str, typer.Option(help="What the new run is called.")] = "",
    as_json: AsJson = False,
) -> None:
    """Put several runs together to one classifier, which stands in the list of runs as they do."""
    for run_id in run_ids:
        found_run(run_id)
    from core.studies import ensemble as ensembles

    result: Json | None = None
    for step in ensembles.steps(lambda: False, runs=run_ids, method=method, name=name):
        result = step.result
    if result is None:
        raise HeadstartError("Nothing came of it.", "Try again.")
    run = found_run(result["run"])
    gain = ensembles.gain(run) if run.members else None
    say(facts_of(run, gain), as_json, "\n".join(lines_of(run, gain)))


def facts_of(run: Run, gain: Gain | None) -> Json:
    """The JSON of an ensemble."""
    from core.models.classifier import shares_of

    return {
        "run": run.id, "name": run.name, "kind": run.kind,
        "members": [asdict(one) for one in shares_of(run.model)],
        **runs.result_of(run.events()), "gain": asdict(gain) if gain else None,
    }  # fmt: skip


def lines_of(run: Run, gain: Gain | None) -> list[str]:
    """An ensemble in words: its members, its figures, what it gains and costs."""
    from core.studies import ensemble as ensembles

    figures = runs.result_of(run.events())
    lines = [f"{run.id}  {accuracy_text(figures['test'])}  "
             f"{figures['milliseconds']:.1f} ms an image  {run.name}"]  # fmt: skip
    for row in ensembles.table(run)[1:] if run.members else []:
        figures = {"accuracy": row["accuracy"], "accuracy_low": row["low"],
                   "accuracy_high": row["high"], "n": row["n"]}  # fmt: skip
        lines.append(
            f"  {row['weight']:5.2f}  {row['run']}  {accuracy_text(figures)}  "
            f"{row['ms an image'] or 0:.1f} ms  {row['name']}"
        )
    return [*lines, *ensembles.told(gain)]
