from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import NotFound
from core.evaluation import scores as scoring
from core.evaluation.scores import Scores


def scores_of(n: int = 12, n_classes: int = 11, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    return Scores(
        scoring.softmax(rng.normal(0, 2, (n, n_classes))),
        rng.integers(0, n_classes, n),
        np.array([f"Käfer/{number}.jpg" for number in range(n)], dtype=object),
        np.array([("val", "test")[number % 2] for number in range(n)], dtype=object),
    )


def assert_equal(one: Scores, other: Scores) -> None:
    for name in ("probabilities", "labels", "images", "split"):
        expected, found = getattr(one, name), getattr(other, name)
        assert found.dtype == expected.dtype, name
        assert np.array_equal(found, expected), name


def test_scores_come_back_from_parquet_as_they_were(tmp_path: Path):
    one = scores_of()
    scoring.save(one, tmp_path / "predictions.parquet")
    assert_equal(scoring.load(tmp_path / "predictions.parquet"), one)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["predictions.parquet"]


def test_the_file_has_a_column_for_each_fact_and_each_class(tmp_path: Path):
    one = scores_of()
    scoring.save(one, tmp_path / "predictions.parquet")
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    probabilities = [f"p_{number}" for number in range(11)]
    assert list(table.columns) == ["image", "split", "label", "predicted", *probabilities]
    assert list(table["predicted"]) == list(one.probabilities.argmax(axis=1))


def test_a_run_without_predictions_says_so(tmp_path: Path):
    with pytest.raises(NotFound, match="no predictions"):
        scoring.load(tmp_path / "predictions.parquet")


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
def test_probabilities_of_each_image_make_one(scale: float):
    found = scoring.softmax(np.random.default_rng(0).normal(0, scale, (50, 7)))
    assert found.dtype == np.float32
    assert np.isfinite(found).all() and (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-6)


def test_softmax_is_the_known_one():
    logits = np.log([[1.0, 2.0, 5.0]])
    assert scoring.softmax(logits)[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=1e-7)
    half = scoring.softmax(logits, temperature=0.5)[0]
    assert half == pytest.approx([1 / 30, 4 / 30, 25 / 30], abs=1e-7)


def test_a_higher_temperature_is_less_sure_and_says_the_same_class():
    logits = np.random.default_rng(0).normal(0, 3, (50, 5))
    cold, hot = scoring.softmax(logits, 0.5), scoring.softmax(logits, 4.0)
    assert (cold.max(axis=1) > hot.max(axis=1)).all()
    assert (cold.argmax(axis=1) == hot.argmax(axis=1)).all()


def test_the_predicted_class_is_the_most_probable_one():
    one = scores_of()
    assert one.predicted.dtype == np.int64
    assert np.array_equal(one.confidence, one.probabilities[np.arange(12), one.predicted])
    assert (one.confidence[:, None] >= one.probabilities).all()


def test_a_part_holds_its_images_and_both_parts_together_hold_all():
    one = scores_of()
    parts = [one.part("val"), one.part("test")]
    assert [len(part) for part in parts] == [6, 6]
    assert set(parts[0].split) == {"val"}
    again = scoring.joined(parts)
    assert_equal(again.chosen(np.argsort(again.images)), one.chosen(np.argsort(one.images)))


def test_a_part_that_is_not_there_is_empty():
    assert len(scores_of().part("train")) == 0
