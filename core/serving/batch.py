"""A classifier on many images: a folder, some files, or another labelled dataset."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from core import machine
from core.data import loader
from core.data.cells import safe_cell
from core.data.dataset import Dataset
from core.data.images import IMAGE_ENDINGS
from core.errors import DatasetRefused, HeadstartError, NotFound
from core.evaluation.scores import Scores, softmax
from core.models import classifier as classifiers
from core.models import device as devices
from core.models.classifier import Classifier, Prediction
from core.models.features import BATCH, forward_of
from core.models.network import classifier_of, frozen


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the images below the folders named.

    Raises: NotFound for a path that is not there.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise NotFound(f"There is no file or folder {path}.", "Check the path.")
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS)
        found += inside if path.is_dir() else [path]
    return found


def predict_files(
    model: Path, paths: Sequence[Path]
) -> Iterator[tuple[Path, Prediction | HeadstartError]]:
    """Each image file with what the classifier says of it, or why it cannot be read."""
    torch.set_num_threads(machine.cores())
    for path in image_files(paths):
        try:
            yield path, classifiers.predicted(model, path.read_bytes())
        except HeadstartError as error:
            yield path, error


def predictions_csv(
    classes: Sequence[str], rows: Sequence[tuple[Path, Prediction | HeadstartError]]
) -> str:
    """A table of predictions: file, prediction, its probability, one column a class, error.

    stranger: whether it is unlike anything in training; rarer_than: the share of validation images
    that are more like the training images.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    names = [safe_cell(name) for name in classes]
    writer.writerow(["file", "prediction", "confidence", *names, "stranger", "rarer_than", "error"])
    for path, outcome in rows:
        if isinstance(outcome, HeadstartError):
            writer.writerow([safe_cell(str(path)), "", "", *[""] * (len(names) + 2), str(outcome)])
            continue
        by_class = dict(zip(outcome.classes, outcome.probabilities, strict=True))
        shares = [f"{by_class[name]:.6f}" for name in classes]
        given, confidence = safe_cell(outcome.given), f"{by_class[outcome.given]:.6f}"
        strange = "" if outcome.rarer_than is None else f"{outcome.rarer_than:.4f}"
        told = ["yes" if outcome.stranger else "no", strange] if strange else ["", ""]
        writer.writerow([safe_cell(str(path)), given, confidence, *shares, *told, ""])
    return buffer.getvalue()


def score(classifier: Classifier, dataset: Dataset) -> Scores:
    """What a classifier says of every image of another labelled dataset.

    Raises: DatasetRefused when it has classes that the classifier does not know.
    """
    for found in scored(classifier, dataset):
        if not isinstance(found, int):
            return found[0]
    raise AssertionError("scored ends with scores")


def scored(classifier: Classifier, dataset: Dataset) -> Iterator[int | tuple[Scores, np.ndarray]]:
    """How many images are classified; last the scores, and the features N×F float32.

    Raises: DatasetRefused when it has classes that the classifier does not know.
    """
    unknown = sorted(set(dataset.classes) - set(classifier.classes))
    if unknown:
        raise DatasetRefused(
            f"{dataset.name} has classes that the classifier does not know: "
            f"{', '.join(unknown[:5])}.",
            f"Name the folders as in training: {', '.join(classifier.classes[:10])}.",
        )
    device = devices.resolve("auto")
    fast = frozen(classifier.network, device, torch.float32)
    forward = forward_of(fast, classifier.preprocessing, device, torch.float32)
    pictures = loader.from_files(dataset, classifier.preprocessing)
    batches = loader.squares(
        pictures, range(len(dataset.table)), classifier.preprocessing, BATCH, machine.cores()
    )
    pieces: list[np.ndarray] = []
    for batch in batches:
        pieces.append(forward(batch))
        yield sum(map(len, pieces))
    features = np.concatenate(pieces)
    head = classifier_of(classifier.network).cpu()
    with torch.inference_mode():
        logits = head(torch.from_numpy(features)).numpy()
    numbers = {name: number for number, name in enumerate(classifier.classes)}
    scores = Scores(
        softmax(logits, classifier.temperature),
        dataset.table["label"].map(numbers).to_numpy(dtype=np.int64),
        dataset.table["name"].to_numpy(dtype=object),
        np.full(len(dataset.table), "new", dtype=object),
    )
    yield scores, features
