from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import NotFound
from core.evaluation import metrics, report
from core.evaluation import scores as scoring
from core.runs import run as runs
from tests.core.conftest import Trained


def test_a_report_has_the_figures_that_the_run_ended_with(trained: Trained):
    told = runs.result_of(trained.run.events())
    for part in ("train", "val", "test"):
        found = report.evaluate(trained.run.predictions, trained.run.classes, part)
        plain = metrics.plain(found.figures, len(found.scores))
        assert {**plain, **found.baseline} == told[part]
        assert found.confusion.sum() == told[part]["n"] == len(found.scores)
        assert list(found.per_class.iloc[:, 0]) == ["ants", "bees"]


def test_a_report_says_what_was_said_of_an_image(trained: Trained):
    found = report.evaluate(trained.run.predictions, trained.run.classes, "val")
    (*_, position) = np.flatnonzero(found.scores.predicted == 1)
    name = found.scores.images[position]
    said = found.said_of(name)
    assert found.has(name)
    assert not found.has("ants/99.jpg")
    assert said.true == name.partition("/")[0]
    assert said.classes == ("bees", "ants")
    assert said.probabilities == tuple(found.scores.probabilities[position, ::-1])


def test_a_part_without_images_has_no_report(trained: Trained, tmp_path: Path):
    scores = scoring.load(trained.run.predictions)
    path = tmp_path / "predictions.parquet"
    scoring.save(scores.part("val"), path)
    assert report.evaluate(path, trained.run.classes, "test") is None


def test_what_is_kept_is_what_was_computed_and_damage_is_mended(trained: Trained, tmp_path: Path):
    path = tmp_path / "predictions.parquet"
    scores = scoring.load(trained.run.predictions)
    scoring.save(scores, path)
    part, classes = scores.part("test"), trained.run.classes
    first = report.computed(path, part, classes)
    kept = tmp_path / "predictions-figures" / "test.json"
    assert repr(report.computed(path, part, classes)) == repr(first)
    kept.write_text('{"version": 1, "figu')
    assert repr(report.computed(path, part, classes)) == repr(first)
    other = scores.part("val")
    other.split[:] = "test"
    assert report.computed(path, other, classes)[0]["accuracy"].n == len(other)


def test_a_run_that_has_no_predictions_yet_has_no_report(tmp_path: Path):
    with pytest.raises(NotFound, match="no predictions"):
        report.evaluate(tmp_path / "predictions.parquet", ("ants", "bees"), "test")
