"""One training from its recipe to its classifier, as a generator of events.

Data flow: dataset -> split -> technique -> best epoch -> scores -> classifier.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import machine, timing
from core.data import split
from core.data.dataset import Dataset
from core.errors import HeadstartError
from core.evaluation import baseline, metrics, report, seen
from core.evaluation import scores as scoring
from core.evaluation.calibration import temperature
from core.evaluation.familiarity import learned
from core.evaluation.scores import Scores
from core.models import classifier as classifiers
from core.models import device as devices
from core.models.classifier import Classifier
from core.schema import Recipe
from core.storage import Json
from core.training import batching, checkpoint
from core.training.events import Ended, Event, Started
from core.training.team import Deserted
from core.training.techniques import TECHNIQUES, Trained
from core.training.work import NothingYet, Work, counted, features_of, headed, prepare

OUT_OF_MEMORY = "The memory was not enough for this recipe."
# Of one image, for its time: at most so many passes, and of a slow network so many seconds; two to
# warm up are not counted.
PASSES, SECONDS = 15, 1.0
LESS_MEMORY = "Halve compute.batch_size, or choose a smaller image.size or backbone."


@dataclass(frozen=True)
class Wanted:
    """What is left of a training.

    parts: those that are scored. model: whether the classifier is kept. timed: whether the time of
    one image is measured.
    """

    parts: tuple[str, ...] = split.SCORED
    model: bool = True
    timed: bool = True


EVERYTHING = Wanted()


def fit(
    dataset: Dataset,
    recipe: Recipe,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    wanted: Wanted = EVERYTHING,
) -> Iterator[Event]:
    """Train; the last event is always Ended.

    folder: of the run; checkpoint, model and predictions go there, and a checkpoint that lies
    there is gone on from. stop: asked between steps; when it says yes, the best epoch so far is
    scored and kept. To stop iterating ends at once, with nothing scored.
    """
    try:
        work = prepare(dataset, recipe, folder, stop)
        saved = checkpoint.load(folder / "checkpoint")
        yield told(work, resumed=saved is not None)
        trained = yield from TECHNIQUES[recipe.technique.name](work, saved)
        if work.team.leads:
            yield from finished(work, trained, wanted)
    except NothingYet:
        yield Ended("stopped")
    except Deserted:
        return  # The leader says why.
    except HeadstartError as error:
        yield Ended("failed", what=error.what, remedy=error.remedy)
    except (RuntimeError, MemoryError) as error:
        if not batching.is_out_of_memory(error):
            raise
        yield Ended("failed", what=OUT_OF_MEMORY, remedy=LESS_MEMORY)


def told(work: Work, *, resumed: bool) -> Started:
    """The event that opens a run."""
    import timm

    return Started(
        dataset=work.dataset.digest,
        images={part: int((work.parts == part).sum()) for part in split.PARTS},
        classes=len(work.dataset.classes),
        device=devices.title(work.device),
        precision=work.recipe.compute.precision,
        machine=machine.name(),
        versions={
            "python": platform.python_version(), "torch": torch.__version__,
            "timm": timm.__version__,
        },
        epochs=work.recipe.schedule.epochs,
        resumed=resumed,
    )  # fmt: skip


def finished(work: Work, trained: Trained, wanted: Wanted) -> Iterator[Event]:
    """Score the best epoch on every part, calibrate it, write it down, and tell the figures."""
    total, started = len(work.parts), time.monotonic()
    network = trained.network.to(work.device).eval()
    features: dict[str, np.ndarray] = {}
    for part in (part for part in wanted.parts if len(work.rows(part))):
        yield counted(work, "finish", sum(map(len, features.values())), total, started)
        if trained.features is not None and part in trained.features:
            features[part] = trained.features[part]
        else:
            features[part] = features_of(work, network, part)
    logits = {part: headed(network, values) for part, values in features.items()}
    held_out = logits["val"], work.labels[work.rows("val")]
    degree = temperature(*held_out) if work.recipe.finish.calibrate else 1.0
    parts = [scores_of(work, part, scoring.softmax(logits[part], degree)) for part in logits]
    familiar = (
        learned(features["train"], work.labels_of("train"), features["val"], work.recipe.seed)
        if wanted.model
        else None
    )
    model = Classifier(
        network, work.preprocessing, work.dataset.classes, degree, work.recipe.backbone.name,
        familiar,
    )  # fmt: skip
    if wanted.model:
        origin = {"dataset": work.dataset.digest, "revision": work.dataset.revision}
        classifiers.save(model, work.folder / "model", origin)
    # Before the scores, so that whoever finds those finds these.
    if wanted.model:
        seen.save(np.concatenate([*features.values()]), work.folder / seen.FILE)
    scoring.save(scoring.joined(parts), work.folder / "predictions.parquet")
    result = figures(work, parts, degree)
    if wanted.timed:
        result |= time_of_image(model)
    yield Ended("stopped" if work.stopped else "finished", result=result)
    # Only now is the end on the disk. A run that was stopped may be gone on with.
    if not work.stopped:
        checkpoint.clear(work.folder / "checkpoint")


def scores_of(work: Work, part: str, probabilities: np.ndarray) -> Scores:
    """The scores of one part of the dataset."""
    rows = work.rows(part)
    names = work.dataset.table["name"].to_numpy(dtype=object)
    where = np.full(len(rows), part, dtype=object)
    return Scores(probabilities, work.labels[rows], names[rows], where)


def figures(work: Work, parts: list[Scores], degree: float) -> dict[str, Any]:
    """The figures of a run as its last event keeps them."""
    path, classes = work.folder / "predictions.parquet", work.dataset.classes
    found = {str(part.split[0]): report.computed(path, part, classes)[0] for part in parts}
    scores = scoring.joined(parts)
    summaries = {
        name: metrics.plain(one, one["accuracy"].n) | baseline_of(work, scores, name)
        for name, one in found.items()
    }
    return {
        **{part: {"n": 0} for part in split.PARTS},
        **summaries,
        "best_epoch": work.best_epoch,
        "epochs": work.epochs,
        "temperature": degree,
        "seconds": round(time.monotonic() - work.started, 3),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "images_per_second": round(work.rates.get("tune", work.rates.get("features", 0.0)), 1),
        "rates": {phase: round(rate, 1) for phase, rate in work.rates.items()},
    }


def baseline_of(work: Work, scores: Scores, part: str) -> Json:
    """What always answering the most common training class would reach on one part."""
    labels, learned = scores.part(part).labels, work.labels_of("train")
    return baseline.facts(baseline.of_labels(labels, learned, work.dataset.classes))


def time_of_image(model: Classifier) -> Json:
    """`milliseconds` that a classifier takes for one image where it is, without reading the file.

    The fastest of a few passes, one image each: other work on the machine only makes them slower
    (as Python's timeit has it; under load the median of 15 varied by 2.3, the fastest by 1.2). With
    `milliseconds_busy` true where there was such work: an image then takes that time at most. A
    graphics processor's answer is waited for.
    """
    size = model.preprocessing.size
    image = torch.zeros(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    model.outputs(image)
    timings = timing.compare(
        {"image": lambda: model.outputs(image)}, torch.get_num_threads(),
        turns=PASSES, most_seconds=SECONDS,
    )  # fmt: skip
    found = {"milliseconds": round(1000 * timings.fastest("image"), 3)}
    return found | ({"milliseconds_busy": True} if timings.busy else {})
