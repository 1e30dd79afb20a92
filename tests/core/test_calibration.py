from __future__ import annotations

import numpy as np
import pytest

from core.evaluation import calibration
from core.evaluation.scores import softmax


def sampled(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that say exactly how likely each class is, and labels drawn accordingly."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, n_classes))
    shares = softmax(logits).astype(np.float64).cumsum(axis=1)
    labels = (rng.random(n)[:, None] > shares / shares[:, -1:]).sum(axis=1)
    return logits, labels.astype(np.int64)


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    return calibration.mean_loss(logits / temperature, labels)


@pytest.mark.parametrize("known", [0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_a_known_temperature_is_found_again(known: float, n_classes: int):
    logits, labels = sampled(5000, n_classes)
    assert calibration.temperature(logits * known, labels) == pytest.approx(known, rel=0.08)


def test_the_temperature_does_not_depend_on_where_zero_is():
    logits, labels = sampled(200, 4)
    shifted = logits + np.random.default_rng(1).normal(0, 100, (200, 1))
    expected = calibration.temperature(logits, labels)
    assert calibration.temperature(shifted, labels) == pytest.approx(expected, rel=1e-6)


def test_calibrating_an_overconfident_classifier_lowers_the_loss_on_other_images():
    logits, labels = sampled(2000, 5)
    val, test = slice(0, 1000), slice(1000, None)
    found = calibration.temperature(logits[val] * 4, labels[val])
    before, after = (loss(logits[test] * 4, labels[test], t) for t in (1.0, found))
    assert after < 0.6 * before
    assert after == pytest.approx(loss(logits[test], labels[test]), rel=0.02)


def test_no_other_temperature_has_a_much_lower_loss():
    logits, labels = sampled(500, 3, seed=2)
    best = loss(logits * 5, labels, calibration.temperature(logits * 5, labels))
    others = [loss(logits * 5, labels, t) for t in np.geomspace(0.1, 20, 200)]
    assert best <= min(others) * 1.001


@pytest.mark.parametrize("n", [10, 50, 400])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_images_that_all_are_right_leave_half_an_image_of_doubt(n: int, n_classes: int):
    labels = np.arange(n) % n_classes
    logits = np.eye(n_classes)[labels] * 4
    found = calibration.temperature(logits, labels)
    confidence = softmax(logits, found).max(axis=1)
    assert confidence == pytest.approx(np.full(n, (n + 0.5) / (n + 1)), abs=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("right", [True, False])
def test_the_temperature_stays_within_its_bounds(scale: float, right: bool):
    labels = np.arange(40) % 2
    logits = np.eye(2)[labels if right else 1 - labels] * scale
    found = calibration.temperature(logits, labels)
    assert calibration.COLDEST <= found <= calibration.HOTTEST
    assert np.isfinite(softmax(logits, found)).all()


def test_fewer_than_ten_images_leave_the_probabilities_as_they_are():
    logits, labels = sampled(9, 3)
    assert calibration.temperature(logits * 10, labels) == 1.0
    assert calibration.temperature(np.empty((0, 3)), np.empty(0, dtype=np.int64)) == 1.0


def test_the_mean_loss_is_the_known_one():
    logits = np.log([[0.5, 0.5], [0.25, 0.75]])
    expected = -(np.log(0.5) + np.log(0.75)) / 2
    assert calibration.mean_loss(logits, np.array([0, 1])) == pytest.approx(expected)


def test_huge_logits_have_a_finite_loss():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], dtype=np.float32)
    assert calibration.mean_loss(logits, np.array([0, 1])) == pytest.approx(0)
    assert calibration.mean_loss(logits, np.array([1, 0])) == pytest.approx(1e4)


def test_a_calibrated_classifier_is_left_as_it_is():
    found = [calibration.temperature(*sampled(200, 4, seed)) for seed in range(40)]
    assert found.count(1.0) >= 34
