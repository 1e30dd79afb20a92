"""What verbs of the shell ask for: datasets and runs by what people call them, --json, --who."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.data import dataset as datasets
from core.data.dataset import Dataset
from core.data.importing import import_all
from core.errors import NotFound
from core.runs import run as runs
from core.runs.run import Run

AsJson = Annotated[bool, typer.Option("--json", help="End with one line of JSON.")]
Data = Annotated[str, typer.Argument(metavar="DATASET", help="An id, a name, or a path.")]
Who = Annotated[str, typer.Option(help="Who says so; else the user of this shell.")]


def found_dataset(text: str, revision: int | None = None) -> Dataset:
    """The dataset with this id, name or path; a path is imported. The newest revision, or one.

    Raises: NotFound for text that is none of them.
    """
    # A path wins over a name: what lies there now is what is meant, and the same images imported
    # again are the same dataset.
    known = import_all(Path(text)) if Path(text).exists() else datasets.find(text)
    if known is None:
        raise NotFound(
            f"{text} is no dataset's id or name, and no file or folder.",
            "`python -m core datasets` lists what was imported.",
        )
    return known if revision is None else datasets.load(known.id, revision)


def found_run(text: str) -> Run:
    """The run with this id."""
    return runs.load(text)
