"""Verbs of the shell that bring datasets in and list them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from core.asking import AsJson, Data, Who, found_dataset
from core.data import dataset as datasets
from core.data import importing
from core.data.importing import import_all
from core.errors import NotFound
from core.telling import say

app = typer.Typer()
NO_READING = "No way of reading the folders or tables gives two classes."


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A zip, a tar or a folder.")],
    name: Annotated[str, typer.Option(help="What to call it; else the file's name.")] = "",
    classes: Annotated[
        str, typer.Option(help="Which reading of folders and tables; `readings` lists them.")
    ] = "",
    into: Annotated[
        str, typer.Option(metavar="DATASET", help="Add it to this dataset, as a new revision.")
    ] = "",
    who: Who = "",
    as_json: AsJson = False,
) -> None:
    """Take in labelled photos: one folder for each class, pre-split, or beside a CSV."""
    started = time.monotonic()
    there(path)
    home = found_dataset(into).id if into else ""
    dataset = import_all(path, name, classes, home, who)
    result = {
        "dataset": dataset.id,
        "name": dataset.name,
        "revision": dataset.revision,
        "images": len(dataset.table),
        "classes": list(dataset.classes),
        "skipped": list(dataset.skipped),
        "notes": list(dataset.notes),
        "seconds": round(time.monotonic() - started, 3),
    }
    text = (
        f"{dataset.name} ({dataset.id}): {len(dataset.table):,} images of "
        f"{len(dataset.classes)} classes, {len(dataset.skipped)} files skipped"
    )
    lines = [f"  note: {note}" for note in dataset.notes]
    lines += [f"  skipped {one['file']}: {one['why']}" for one in dataset.skipped[:20]]
    say(result, as_json, "\n".join([text, *lines]))


def there(path: Path) -> None:
    """Refuse a path where nothing lies.

    Raises: NotFound.
    """
    if not path.exists():
        raise NotFound(f"There is no file or folder {path}.", "Check the path.")


@app.command()
def readings(
    path: Annotated[Path, typer.Argument(help="A zip, a tar or a folder.")],
    into: Annotated[
        str, typer.Option(metavar="DATASET", help="It is to be added to this dataset.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the ways in which folders and tables may be meant, for `import --classes`."""
    there(path)
    found = importing.readings(path, into=found_dataset(into).id if into else "")
    lines = [
        f"{one.key:<20} {one.title}: {len(one.classes)} classes. {one.example}."
        + (" (taken unless you say otherwise)" if one.default else "")
        for one in found
    ]
    say({"readings": [vars(one) for one in found]}, as_json, "\n".join(lines) or NO_READING)


@app.command()
def pack(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="The zip to write.")],
    revision: Annotated[int | None, typer.Option(help="Which; else the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a dataset as it now is into a zip: images by class, labels.csv, journal.csv."""
    from core.serving import packing

    dataset = found_dataset(data, revision)
    for _ in packing.pack(dataset, output):
        pass
    size = output.stat().st_size
    result = {
        "dataset": dataset.id,
        "revision": dataset.revision,
        "output": str(output),
        "bytes": size,
    }
    text = f"{output}: revision {dataset.revision} of {dataset.name}, {size:,} bytes"
    say(result, as_json, text)


@app.command("datasets")
def datasets_(as_json: AsJson = False) -> None:
    """List all datasets, the newest first."""
    found = datasets.summaries()
    lines = [
        f"{d['id']}  {d['images']:>7,} images  {len(d['classes'])} classes  {d['name']}"
        for d in found
    ]
    say({"datasets": found}, as_json, "\n".join(lines) or "There are no datasets yet.")
