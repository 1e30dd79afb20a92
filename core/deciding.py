"""Verbs of the shell that set how a finished classifier decides."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from core.asking import AsJson, found_run
from core.evaluation import scores, thresholds
from core.telling import say

app = typer.Typer()
RunName = Annotated[str, typer.Argument(metavar="RUN")]


@app.command()
def threshold(
    run_id: RunName,
    class_name: Annotated[str, typer.Argument(metavar="CLASS")],
    at: Annotated[float | None, typer.Option(min=0, max=1, help="How sure it must be.")] = None,
    miss: Annotated[float | None, typer.Option(min=0, help="What it costs to miss one.")] = None,
    alarm: Annotated[float, typer.Option(min=0, help="What a false alarm costs.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Set how sure a classifier must be of a class before it says so; without options, no more.

    With --miss the threshold is the one that costs least on the run's validation images.
    """
    run = found_run(run_id)
    kept = {k: v for k, v in thresholds.kept(run.model).items() if k != class_name}
    value = at
    if miss is not None:
        held_out = scores.load(run.predictions).part("val")
        value = thresholds.by_cost(held_out, run.classes, class_name, miss, alarm)
    now = kept if value is None else {**kept, class_name: value}
    thresholds.keep(run.model, run.classes, now)
    told = [f"{name}: {limit:g}" for name, limit in now.items()]
    say({"run": run.id, "thresholds": now}, as_json, "\n".join(told) or "No thresholds.")


@app.command()
def views(
    run_id: RunName,
    use: Annotated[bool | None, typer.Option("--use/--alone", help="Average, or not.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure test-time augmentation on validation images; --use averages from now on."""
    from core.evaluation import averaging
    from core.serving import averaged

    run = found_run(run_id)
    gain = averaged.known(run.folder)
    if gain is None:
        for _ in averaged.steps(lambda: False, run=run.id):
            pass
        gain = averaged.known(run.folder)
    assert gain is not None and gain.saved.low is not None and gain.saved.high is not None
    if use is not None:
        averaging.keep(run.model, gain.views if use else ())
    saved = gain.saved
    text = (
        f"Log loss {gain.log_loss[0].value:.4f} alone, {gain.log_loss[1].value:.4f} with "
        f"{', '.join(gain.views)}: falls by {saved.value:.4f} (95 %: {saved.low:.4f} to "
        f"{saved.high:.4f}); {gain.gained} become right, {gain.lost} wrong; "
        f"{gain.milliseconds[0]:.0f} and {gain.milliseconds[1]:.0f} ms an image."
    )
    facts = {"run": run.id, "used": list(averaging.kept(run.model)), **asdict(gain)}
    say(facts, as_json, text)
