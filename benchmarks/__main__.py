"""`python -m benchmarks`: one line of JSON for each measure, beside its reference of the same run.

A busy machine changes both figures of a line more than their ratio, so read that first. `ratios`
has one for each repeat, to tell noise from a change; `load` is how much else was going on, a core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import photos

# Each is a module with `measured(data, repeat) -> Line`; imported late, as `quick` times imports.
MEASURES = {
    "import": "benchmarks.importing",
    "quick": "benchmarks.quick",
    "step": "benchmarks.step",
    "predict": "benchmarks.predict",
}


def main(
    data: Annotated[Path | None, typer.Option(help="A zip of labelled photos.")] = None,
    only: Annotated[str, typer.Option(help=f"One of {', '.join(MEASURES)}.")] = "",
    repeat: Annotated[int, typer.Option(min=1, help="Pairs of timings; medians count.")] = 3,
) -> None:
    """Print one line of JSON for each measure."""
    if only and only not in MEASURES:
        raise typer.BadParameter(f"{only} is none of {', '.join(MEASURES)}.")
    with tempfile.TemporaryDirectory(prefix="headstart-benchmarks-") as folder:
        found = data or photos.default(Path(folder))
        if only:
            line = import_module(MEASURES[only]).measured(found.resolve(), repeat)
            print(json.dumps(line.to_json(), allow_nan=False), flush=True)
            return
        for name in MEASURES:
            # A process each: none finds memory, threads or imports that another one left.
            arguments = ["--only", name, "--data", str(found), "--repeat", str(repeat)]
            subprocess.run([sys.executable, "-m", "benchmarks", *arguments], check=True)


if __name__ == "__main__":
    typer.run(main)
