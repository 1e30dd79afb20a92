"""How far a training is: one share and one time left for all of it; true axes from its start."""

from __future__ import annotations

import pytest

from core.evaluation import charts
from core.training.events import EpochEnded, Event, Progress, Started, Step
from core.training.progress import progress_of, steps_of
from tests.core.small import recipe_of

IMAGES = {"train": 300, "val": 60, "test": 60}


def started(epochs: int = 3, *, resumed: bool = False) -> Started:
    return Started("x", IMAGES, 2, "CPU", "fp32", "m", {}, epochs, resumed)


def at(phase: str, done: int, total: int, rate: float = 30.0, epoch: int = 0) -> Progress:
    return Progress(phase, done, total, rate, 500.0, epoch)


def ended(phase: str, epoch: int, epochs: int) -> EpochEnded:
    figures = {"loss": 0.5, "accuracy": 0.8, "macro_f1": 0.8}
    return EpochEnded(phase, epoch, epochs, epoch * 10, figures, {}, 1e-3, 10.0, best=True)


# A fine-tuning of three epochs, as its worker tells it.
COURSE: list[Event] = [
    started(),
    at("features", 100, 420, 100.0), at("features", 420, 420, 100.0),
    at("head", 0, 300, 0.0), ended("head", 0, 40), ended("head", 40, 40),
    at("decode", 100, 360, 500.0), at("find", 10, 20), ended("tune", 0, 3),
    at("tune", 29, 90, epoch=1), ended("tune", 1, 3), at("tune", 60, 90, epoch=2),
    ended("tune", 2, 3), at("tune", 90, 90, epoch=3), ended("tune", 3, 3),
    at("finish", 0, 3), at("finish", 2, 3),
]  # fmt: skip


def test_the_bar_counts_the_whole_training_and_never_goes_back():
    recipe = recipe_of("technique.name=finetune")
    found = [progress_of(recipe, COURSE[:k]) for k in range(len(COURSE) + 1)]
    shares = [one.share for one in found]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] < 1.0
    order = [one.steps.index(one.step) for one in found]
    assert order == sorted(order) and found[-1].step == "test"
    # Near the end of the first of three epochs no more than half of all is done.
    first = progress_of(recipe, COURSE[:10])
    assert first.step == "tune" and first.share < 0.5
    # 2,700 of 3 per step and 240 for validation are left at 10 steps' images a second, and scoring.
    assert first.seconds_left == pytest.approx(300 * 3 * (1 - 29 / 90) / 30, rel=0.3)


def test_a_recipe_has_its_own_steps():
    assert steps_of(recipe_of("technique.name=feature_extraction")) == (
        "read", "features", "head", "test",
    )  # fmt: skip
    assert steps_of(recipe_of("technique.name=from_scratch")) == ("read", "tune", "test")
    assert "tune" in steps_of(recipe_of("technique.name=last_stages"))


def test_nothing_is_promised_before_anything_was_told():
    for events in ([], [started()], [started(), at("features", 0, 420, 0.0)]):
        found = progress_of(recipe_of("technique.name=finetune"), events)
        assert (found.share, found.seconds_left) == (0.0, None)


def test_features_from_the_cache_promise_nothing_of_fine_tuning():
    found = progress_of(recipe_of("technique.name=finetune"), COURSE[:3])
    assert found.seconds_left is None and 0 < found.share < 0.3
    # What is decoded after the head is for the next step.
    assert progress_of(recipe_of("technique.name=finetune"), COURSE[:7]).step == "tune"


def test_a_resumed_run_goes_on_from_its_share():
    recipe = recipe_of("technique.name=finetune")
    before = progress_of(recipe, COURSE[:12]).share
    again = progress_of(recipe, [*COURSE[:12], started(resumed=True), at("features", 1, 420)])
    assert again.share == before
    # One that begins anew does not.
    assert progress_of(recipe, [*COURSE[:12], started()]).share == 0.0


@pytest.mark.parametrize("epochs", [[0], [0, 1], [0, 1, 2, 3]])
def test_axes_are_whole_epochs_and_shares_of_a_hundred(epochs):
    found = [ended("tune", k, 40) for k in epochs]
    chart = charts.by_epoch(found, "accuracy")
    assert tuple(chart.layout.yaxis.range) == (0, 1)
    assert tuple(chart.layout.xaxis.range) == (0, 40)
    assert chart.layout.xaxis.dtick == int(chart.layout.xaxis.dtick) >= 1
    for chart in (charts.by_epoch(found, "loss"), charts.rate_by_epoch(found)):
        low, high = chart.layout.yaxis.range
        assert low == 0 and high > max(y for line in chart.data for y in line.y)
        # A lone point at the start is drawn, not cut off by the axis it lies on.
        assert all("markers" in line.mode and line.cliponaxis is False for line in chart.data)


def test_axes_by_step_begin_at_nothing():
    steps = [Step("tune", k, 2.0 / k, 0.4, 1e-4 * k) for k in (1, 2, 3)]
    for what in ("loss", "rate"):
        chart = charts.by_step(steps, what)
        assert chart.layout.yaxis.range[0] == 0 and chart.layout.xaxis.range == (0, 3)
    assert tuple(charts.by_step(steps, "accuracy").layout.yaxis.range) == (0, 1)
    assert charts.by_step(steps[:1], "loss").data[0].mode == "lines+markers"
    assert charts.by_step([], "loss").data == ()
