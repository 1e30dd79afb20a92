"""Runs that are put together: what they say of the images that all have scored, and the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core import machine
from core.data.dataset import Dataset
from core.errors import DatasetRefused, RecipeRefused
from core.evaluation import baseline, metrics, seen
from core.evaluation import scores as scoring
from core.evaluation.calibration import temperature
from core.evaluation.familiarity import learned
from core.evaluation.scores import Scores
from core.jobs import Step
from core.models.classifier import Classifier
from core.runs import run as runs
from core.runs.run import Run
from core.serving import batch
from core.storage import Json, append_line
from core.training.events import Ended, Event, Note, to_json
from core.training.fit import time_of_image

PARTS = ("test", "val", "train")
MOST_MEMBERS = 50
# Fewer validation images that all runs share say nothing, unless a run has no more itself.
LEAST_SHARED = 10


@dataclass(frozen=True)
class Members:
    """Runs that can be combined, and what they say of the images that all of them have scored.

    scores: one for each run, the same images in the same order; their part is that of the ensemble.
    """

    runs: list[Run]
    dataset: Dataset
    scores: list[Scores]
    rows: list[np.ndarray]

    @property
    def parts(self) -> np.ndarray:
        """The part of each image: N of train, val, test."""
        return self.scores[0].split

    def held_out(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities M×N×C and labels N of one part."""
        chosen = [one.part(part) for one in self.scores]
        return np.stack([one.probabilities for one in chosen]), chosen[0].labels


def gathered(ids: Sequence[str]) -> Members:
    """The runs with what they say of the images that all have scored.

    An image is test only if it is test, or was kept out, for all of them; validation only if it
    is that for all, and there are enough of these. Any other is train: some member has learned
    from it, or was chosen by it.
    Raises: RecipeRefused, DatasetRefused, NotFound.
    """
    found = [runs.load(one) for one in dict.fromkeys(ids)]
    check(found)
    stored = [scoring.load(run.predictions) for run in found]
    names = sorted(set.intersection(*({*map(str, one.images)} for one in stored)))
    if not names:
        raise DatasetRefused("The runs share no image.", "Combine runs on one revision.")
    positions = []
    for one in stored:
        place = {str(image): k for k, image in enumerate(one.images)}
        positions.append(np.array([place[image] for image in names]))
    ordered = [one.chosen(rows) for one, rows in zip(stored, positions, strict=True)]
    every = np.stack([one.split for one in ordered])
    test = np.isin(every.astype(str), ("test", "kept")).all(axis=0)
    chosen_by = (every == "val").all(axis=0)
    if chosen_by.sum() < min(LEAST_SHARED, *((one.split == "val").sum() for one in stored)):
        chosen_by[:] = False
    parts = np.where(test, "test", np.where(chosen_by, "val", "train")).astype(object)
    scores = [replace(one, split=parts) for one in ordered]
    return Members(found, runs.data_of(found[0]), scores, positions)


def check(found: list[Run]) -> None:
    """Refuse runs that make no ensemble.

    Raises: RecipeRefused, DatasetRefused.
    """
    if not 2 <= len(found) <= MOST_MEMBERS:
        raise RecipeRefused(
            f"An ensemble is made of 2 to {MOST_MEMBERS} different runs, and not of {len(found)}.",
            "Choose others.",
        )
    unfinished = next((run for run in found if runs.state_of(run) != "finished"), None)
    if unfinished is not None:
        raise RecipeRefused(
            f"{unfinished.label} is {runs.state_of(unfinished)}, and may still change.",
            "Wait for it, or resume it.",
        )
    nested = next((run for run in found if run.members), None)
    if nested is not None:
        raise RecipeRefused(f"{nested.label} is an ensemble itself.", "Choose its members instead.")
    first = found[0]
    for run in found[1:]:
        if (run.dataset, run.revision) != (first.dataset, first.revision):
            raise DatasetRefused(
                f"{first.label} and {run.label} learned from different images.",
                "Combine runs on one revision of one dataset.",
            )
        if run.classes != first.classes:
            raise DatasetRefused(
                f"{first.label} and {run.label} know different classes.", "Combine others."
            )


def scored(
    classifier: Classifier, members: Members
) -> Generator[Step, None, tuple[Scores, np.ndarray]]:
    """Let a classifier see every shared image; yields how far it is."""
    data = members.dataset
    names = members.scores[0].images
    table = data.table.set_index("name", drop=False).loc[list(names)].reset_index(drop=True)
    for step in batch.scored(classifier, replace(data, table=table)):
        if isinstance(step, int):
            yield Step(step, len(table), "Classifying each image")
        else:
            scores, features = step
            return replace(scores, split=members.parts), features
    raise AssertionError("scored ends with scores")


def summary_of(scores: Scores, part: str, classes: Sequence[str]) -> Json:
    """The figures of one part with its baseline."""
    return metrics.summary(scores.part(part)) | baseline.facts(
        baseline.of_part(scores, part, classes)
    )


def written(
    members: Members, made: Classifier, found: Scores, features: np.ndarray, facts: Json,
    notes: list[str], keep: Callable[[Classifier, Path], None],
) -> Run:  # fmt: skip
    """The run of a classifier that was put together: calibrated, scored, whole."""
    held_out = found.split == "val"
    degree = 1.0
    if held_out.any():
        logits = np.log(np.maximum(found.probabilities, metrics.SMALLEST))
        degree = temperature(logits[held_out], found.labels[held_out])
        found = replace(found, probabilities=scoring.softmax(logits, degree))
    recipe = members.runs[0].recipe
    familiar = learned(
        features[found.split == "train"], found.labels[found.split == "train"], features[held_out],
        recipe.seed,
    )  # fmt: skip
    classifier = replace(made, temperature=degree, familiar=familiar)
    started = time.monotonic()

    def fill(aside: Path) -> None:
        keep(classifier, aside / "model")
        seen.save(features, aside / seen.FILE)
        scoring.save(found, aside / "predictions.parquet")
        result = {
            **{part: summary_of(found, part, members.dataset.classes) for part in PARTS},
            "best_epoch": None, "epochs": 0, "images_per_second": None, "temperature": degree,
            "peak_memory_mb": round(machine.peak_memory_mb(), 1),
            "seconds": round(time.monotonic() - started, 3),
            **time_of_image(classifier),
        }  # fmt: skip
        events: list[Event] = [*map(Note, notes), Ended("finished", result=result)]
        for event in events:
            append_line(aside / "events.jsonl", to_json(event))

    return runs.written(members.dataset, recipe, facts, fill)
