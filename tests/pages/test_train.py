"""The Train page at the start of a training, from events as a worker writes them."""

from __future__ import annotations

import json

import pytest

from core import recipe as recipes
from core.data import importing
from core.runs import run as runs
from core.runs.run import Run
from core.storage import append_line, held
from core.training.events import Ended, Event, Progress, to_json
from tests.core.test_progress import COURSE, ended, started
from tests.pages.opening import opened, texts


@pytest.fixture
def tuning(class_photos, make_folder) -> Run:
    dataset = importing.import_all(make_folder(class_photos("ants", "bees", each=20)), "insects")
    return runs.create(dataset, recipes.preset("balanced"), "balanced")


def write(run: Run, events: list[Event]) -> None:
    for event in events:
        append_line(run.folder / "events.jsonl", to_json(event))


def axes(app) -> list[dict]:
    """The layouts of the charts of a page."""
    return [json.loads(chart.proto.spec)["layout"] for chart in app.get("plotly_chart")]


def test_one_bar_and_the_steps_stand_for_the_whole_training(tuning):
    write(tuning, COURSE[:10])
    with held(tuning.folder / "alive.lock"):
        shown = opened("train")
        assert "**Fine-tune**" in texts(shown) and ":material/check: Head" in texts(shown)
        (bar,) = shown.get("progress")
        assert bar.proto.value < 50 and "of the training, at most" in bar.proto.text


def test_a_run_that_was_stopped_at_its_start_shows_its_only_point(tuning):
    write(tuning, [started(4), ended("tune", 0, 4), Ended("stopped")])
    found = axes(opened("train"))
    accuracy = next(one for one in found if one["title"]["text"] == "Accuracy by epoch")
    assert accuracy["yaxis"]["range"] == [0, 1] and accuracy["xaxis"]["range"] == [0, 4]
    assert all(one["yaxis"]["range"][0] == 0 for one in found)


def test_the_steps_show_the_course_until_there_are_two_epochs(tuning):
    told = Progress("tune", 2, 90, 30.0, 500.0, 1, [1, 2], [0.9, 0.8], [0.5, 0.6], [1e-5, 2e-5])
    write(tuning, [started(), ended("tune", 0, 3), told, ended("tune", 1, 3), Ended("stopped")])
    titles = [one["title"]["text"] for one in axes(opened("train"))]
    assert "Training loss by step" in titles and "Loss by epoch" not in titles
    write(tuning, [ended("tune", 2, 3), Ended("stopped")])
    titles = [one["title"]["text"] for one in axes(opened("train"))]
    assert "Loss by epoch" in titles and "Training loss by step" not in titles
