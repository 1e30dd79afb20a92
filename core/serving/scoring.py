"""The job that tries a run's classifier on another labelled dataset, uploaded or there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from core import machine
from core.data import dataset as datasets
from core.evaluation import report, seen
from core.evaluation import scores as scoring
from core.jobs import Step
from core.models import classifier as classifiers
from core.runs import run as runs
from core.runs import scored
from core.serving import batch, uploads


def steps(
    stop: Callable[[], bool], *, run: str, dataset: str = "", upload: str = "", name: str = ""
) -> Iterator[Step]:
    """Score a dataset; the result is {"run", "on"}, the key of what was scored.

    One of two: a dataset's id, or a finished upload with its file name, which is imported first
    and stays a dataset of its own.
    Raises: NotFound, DatasetRefused for classes that the classifier does not know, and what an
    import raises.
    """
    machine.keep_heap()
    if upload:
        for step in uploads.importing_steps(stop, upload=upload, name=name):
            if step.result is None:
                yield step
            else:
                dataset = step.result["dataset"]
    tried, data = runs.load(run), datasets.load(dataset)
    for found in batch.scored(classifiers.load(tried.model), data):
        if isinstance(found, int):
            yield Step(found, len(data.table), "Classifying each image")
            continue
        scores, features = found
        folder = scored.folder_for(tried, data)
        seen.save(features, folder / seen.FILE)
        scoring.save(scores, folder / "predictions.parquet")
        report.computed(folder / "predictions.parquet", scores, tried.classes)
        scored.note(folder, data)
        n = len(data.table)
        yield Step(n, n, "Done", result={"run": run, "on": folder.name})
