"""Verbs of the shell that look for what is wrong with a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from core.asking import AsJson, Data, found_dataset
from core.auditing import findings as audits
from core.auditing.findings import Findings
from core.auditing.kinds import KINDS
from core.storage import Json
from core.telling import say

app = typer.Typer()
SHOWN = 5
KINDS_HELP = "Kinds of findings: " + "; ".join(
    f"{name} ({kind.title.lower()})" for name, kind in KINDS.items()
)


@app.command(epilog=KINDS_HELP)
def audit(
    data: Data,
    anew: Annotated[bool, typer.Option(help="Look again, also if nothing changed.")] = False,
    run: Annotated[
        str,
        typer.Option(
            help="A run whose test predictions judge the labels: best a cross-validation."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Look for copies, wrong labels, outliers, faulty images and classes that are given away.

    Kinds of which nothing was found are left out.
    """
    from core.auditing.audit import audited

    dataset = found_dataset(data)
    told = ""
    for step in audited(dataset, anew=anew, run=run):
        if step.text != told and not as_json:
            told = step.text
            print(f"{told}…", flush=True)
    found = audits.load(dataset)
    assert found is not None, "an audit that ends was kept"
    say(found.to_json(), as_json, in_words(found))


def in_words(found: Findings) -> str:
    """An audit for a person."""
    lines = [f"{found.images:,} images looked at in {found.seconds:.0f} s"]
    for finding in found.findings:
        kind = KINDS[finding.kind]
        lines += [f"{kind.severity}: {kind.title} ({finding.kind}): {len(finding.groups):,}"]
        lines += [
            f"    {', '.join(one.names[:SHOWN])}{more(len(one.names))}: {one.about}"
            for one in finding.groups[:SHOWN]
        ]
        lines += [f"    and {len(finding.groups) - SHOWN:,} more"] * (len(finding.groups) > SHOWN)
        lines += [f"  {kind.remedy}"]
    if not found.findings:
        lines += ["Nothing was found."]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes), *table(found.counts)])


def more(n: int) -> str:
    """How many names are not shown."""
    return f" and {n - SHOWN:,} more" if n > SHOWN else ""


def table(counts: tuple[Json, ...]) -> list[str]:
    """Images of each class and part; a few lines at most."""
    rows = [
        f"  {one['class']}: {one['images']:,} images (train {one['train']:,}, val {one['val']:,}, "
        f"test {one['test']:,})"
        for one in counts[:50]
    ]
    return ["Classes, divided as a first training would:", *rows]
