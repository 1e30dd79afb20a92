"""`python -m benchmarks`: one line of JSON for each measure, beside its reference of the same run.

A busy machine changes both figures of a line more than their ratio, so read that first. `ratios`
has one for each repeat, to tell noise from a change; `load` is how much else was going on, a core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import photos
from benchmarks.rivals import RIVALS
from core.recipe import PRESETS

# Each is a module with `measured(data, repeat) -> Line`; imported late, as `quick` times imports.
MEASURES = {
    "import": "benchmarks.importing",
    "twins": "benchmarks.twins",
    "quick": "benchmarks.quick",
    "step": "benchmarks.step",
    "predict": "benchmarks.predict",
    "evaluate": "benchmarks.evaluate",
    "studies": "benchmarks.studies",
}
OTHERS = ("growth", "coverage", "accuracy")
Names = Annotated[str, typer.Option(help="Separated by commas.")]


def main(
    data: Annotated[Path | None, typer.Option(help="A zip of labelled photos.")] = None,
    only: Annotated[str, typer.Option(help=f"One of {', '.join([*MEASURES, *OTHERS])}.")] = "",
    repeat: Annotated[int, typer.Option(min=1, help="Pairs of timings; medians count.")] = 3,
    sets: Names = "hymenoptera,sign-digits,textile",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each on each set.")] = 2,
    rivals: Names = "tutorial,fastai",
    presets: Names = "quick,balanced",
    epochs: Annotated[int, typer.Option(min=1, help="Of the tutorial; it has 25 itself.")] = 5,
    fastai_python: Annotated[str, typer.Option(help="An interpreter that has fastai.")] = "",
    images: Annotated[str, typer.Option(help="How many, of growth.")] = "2062,20000,100000",
    keep: Annotated[Path | None, typer.Option(help="A file to go on from and add to.")] = None,
) -> None:
    """Print one line of JSON for each measure; what follows --repeat is of accuracy or growth."""
    if only == "accuracy":
        from benchmarks import accuracy

        lists = listed(sets), listed(rivals, RIVALS), listed(presets, PRESETS)
        for line in accuracy.report(accuracy.Plan(*lists, seeds, epochs, fastai_python, keep)):
            say(line)
        return
    if only == "coverage":
        from benchmarks import coverage

        for line in coverage.report():
            say(line)
        return
    if only and only not in (*MEASURES, "growth"):
        raise typer.BadParameter(f"{only} is none of {', '.join([*MEASURES, *OTHERS])}.")
    with tempfile.TemporaryDirectory(prefix="headstart-benchmarks-") as folder:
        found = data or photos.default(Path(folder))
        if only == "growth":
            from benchmarks import growing

            for line in growing.report(found, [*map(int, listed(images))], repeat, Path(folder)):
                say(line)
            return
        if only:
            say(import_module(MEASURES[only]).measured(found.resolve(), repeat).to_json())
            return
        for name in MEASURES:
            # A process each: none finds memory, threads or imports that another one left.
            arguments = ["--only", name, "--data", str(found), "--repeat", str(repeat)]
            subprocess.run([sys.executable, "-m", "benchmarks", *arguments], check=True)


def listed(names: str, known: Collection[str] = ()) -> tuple[str, ...]:
    """The names between commas, each one of those known if any are."""
    found = tuple(filter(None, names.split(",")))
    for name in found:
        if known and name not in known:
            raise typer.BadParameter(f"{name} is none of {', '.join(known)}.")
    return found


def say(line: dict[str, Any]) -> None:
    """Print one line of JSON at once."""
    print(json.dumps(line, allow_nan=False), flush=True)


if __name__ == "__main__":
    typer.run(main)
