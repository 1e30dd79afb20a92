"""The page that compares runs, on the real core."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import recipe as recipes
from core.data import dataset as datasets
from core.data import importing, journal
from core.evaluation import scores as scoring
from core.runs import run as runs
from core.runs import versus
from core.runs.run import Run
from core.runs.worker import work
from pages import widgets
from tests.pages.opening import opened, texts

VIEWS = {
    "Figures": "Each on its own test images",
    "Differences": "Both are judged on the same images",
    "Curves": "",
    "Recipes": "Only the fields that differ",
    "Images": "True class, what the other said instead",
}


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", each=20)), "insects")


def trained(dataset, *settings: str) -> Run:
    small = ["image.size=32", "schedule.epochs=2", "data.split=[0.5, 0.2, 0.3]", *settings]
    run = runs.create(dataset, recipes.with_settings(recipes.preset("quick"), small), "quick")
    *_, last = work(run)
    assert last.reason == "finished"
    return run


@pytest.fixture
def pair(dataset) -> tuple[Run, Run]:
    """Two runs; the second was made to err on three test images."""
    first, second = trained(dataset), trained(dataset, "schedule.epochs=4")
    spoil(second, 3)
    return first, second


def spoil(run: Run, wrong: int) -> None:
    """Have a run say the other class of its first test images, and of no more."""
    scores = scoring.load(run.predictions)
    said = scores.labels.copy()
    said[np.flatnonzero(scores.split == "test")[:wrong]] ^= 1
    chosen = scoring.softmax(3 * np.eye(2)[said])
    scoring.save(dataclasses.replace(scores, probabilities=chosen), run.predictions)


def compared(*found: Run, **parameters: str) -> AppTest:
    return opened("compare", runs=[widgets.run_label(run) for run in found], **parameters)


def cells(app: AppTest) -> set[str]:
    """What stands in all tables."""
    frames = [frame.value.astype(object) for frame in app.dataframe]
    return {str(cell).lower() for frame in frames for cell in frame.to_numpy().ravel()}


def test_every_view_of_two_runs_is_drawn_and_says_no_nan(pair):
    app = compared(*pair)
    assert "A" in texts(app) and app.dataframe
    for view, words in VIEWS.items():
        app.session_state["compare view"] = view
        app.run()
        assert not app.exception, (view, app.exception)
        assert not app.error
        assert words in texts(app), view
        assert "nan" not in texts(app).lower().split()
        assert "nan" not in cells(app)


def test_the_difference_is_told_in_words_with_its_counts(pair):
    first, second = pair
    found = versus.compared(first, second)
    app = compared(first, second)
    app.session_state["compare view"] = "Differences"
    app.run()
    assert f"A is right on {found.only_first} where B is wrong" in texts(app)
    assert found.only_first + found.only_second > 0


def test_the_leaderboard_has_every_run_with_its_time(pair):
    app = opened("compare")
    table = app.dataframe[0].value
    assert set(table["run"]) == {run.id for run in pair}
    assert (table["milliseconds"] > 0).all()
    assert "Choose two or more runs to see" in texts(app)


def test_a_run_without_a_measured_time_is_in_the_list_and_not_in_the_plot(pair):
    events = pair[0].folder / "events.jsonl"
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    del lines[-1]["result"]["milliseconds"]
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    app = opened("compare")
    assert len(app.dataframe[0].value) == 2
    assert "Not in the plot: 1 of 2" in texts(app)


@pytest.mark.parametrize("busy", [0, 1])
def test_a_time_that_was_measured_on_a_busy_machine_is_told(busy, pair):
    for run, flag in zip(pair, (busy, 0), strict=True):
        events = run.folder / "events.jsonl"
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        lines[-1]["result"]["milliseconds_busy"] = bool(flag)
        events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = "Timed while the machine did other work: 1 of 2."
    assert (said in texts(opened("compare"))) == bool(busy)


def test_a_run_of_the_address_that_is_not_there_is_told_and_the_others_are_shown(pair):
    labels = [widgets.run_label(pair[0]), "gone · abcdefabcdef"]
    app = opened("compare", runs=labels)
    assert not app.error
    assert any("cannot be compared here" in one.value for one in app.warning)
    assert app.multiselect(key="runs").value == labels[:1]


def test_runs_without_a_common_test_image_are_told_so(pair):
    first, second = pair
    scores = scoring.load(second.predictions)
    # As another split has it: what was tested there was learned from here.
    away = np.where(
        scores.split == "test", "train", np.where(scores.split == "train", "test", "val")
    )
    scoring.save(dataclasses.replace(scores, split=away.astype(object)), second.predictions)
    app = compared(first, second)
    for view in VIEWS:
        app.session_state["compare view"] = view
        app.run()
        assert not app.exception, (view, app.exception)
        if view in ("Differences", "Images"):
            assert "share no test image" in texts(app)


def test_a_run_without_test_images_is_told_and_leaves_the_others(pair, dataset):
    none = trained(dataset, "data.split=[0.7, 0.3, 0.0]")
    app = compared(*pair, none)
    assert any("has no test images" in one.value for one in app.warning)
    assert len(app.dataframe[0].value) == 2


def test_three_runs_are_compared_two_by_two(pair, dataset):
    app = compared(*pair, trained(dataset, "seed=5"))
    app.session_state["compare view"] = "Differences"
    app.run()
    app.selectbox(key="pair 3").set_value("B and C").run()
    assert not app.exception, app.exception
    assert "C is right" in texts(app) or "C on" in texts(app)


def test_runs_of_two_revisions_are_listed_apart_and_compared_on_what_they_share(pair, dataset):
    name = versus.shared_of(*pair).first.images[0]
    journal.record(dataset.id, {"action": "exclude", "names": [name]})
    later = trained(datasets.load(dataset.id))
    app = compared(pair[0], later)
    assert list(app.dataframe[0].value["run"]) == [later.id]
    app.selectbox(key="revision").set_value(1).run()
    assert set(app.dataframe[0].value["run"]) == {run.id for run in pair}
    app.session_state["compare view"] = "Differences"
    app.run()
    assert not app.exception, app.exception


def test_a_run_whose_weights_are_damaged_hides_no_other_run(pair):
    weights = pair[0].model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    table = opened("compare").dataframe[0].value.set_index("run")
    assert set(table.index) == {run.id for run in pair}
    assert table["parameters_m"].isna().to_dict() == {pair[0].id: True, pair[1].id: False}


def test_a_run_whose_predictions_are_damaged_is_told_and_leaves_the_others(pair, dataset):
    pair[0].predictions.write_bytes(b"no parquet")
    app = compared(*pair, trained(dataset, "seed=5"))
    assert not app.exception, app.exception
    assert any("are damaged" in one.value for one in app.warning)
    assert "**B**" in texts(app) and "**C**" not in texts(app)


def test_a_run_twice_in_the_address_is_one_run(pair):
    app = opened("compare", runs=[widgets.run_label(pair[0])] * 2)
    assert not app.exception, app.exception
    assert "Choose two or more runs to see" in texts(app)
