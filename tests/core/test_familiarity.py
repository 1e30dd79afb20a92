"""Strangers: images unlike anything in training, by their features."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from core.evaluation import familiarity
from core.models import classifier as classifiers
from tests.core.conftest import Trained

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(3, 32)) * 3


def around(center: np.ndarray, n: int) -> np.ndarray:
    return (center + RNG.normal(size=(n, 32))).astype(np.float32)


@pytest.fixture
def known() -> familiarity.Familiar:
    train = np.concatenate([around(center, 100) for center in CENTERS])
    held_out = np.concatenate([around(center, 40) for center in CENTERS])
    found = familiarity.learned(train, np.repeat([0, 1, 2], 100), held_out, 0)
    assert found is not None
    return found


def test_strangeness_is_scikit_learns_mean_distance(known):
    queries = around(CENTERS[0], 50)
    nearest = NearestNeighbors(n_neighbors=5, metric="cosine").fit(known.features)
    expected = nearest.kneighbors(queries)[0].mean(axis=1)
    np.testing.assert_allclose(known.strangeness(queries), expected, atol=2e-4)


def test_most_familiar_images_are_no_strangers_and_those_from_elsewhere_are(known):
    same, other = around(CENTERS[1], 500), around(-CENTERS.sum(axis=0), 500)
    assert (known.strangeness(same) > known.threshold).mean() < 0.12
    assert (known.strangeness(other) > known.threshold).mean() > 0.99
    rarer_than, stranger = known.judged(other[0])
    assert (rarer_than, stranger) == (1.0, True)


@pytest.mark.parametrize("n", [20, 43, 60, 400])
def test_at_least_95_percent_are_familiar_nearly_always(n):
    """Whatever the number of validation images: in nine of ten draws of them."""
    rng = np.random.default_rng(1)
    features = np.eye(2, dtype=np.float16)
    draws = [familiarity.Familiar(features, np.sort(rng.random(n))).threshold for _ in range(400)]
    assert np.mean(np.array(draws) >= 0.95) >= (0.86 if n > 44 else 1 - 0.95**n - 0.06)
    assert np.mean(draws) <= 1


def test_many_images_are_remembered_in_the_shares_of_their_classes(monkeypatch):
    monkeypatch.setattr(familiarity, "MOST_REMEMBERED", 40)
    eye = np.eye(2, dtype=np.float32)
    labels = np.repeat([0, 1], [300, 100])
    found = familiarity.learned(eye[labels], labels, eye, 0)
    assert found.features.argmax(axis=1).tolist().count(1) in (9, 10, 11)


def test_nothing_is_remembered_without_images():
    none = np.zeros((0, 4), dtype=np.float32)
    assert familiarity.learned(none, np.zeros(0, dtype=int), np.eye(4), 0) is None


def test_what_is_remembered_is_read_as_it_was_written(known, tmp_path):
    familiarity.write(known, tmp_path)
    found = familiarity.read(tmp_path)
    np.testing.assert_array_equal(found.features, known.features)
    assert found.threshold == known.threshold
    assert familiarity.read(tmp_path / "nowhere") is None


def test_a_trained_classifier_knows_its_own_images_and_not_a_chessboard(trained: Trained):
    classifier = classifiers.load(trained.run.model)
    own = classifier.predict(trained.photo("bees/00.jpg"))
    board = np.kron(np.indices((16, 16)).sum(axis=0) % 2, np.ones((14, 14))) * 255
    buffer = io.BytesIO()
    Image.fromarray(board.astype(np.uint8)).convert("RGB").save(buffer, "PNG")
    strange = classifier.predict(buffer.getvalue())
    assert not own.stranger
    assert strange.stranger
    assert strange.rarer_than == 1.0 > own.rarer_than
