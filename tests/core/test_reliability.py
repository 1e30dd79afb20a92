"""The calibration error: by hand, of calibrated and of boastful classifiers, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.reliability import reliability, without
from core.evaluation.scores import Scores, softmax


def scored(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    names = np.arange(len(labels)).astype(object)
    return Scores(probabilities.astype(np.float32), labels, names, np.full(len(labels), "test"))


def calibrated(n: int, seed: int, sharpness: float = 1.0) -> Scores:
    """Labels drawn from the probabilities; the ones told are sharper, if more than 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 2
    ends = softmax(logits).cumsum(axis=1)
    labels = (rng.random(n)[:, None] > ends).sum(axis=1).clip(0, 2)
    return scored(softmax(logits * sharpness), labels)


def test_error_is_the_mean_gap_of_the_bins():
    # Four images at 0.9, of which half are right; two at 0.6, both right.
    sure, unsure = [[0.9, 0.1]] * 4, [[0.4, 0.6]] * 2
    found = reliability(scored(np.array(sure + unsure), np.array([0, 0, 1, 1, 1, 1])))
    assert found.images.tolist() == [2, 4]
    assert found.accuracy.tolist() == [1.0, 0.5]
    assert found.error.value == pytest.approx((4 * 0.4 + 2 * 0.4) / 6, abs=1e-6)
    assert found.error.n == 6


def test_a_calibrated_classifier_shows_what_chance_brings_and_a_boastful_one_more():
    honest, boasting = (reliability(calibrated(2000, 1, sharpness)) for sharpness in (1.0, 3.0))
    assert honest.error.low <= honest.by_chance <= honest.error.high
    assert boasting.error.low > 2 * boasting.by_chance


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_interval_holds_the_error_of_many_images(sharpness):
    """That of few is larger, by what chance adds: the interval is about what they would show."""
    errors = [reliability(calibrated(500, seed, sharpness)).error for seed in range(200)]
    expected = np.mean([one.value for one in errors])
    held = np.mean([one.low <= expected <= one.high for one in errors])
    assert held >= 0.9


def test_temperature_is_taken_back():
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 5
    found = without(softmax(logits, 2.5), 2.5)
    np.testing.assert_allclose(found, softmax(logits), atol=1e-5)


def test_one_image_that_is_right_and_sure_is_no_proof():
    found = reliability(scored(np.array([[1.0, 0.0]]), np.array([0])))
    assert found.error.value == 0
    assert np.isfinite([found.error.low, found.error.high, found.by_chance]).all()
