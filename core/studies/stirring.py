"""A greedy soup: the weights of several runs averaged to one network (Wortsman et al. 2022)."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from core.errors import DatasetRefused, RecipeRefused
from core.evaluation import metrics
from core.evaluation import scores as scoring
from core.evaluation.calibration import temperature
from core.jobs import Step
from core.models import classifier as classifiers
from core.models.classifier import Classifier
from core.runs.run import Run
from core.storage import Json
from core.studies.gathering import Members, scored, written
from core.studies.weighing import SOUP, loss
from core.training.soup import Weights, averaged, copied

# Heads that hold training images: the mean of two of those is no image.
NO_MEAN = ("svm", "knn")


def stirred(members: Members, name: str) -> Iterator[Step]:
    """A greedy soup: the mean of the weights of the best runs (Wortsman et al. 2022).

    The runs are tried from the best to the worst on validation; each is added if the mean is then
    no worse.
    Raises: RecipeRefused for runs whose weights mean different things, DatasetRefused without
    validation images.
    """
    probabilities, labels = members.held_out("val")
    if not len(labels):
        raise DatasetRefused(
            "Too few images are validation for all of these runs.",
            "Combine runs with the same division of the images, or choose mean.",
        )
    loaded = [classifiers.load(run.model) for run in members.runs]
    check_alike(members.runs, loaded)
    alone = [loss(np.ones(1), probabilities[k : k + 1], labels) for k in range(len(loaded))]
    order = sorted(range(len(loaded)), key=lambda k: alone[k])
    weights = [copied(one.network) for one in loaded]
    chosen, best = order[:1], alone[order[0]]
    for candidate in order[1:]:
        mixed = with_weights(loaded[0], averaged([weights[k] for k in (*chosen, candidate)]))
        value = yield from validation_loss(mixed, members)
        if value <= best:
            chosen, best = [*chosen, candidate], value
    if len(chosen) == 1:
        raise DatasetRefused(
            f"By the validation images {members.runs[order[0]].label} alone is better than any "
            "mean of weights.",
            "Use it as it is, or average what the runs say: mean, weighted or greedy.",
        )
    made = with_weights(loaded[order[0]], averaged([weights[k] for k in chosen]))
    found, features = yield from scored(made, members)
    used = [members.runs[k] for k in chosen]
    note = f"The weights of {len(chosen)} of {len(order)} runs are averaged: " + ", ".join(
        run.label for run in used
    )
    origin: Json = {"soup": [run.id for run in used], "dataset": members.dataset.digest,
                    "revision": members.dataset.revision}  # fmt: skip
    facts: Json = {"kind": SOUP,
                   "name": name or f"Soup of {len(chosen)} on {members.dataset.name}"}  # fmt: skip

    def keep(classifier: Classifier, folder: Path) -> None:
        classifiers.save(classifier, folder, origin)

    run = written(members, made, found, features, facts, [note], keep)
    yield Step(1, 1, "Done", result={"run": run.id})


def check_alike(found: Sequence[Run], loaded: Sequence[Classifier]) -> None:
    """Refuse a soup of networks whose weights do not lie in the same places.

    Raises: RecipeRefused.
    """
    first, head = shapes_of(loaded[0]), head_of(found[0])
    for run, one in zip(found, loaded, strict=True):
        other = shapes_of(one) != first or head_of(run) != head
        if other or head.get("kind") in NO_MEAN or one.preprocessing != loaded[0].preprocessing:
            raise RecipeRefused(
                f"{found[0].label} and {run.label} differ in backbone, head or image size: their "
                "weights cannot be averaged.",
                "Choose mean, weighted or greedy, which average what the runs say.",
            )


def head_of(run: Run) -> Json:
    """What the head of a run's classifier is made of; nothing for one linear layer."""
    found: Json = run.config["headstart"].get("head") or {}
    return found


def shapes_of(classifier: Classifier) -> dict[str, torch.Size]:
    """The shape of each tensor of a network by its name."""
    return {name: tensor.shape for name, tensor in classifier.network.state_dict().items()}


def with_weights(classifier: Classifier, weights: Weights) -> Classifier:
    """The same classifier with other weights, uncalibrated and remembering nothing."""
    network = copy.deepcopy(classifier.network)
    network.load_state_dict(weights)
    return replace(classifier, network=network.eval(), temperature=1.0, familiar=None)


def validation_loss(classifier: Classifier, members: Members) -> Generator[Step, None, float]:
    """Log loss on the shared validation images, calibrated as it will be used."""
    held_out = members.parts == "val"
    only = replace(members, scores=[one.chosen(held_out) for one in members.scores])
    scores, _ = yield from scored(classifier, only)
    logits = np.log(np.maximum(scores.probabilities, metrics.SMALLEST))
    degree = temperature(logits, scores.labels)
    calibrated = replace(scores, probabilities=scoring.softmax(logits, degree))
    return float(np.mean(metrics.losses(calibrated)))
