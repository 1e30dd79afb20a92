"""A run whose accuracy is no better than always answering one class says so wherever it is read."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from core import recipe as recipes
from core.__main__ import app
from core.data import importing
from core.documents.card import card
from core.documents.document import html
from core.evaluation import baseline, report
from core.evaluation.scores import Scores
from core.runs import leaderboard
from core.runs import run as runs
from core.runs.run import Run
from core.runs.status import table
from core.runs.worker import work
from core.telling import accuracy_text
from tests.conftest import make_photo
from tests.pages.opening import opened, texts

ALWAYS = "always answering cats, the most common class"


def scores_of(labels: list[int], part: str) -> Scores:
    n = len(labels)
    names = np.array([f"{part}{k}" for k in range(n)], dtype=object)
    even = np.full((n, 2), 0.5, dtype=np.float32)
    return Scores(even, np.array(labels), names, np.full(n, part, dtype=object))


def test_the_training_images_say_what_is_common_and_the_scored_ones_what_that_gives():
    learned, scored = np.array([1, 1, 1, 0]), np.array([0, 0, 0, 1])
    assert baseline.of_labels(scored, learned, ("a", "b")) == baseline.Baseline(0.25, "b")
    none = np.empty(0, dtype=int)
    assert baseline.of_labels(scored, none, ("a", "b")) == baseline.Baseline(0.75, "a")
    assert baseline.of_labels(none, learned, ("a", "b")) is None
    # A class that no scored image has is never right.
    assert baseline.of_labels(np.array([0, 0]), np.array([1]), ("a", "b")).accuracy == 0.0


@pytest.mark.parametrize(
    ("accuracy", "low", "words"),
    [
        (0.98, 0.95, "Always answering b, the most common class, gives 90.0%."),
        (0.92, 0.85, "Not clearly better than always answering b"),
        (0.90, 0.85, "No better than always answering b"),
        (0.50, 0.40, "No better than always answering b"),
    ],
)
def test_what_is_said_follows_from_the_accuracy_and_its_interval(accuracy, low, words):
    figures = {"accuracy": accuracy, "accuracy_low": low, "baseline": 0.9, "baseline_class": "b"}
    assert baseline.sentence(figures).startswith(words)
    assert baseline.is_beaten(figures) == (accuracy > 0.9)


def test_a_run_of_an_earlier_version_keeps_no_baseline_and_nothing_is_said_of_it():
    assert baseline.sentence({"accuracy": 0.9, "accuracy_low": 0.8}) == ""
    assert baseline.is_beaten({"accuracy": 0.9})
    assert accuracy_text({"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 1.0, "n": 9}) == (
        "0.900 (0.800–1.000)"
    )


@pytest.fixture
def hopeless(make_folder) -> Run:
    """A run on 50 photos in one class and 10 of the same kind in another."""
    photos = {f"cats/{k}.jpg": make_photo(k) for k in range(50)}
    photos |= {f"dogs/{k}.jpg": make_photo(100 + k) for k in range(10)}
    dataset = importing.import_all(make_folder(photos), "pets")
    settings = ["image.size=32", "schedule.epochs=1", "head.kind=knn", "head.neighbors=15"]
    run = runs.create(dataset, recipes.with_settings(recipes.preset("quick"), settings), "quick")
    *_, last = work(run)
    assert last.reason == "finished", last
    return run


def test_a_run_that_is_no_better_says_so_on_pages_in_the_shell_and_in_documents(hopeless):
    test = runs.result_of(hopeless.events())["test"]
    found = report.evaluate(hopeless.predictions, hopeless.classes, "test")
    by_hand = (found.scores.labels == hopeless.classes.index("cats")).mean()
    assert test["baseline"] == pytest.approx(by_hand) and test["baseline_class"] == "cats"
    assert test["accuracy"] <= test["baseline"] and found.beside_baseline["baseline"] == by_hand
    shell = CliRunner()
    assert ALWAYS in shell.invoke(app, ["evaluate", hopeless.id]).stdout
    assert "NOT ABOVE" in shell.invoke(app, ["runs"]).stdout
    (row,) = table([hopeless])
    assert row["baseline"] == test["baseline"]
    assert leaderboard.entry(hopeless).row()["baseline"] == test["baseline"]
    assert ALWAYS in html(hopeless)
    assert ALWAYS in card(hopeless).replace("\n", " ")
    for page in ("train", "evaluate"):
        shown = opened(page)
        assert any(ALWAYS in str(one.value) for one in shown.warning), texts(shown)
        assert not any("accuracy" in str(one.value) for one in shown.success)
