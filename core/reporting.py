"""The verb of the shell that writes what is taken along of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.asking import AsJson, found_run
from core.storage import write_bytes
from core.telling import say

app = typer.Typer()


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The report, one HTML file.")
    ] = Path("report.html"),
    card: Annotated[
        Path | None, typer.Option(help="Write the model card (Markdown) here too.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="A folder for every figure as SVG, PNG and CSV.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report of a run as one HTML file, its model card, and its figures."""
    run = found_run(run_id)
    from core.documents.taking import DOCUMENTS, all_plates

    written = {"report": output, "card": card}
    files = {path: DOCUMENTS[kind].make(run).encode() for kind, path in written.items() if path}
    if figures is not None:
        files |= {figures / name: content for name, content in all_plates(run)}
    for path, content in files.items():
        write_bytes(path, content)
    names = [str(path) for path in files]
    say({"run": run.id, "files": names}, as_json, "\n".join(f"{n} was written." for n in names))
