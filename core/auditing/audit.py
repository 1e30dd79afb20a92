"""The audit: everything that may be wrong with a dataset, looked for once for each revision.

Data flow: each image measured small -> faults, giveaways; groups of copies -> duplicates, leaks;
features of the bundled backbone -> outliers, probable label errors. All of it is kept in
`audits/<revision>.json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import numpy as np

from core import machine
from core.auditing import duplicates, faults, findings, giveaways, labels, looks, outliers, seen
from core.auditing.findings import Finding, Findings
from core.auditing.kinds import KINDS
from core.auditing.labels import Said
from core.data import dataset as datasets
from core.data import split, twins
from core.data.dataset import Dataset
from core.errors import HeadstartError
from core.evaluation import scores as scoring
from core.jobs import Step
from core.machine import late_pandas as pd
from core.models.ranking import Doing
from core.runs import run as runs
from core.storage import read_json

# Seeing an image with the backbone takes about so many times as long as measuring it.
TIMES_SLOWER = 4
Found = tuple[list[Finding], list[str]]


def steps(
    stop: Callable[[], bool], *, dataset: str, revision: int | None = None, anew: bool = False,
    run: str = "",
) -> Iterator[Step]:  # fmt: skip
    """The job that audits; its result is {"dataset", "revision", "counts" by kind}.

    run: one that has judged images which it had not seen, a cross-validation above all.
    Raises: NotFound.
    """
    for step in audited(datasets.load(dataset, revision), anew=anew, run=run):
        yield step
        if stop():
            return


def audited(dataset: Dataset, *, anew: bool = False, run: str = "") -> Iterator[Step]:
    """Audit a revision and keep the findings; yields how far it is, last with the result.

    A revision whose data was audited before is not looked at again, unless asked `anew`, or to
    judge labels by a run.
    Raises: NotFound for a run that has judged nothing.
    """
    said = said_by(run) if run else None
    anew = anew or said is not None
    kept = None if anew else former(dataset)
    if kept is None:
        started = time.monotonic()
        kept = yield from looked_through(dataset, said)
        kept = findings.timed(kept, time.monotonic() - started)
    if kept.revision != dataset.revision or anew or former(dataset) is None:
        findings.save(dataset.folder, kept)
    shown = findings.as_now(kept, dataset)
    counts = {one.kind: len(one.groups) for one in shown.findings}
    result = {"dataset": dataset.id, "revision": dataset.revision, "counts": counts}
    total = in_all(dataset)
    yield Step(total, total, "Done", result=result)


def former(dataset: Dataset) -> Findings | None:
    """The audit of just this data, be it of an earlier revision."""
    for revision in findings.audited(dataset):
        kept = findings.from_json(read_json(dataset.folder / "audits" / f"{revision}.json"))
        if kept.digest == dataset.digest:
            return kept
    return None


def in_all(dataset: Dataset) -> int:
    """Units of work: one for measuring an image, some more for seeing it."""
    return len(dataset.table) * (1 + TIMES_SLOWER)


def said_by(run_id: str) -> Said:
    """What a run says of its test images: of a cross-validation they are all images.

    Raises: NotFound.
    """
    run = runs.load(run_id)
    test = scoring.load(run.predictions).part("test")
    return Said(run.name, test.images.astype(str), run.classes, test.probabilities)


def looked_through(dataset: Dataset, said: Said | None = None) -> Generator[Step, None, Findings]:
    """Look for everything; yields how far it is."""
    machine.keep_heap()
    total, n = in_all(dataset), len(dataset.table)
    table, measuring = dataset.table, looks.measured(dataset)
    measured = yield from counted(measuring, total, "Looking at each image")
    about = ["name", "label", "width", "height", "format"]
    seen_table = pd.concat([table[about], measured.drop(columns="sha256")], axis=1)
    yield Step(n, total, "Comparing images with each other")
    parts, copies = seen.parts_of(dataset), twins.groups(dataset)
    by_features = yield from asked_of_features(
        dataset, measured["readable"].to_numpy(), copies, said
    )
    answers: tuple[Found, ...] = (
        (duplicates.found(table, copies, parts), []),
        faults.found(seen_table),
        giveaways.found(seen_table),
        by_features,
    )
    order = list(KINDS)
    everything = sorted((f for fs, _ in answers for f in fs), key=lambda f: order.index(f.kind))
    return Findings(
        dataset=dataset.id, revision=dataset.revision, digest=dataset.digest,
        findings=tuple(everything), images=n,
        notes=tuple(note for _, notes in answers for note in notes),
        counts=findings.counts_of(split.per_class(dataset, parts)),
    )  # fmt: skip


def counted(
    measuring: Generator[int, None, pd.DataFrame], total: int, text: str
) -> Generator[Step, None, pd.DataFrame]:
    """Steps in place of numbers; what it returns is passed on."""
    yield Step(0, total, text)
    while True:
        try:
            yield Step(next(measuring), total, text)
        except StopIteration as ended:
            result: pd.DataFrame = ended.value
            return result


def asked_of_features(
    dataset: Dataset, readable: np.ndarray, copies: np.ndarray, said: Said | None
) -> Generator[Step, None, Found]:
    """Outliers and probable label errors; without weights a sentence that says so."""
    rows, total, n = np.flatnonzero(readable), in_all(dataset), len(readable)
    try:
        values = yield from told_as_steps(seen.features(dataset, rows), n, total)
    except HeadstartError as error:
        return [], [f"Labels and outliers were not looked at. {error.what} {error.remedy}"]
    yield Step(total, total, "Comparing labels")
    seed = seen.default_recipe().seed
    names = dataset.table["name"].to_numpy()[rows]
    given = dataset.table["label"].to_numpy()[rows]
    doubted, notes = labels.found(names, given, seen.unit(values), copies[rows], seed, said)
    return [*outliers.found(names, seen.directions(values), seed), *doubted], notes


def told_as_steps(
    seeing: Generator[Doing, None, np.ndarray], done: int, total: int
) -> Generator[Step, None, np.ndarray]:
    """Steps from `done` to `total` in place of shares; what it returns is passed on."""
    while True:
        try:
            doing = next(seeing)
        except StopIteration as ended:
            result: np.ndarray = ended.value
            return result
        yield Step(done + int(doing.share * (total - done)), total, "Seeing each image")
