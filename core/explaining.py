"""The verbs of the shell that draw what a classifier looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.asking import AsJson, found_run
from core.errors import NotFound
from core.evaluation import mistakes, sheets
from core.evaluation.methods import METHODS
from core.runs import run as runs
from core.storage import write_bytes
from core.telling import say

app = typer.Typer()
Output = Annotated[Path, typer.Option("-o", "--output", help="The PNG to write.")]
How = Annotated[str, typer.Option("--method", help=f"One of {', '.join(METHODS)}.")]
Strength = Annotated[float, typer.Option(min=0, max=1, help="Of the overlay.")]


@app.command()
def explain(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    image: Annotated[Path, typer.Argument(help="One image.")],
    output: Output,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Explain this class; else the predicted one.")
    ] = None,
    strength: Strength = sheets.STRENGTH,
    method: How = "gradcam",
    layer: Annotated[
        int | None, typer.Option(min=1, help="Counted from the picture, from 1; else the last one.")
    ] = None,
    sane: Annotated[bool, typer.Option("--check", help="Shuffle the head and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a picture of what spoke for a class."""
    if not image.is_file():
        raise NotFound(f"There is no file {image}.", "Check the path.")
    run = found_run(run_id)
    from core.evaluation import explain as explaining

    content, place = image.read_bytes(), None if layer is None else layer - 1
    explanation = explaining.explain(run.model, content, class_name, method, place)
    write_bytes(output, explaining.blended_png(explanation, strength))
    result: dict[str, object] = {"run": run.id, "output": str(output)}
    text = f"{output} was written."
    if sane:
        alike = explaining.sanity(run.model, content, class_name, method, place)
        result["shuffled_similarity"] = alike
        text += f" With the head shuffled the map has a rank correlation of {alike:.2f} with it."
    say(result, as_json, text)


@app.command()
def sheet(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    class_name: Annotated[str, typer.Argument(metavar="CLASS")],
    output: Output,
    missed: Annotated[
        bool, typer.Option("--missed", help="Images of the class that it missed; else the right.")
    ] = False,
    part: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    strength: Strength = sheets.STRENGTH,
    method: How = "gradcam",
    as_json: AsJson = False,
) -> None:
    """Write the maps of up to 24 images of a class, the surest first, as one picture."""
    run = found_run(run_id)
    scores = mistakes.stored(run.predictions).part(part)
    names = sheets.names(scores, run.classes, class_name, "wrong" if missed else "right")
    drawn = sheets.sheet(run.model, runs.data_of(run), names, class_name, method, strength)
    write_bytes(output, drawn)
    text = f"{output} was written: {len(names)} images."
    say({"run": run.id, "output": str(output), "images": names}, as_json, text)
