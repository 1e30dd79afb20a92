"""Verbs of the shell that correct a dataset, each a revision; `journal` and `compare` look back."""

from __future__ import annotations

from typing import Annotated

import typer

from core.asking import AsJson, Data, Who, found_dataset
from core.data import journal
from core.data.grouping import GROUPINGS
from core.data.journal import ACTIONS
from core.storage import Json
from core.telling import say

app = typer.Typer()
Names = Annotated[
    list[str], typer.Argument(metavar="NAME…", help="Images, by their names in the dataset.")
]
To = Annotated[str, typer.Option(help="The class, which may be a new one.")]


def corrected(data: str, action: Json, who: str, as_json: bool) -> None:
    """Make a correction and say what the dataset is now."""
    dataset = journal.record(found_dataset(data).id, action, who)
    what = journal.listed(dataset.id)[0]["what"]
    result = {
        "dataset": dataset.id,
        "revision": dataset.revision,
        "what": what,
        "images": len(dataset.table),
        "classes": list(dataset.classes),
        "digest": dataset.digest,
    }
    say(result, as_json, f"{what}: revision {dataset.revision} of {dataset.name} ({dataset.id})")


@app.command(help=ACTIONS["relabel"].help)
def relabel(data: Data, names: Names, to: To, who: Who = "", as_json: AsJson = False) -> None:
    """Put images into another class."""
    corrected(data, {"action": "relabel", "names": names, "to": to}, who, as_json)


@app.command(help=ACTIONS["exclude"].help)
def exclude(data: Data, names: Names, who: Who = "", as_json: AsJson = False) -> None:
    """Leave images out."""
    corrected(data, {"action": "exclude", "names": names}, who, as_json)


@app.command(help=ACTIONS["include"].help)
def include(data: Data, names: Names, who: Who = "", as_json: AsJson = False) -> None:
    """Take excluded images in again."""
    corrected(data, {"action": "include", "names": names}, who, as_json)


@app.command(help=ACTIONS["keep"].help)
def keep(
    data: Data,
    names: Names,
    kind: Annotated[str, typer.Option("--finding", help="The kind of finding, as `audit` says.")],
    who: Who = "",
    as_json: AsJson = False,
) -> None:
    """Say that images are fine."""
    corrected(data, {"action": "keep", "names": names, "kind": kind}, who, as_json)


@app.command(help=ACTIONS["rename"].help)
def rename_class(
    data: Data,
    former: Annotated[str, typer.Argument(metavar="CLASS", help="What it is called now.")],
    to: Annotated[str, typer.Option(help="What to call it.")],
    who: Who = "",
    as_json: AsJson = False,
) -> None:
    """Give a class another name."""
    corrected(data, {"action": "rename", "from": former, "to": to}, who, as_json)


@app.command(help=ACTIONS["merge"].help)
def merge_classes(
    data: Data,
    former: Annotated[list[str], typer.Argument(metavar="CLASS…", help="Those to merge.")],
    to: To,
    who: Who = "",
    as_json: AsJson = False,
) -> None:
    """Make one class of several."""
    corrected(data, {"action": "merge", "from": former, "to": to}, who, as_json)


@app.command(help=ACTIONS["split"].help)
def split(
    data: Data,
    shares: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="TRAIN VAL TEST", help="Shares that add up to 1."),
    ] = (0.7, 0.15, 0.15),
    seed: Annotated[int, typer.Option(min=0, help="Another one draws other images.")] = 0,
    group_by: Annotated[
        str,
        typer.Option(
            help="What in a name says which images stay together: "
            f"{', '.join(filter(None, GROUPINGS))}, folder:2, or pattern:REGEX with one pair of "
            "parentheses around it. Near-duplicates always do."
        ),
    ] = "",
    who: Who = "",
    as_json: AsJson = False,
) -> None:
    """Divide all images anew, and keep it so."""
    values = {"shares": shares, "seed": seed, "group_by": group_by}
    corrected(data, {"action": "split", **values}, who, as_json)


@app.command(help=ACTIONS["undo"].help)
def undo(
    data: Data,
    revision: Annotated[
        int | None, typer.Option(help="Which one; else the newest that counts.")
    ] = None,
    who: Who = "",
    as_json: AsJson = False,
) -> None:
    """Take back a revision."""
    corrected(data, {"action": "undo", "of": revision}, who, as_json)


@app.command("journal")
def journal_(data: Data, as_json: AsJson = False) -> None:
    """List the corrections of a dataset, the newest first."""
    dataset = found_dataset(data)
    rows = journal.listed(dataset.id)
    lines = [
        f"{r['revision']:>5}  {r['when']}  {r['who']}: {r['what']}"
        + (" (taken back)" if r["undone"] else "")
        for r in rows
    ]
    result = {"dataset": dataset.id, "revision": dataset.revision, "lines": rows}
    say(result, as_json, "\n".join(lines) or f"{dataset.name} is as it was imported.")


@app.command()
def compare(
    data: Data,
    former: Annotated[int, typer.Argument(metavar="A", help="A revision.")],
    later: Annotated[int, typer.Argument(metavar="B", help="Another revision.")],
    as_json: AsJson = False,
) -> None:
    """Say what differs between two revisions of a dataset."""
    dataset = found_dataset(data)
    found = journal.compare(dataset.id, former, later)
    lines = [
        f"  {r['change']}: {r['image']} {r['from']} → {r['to']}".replace(":  ", ": ")
        for r in found.rows
    ]
    result = {"dataset": dataset.id, "sentence": found.sentence, "rows": list(found.rows)}
    say(result, as_json, "\n".join([found.sentence, *lines]))
