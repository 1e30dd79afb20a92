"""What a classifier of real photos says of itself: calibration, and images that it never saw."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from core import recipe as recipes
from core.data import importing
from core.evaluation import scores, seen
from core.evaluation.reliability import reliability
from core.models import classifier as classifiers
from core.runs import run as runs
from core.runs.run import Run
from core.runs.worker import work


def trained_on(path) -> Run:
    run = runs.create(importing.import_all(path), recipes.preset("quick"), "quick")
    list(work(run))
    return run


def strangeness(run: Run, pictures: list[np.ndarray]) -> np.ndarray:
    classifier = classifiers.load(run.model)
    found = []
    for pixels in pictures:
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((128, 128)).convert("RGB").save(buffer, "PNG")
        found.append(classifier.outputs(classifier.inputs(buffer.getvalue()))[1])
    return classifier.familiar.strangeness(np.concatenate(found))


@pytest.mark.parametrize("name", ["hymenoptera", "sign-digits"])
def test_a_classifier_of_real_photos_knows_what_it_does_not_know(test_data, name):
    run = trained_on(test_data / "data" / f"{name}.zip")
    stored = scores.load(run.predictions)
    test = stored.part("test")
    before, after = reliability(test, run.temperature), reliability(test)
    assert after.error.value <= before.error.value
    assert after.error.n == len(test)

    known = classifiers.load(run.model).familiar
    own = known.strangeness(seen.load(run.folder / seen.FILE)[stored.split == "test"])
    assert (own > known.threshold).mean() <= 0.08
    digits = (load_digits().images[:100] * 15.9).astype(np.uint8)
    strange = strangeness(run, list(digits))
    truth = np.r_[np.zeros(len(own)), np.ones(len(strange))]
    assert roc_auc_score(truth, np.r_[own, strange]) >= 0.95
