"""The job that measures what test-time augmentation gains and costs, on validation images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from core import machine
from core.data import loader
from core.data.augment import normalized
from core.errors import DatasetRefused
from core.evaluation import averaging, metrics
from core.evaluation import scores as scoring
from core.evaluation.intervals import Figure, of_mean
from core.evaluation.scores import Scores
from core.jobs import Step
from core.models import classifier as classifiers
from core.models import device as devices
from core.models.classifier import Classifier
from core.runs import run as runs
from core.runs.run import Run
from core.storage import Json, read_json, write_json

FILE = "averaging.json"
# More validation images say hardly more, and each is seen several times.
MOST_IMAGES = 1000
BATCH = 16


@dataclass(frozen=True)
class Gain:
    """What averaging over views brings on n validation images.

    accuracy, log_loss: without and with it. saved: by how much the log loss of an image falls, on
    average. gained, lost: images that only it gets right, or wrong. milliseconds: an image, without
    and with it.
    """

    views: tuple[str, ...]
    accuracy: tuple[Figure, Figure]
    log_loss: tuple[Figure, Figure]
    saved: Figure
    gained: int
    lost: int
    milliseconds: tuple[float, float]


def steps(stop: Callable[[], bool], *, run: str) -> Iterator[Step]:
    """Measure, and keep what was found with the run; the result is {"run"}.

    Raises: NotFound, DatasetRefused without validation images.
    """
    machine.keep_heap()
    measured = runs.load(run)
    stored = scoring.load(measured.predictions).part("val")
    if not len(stored):
        raise DatasetRefused("This run has no validation images.", "Train with some.")
    order = np.random.default_rng(0).permutation(len(stored))[:MOST_IMAGES]
    chosen = stored.chosen(np.sort(order))
    classifier = classifiers.load(measured.model)
    classifier.network.to(devices.resolve("auto"))
    views = averaging.suiting(measured.recipe.augmentation)
    alone: list[np.ndarray] = []
    together: list[np.ndarray] = []
    seconds = np.zeros(2)
    for squares in squares_of(measured, classifier, chosen):
        found, took = both(classifier, squares, views)
        alone.append(found[0])
        together.append(found[1])
        seconds += took
        done = sum(map(len, alone))
        yield Step(done, len(chosen), "Classifying each image in several views")
    gain = gained(chosen, np.concatenate(alone), np.concatenate(together), views, seconds)
    write_json(measured.folder / FILE, asdict(gain))
    yield Step(len(chosen), len(chosen), "Done", result={"run": run})


def squares_of(run: Run, classifier: Classifier, chosen: Scores) -> Iterator[torch.Tensor]:
    """Batches of the fitted pictures of some images, uint8 B×3×S×S."""
    dataset = runs.data_of(run)
    rows = dataset.table.reset_index().set_index("name")["index"].reindex(chosen.images)
    pictures = loader.from_files(dataset, classifier.preprocessing)
    return loader.squares(
        pictures, rows.tolist(), classifier.preprocessing, BATCH, machine.cores()
    )  # fmt: skip


def both(
    classifier: Classifier, squares: torch.Tensor, views: tuple[str, ...]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Probabilities B×C of pictures alone and with their views, and the seconds each takes."""
    started = time.perf_counter()
    alone = classifier.probabilities(normalized(squares, classifier.preprocessing))
    middle = time.perf_counter()
    others = [
        classifier.probabilities(
            normalized(torch.stack([averaging.VIEWS[name].make(one) for one in squares]),
                       classifier.preprocessing)
        )
        for name in views
    ]  # fmt: skip
    ended = time.perf_counter()
    seconds = np.array([middle - started, ended - started])
    return (alone, np.mean([alone, *others], axis=0)), seconds


def gained(
    chosen: Scores, alone: np.ndarray, together: np.ndarray, views: tuple[str, ...],
    seconds: np.ndarray,
) -> Gain:  # fmt: skip
    """What two sets of probabilities N×C of the same images say of each other."""
    before, after = (
        Scores(found, chosen.labels, chosen.images, chosen.split) for found in (alone, together)
    )
    right = [scores.predicted == scores.labels for scores in (before, after)]
    per_image = 1000 * seconds / len(chosen)
    return Gain(
        views,
        (metrics.accuracy(before), metrics.accuracy(after)),
        (metrics.log_loss(before), metrics.log_loss(after)),
        of_mean(metrics.losses(before) - metrics.losses(after), chosen.labels, signed=True),
        int((right[1] & ~right[0]).sum()),
        int((right[0] & ~right[1]).sum()),
        (float(per_image[0]), float(per_image[1])),
    )


def known(folder: Path) -> Gain | None:
    """What was measured of the run in a folder; None before that."""
    path = folder / FILE
    if not path.exists():
        return None
    found: Json = read_json(path)
    pairs = {name: tuple(Figure(**one) for one in found[name]) for name in ("accuracy", "log_loss")}
    others = {"views": tuple(found["views"]), "milliseconds": tuple(found["milliseconds"])}
    return Gain(**{**found, **pairs, **others, "saved": Figure(**found["saved"])})
