"""One prediction from the bytes of a file, against the forward pass alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import photos
from benchmarks.pairs import Line, Pair, seconds_of
from core.data.importing import import_all
from core.recipe import preset

if TYPE_CHECKING:
    from torch import Tensor

    from core.data.dataset import Dataset
    from core.models.classifier import Classifier

REFERENCE = "the bare forward of the same network on a tensor that is ready"
# Images a repeat; spread over the dataset, since files differ in size.
IMAGES = 25


def measured(data: Path, repeat: int) -> Line:
    """Milliseconds of a prediction by a classifier as it is served."""
    import torch

    with photos.fresh_home() as home:
        dataset = import_all(data)
        files, name = photos.contents(dataset), photos.named(data, dataset)
        classifier = served(dataset, home / "model")
    chosen = files[:: max(1, len(files) // IMAGES)][:IMAGES]
    ready = [classifier.inputs(content) for content in chosen]
    ready = [one.contiguous(memory_format=torch.channels_last) for one in ready]

    one_by_one(classifier, chosen, ready)  # The first ones set things up.
    pairs = [one_by_one(classifier, chosen, ready) for _ in range(repeat)]
    return Line("predict", "ms", "lower", REFERENCE, pairs, name, {"images_each": len(chosen)})


def one_by_one(classifier: Classifier, files: list[bytes], ready: list[Tensor]) -> Pair:
    """Median milliseconds of a prediction and of a forward, image by image in turns."""
    import torch

    predictions, forwards = [], []
    for content, inputs in zip(files, ready, strict=True):
        predictions.append(seconds_of(partial(classifier.predict, content)) * 1000)
        with torch.inference_mode():
            forwards.append(seconds_of(partial(classifier.network, inputs)) * 1000)
    return median(predictions), median(forwards)


def served(dataset: Dataset, folder: Path) -> Classifier:
    """A classifier with the default backbone, saved and loaded again; what it says is no matter."""
    from core.models import classifier as classifiers
    from core.models import network as networks

    recipe = preset("quick")
    network = networks.create(recipe, len(dataset.classes), pretrained=True).eval()
    prepared = networks.preprocessing_of(network, recipe)
    made = classifiers.Classifier(network, prepared, dataset.classes, 1.0, recipe.backbone.name)
    classifiers.save(made, folder, {})
    return classifiers.load(folder)
