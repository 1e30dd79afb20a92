from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from core import recipe as recipes
from core.data import importing, loader
from core.data.dataset import Dataset
from core.models.advisor import Estimate
from core.schema import Recipe
from core.training import rehearsal
from core.training.estimate import PHASES, estimate, stirring
from core.training.events import Ended
from core.training.fit import fit
from core.training.techniques import TECHNIQUES


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", each=12)))


def small(*assignments: str, preset: str = "quick") -> Recipe:
    return recipes.with_settings(recipes.preset(preset), ["image.size=32", *assignments])


def tuned(*assignments: str) -> Recipe:
    # A number format that is given need not be measured first.
    given = ("compute.batch_size=8", "compute.precision=fp32", *assignments)
    return small(*given, preset="balanced")


def seconds_to_fit(dataset: Dataset, recipe: Recipe, folder: Path) -> float:
    started = time.perf_counter()
    *_, last = fit(dataset, recipe, folder)
    assert isinstance(last, Ended) and last.reason == "finished", last
    return time.perf_counter() - started


def test_every_technique_has_phases_to_count():
    assert set(PHASES) == set(TECHNIQUES)


def test_an_estimate_is_the_sum_of_its_phases():
    assert Estimate({"start": 2.0, "head": 3.5}, 100.0).seconds == 5.5


def test_features_that_are_kept_cost_nothing(insects, tmp_path):
    recipe = small("schedule.epochs=2")
    assert estimate(insects, recipe).phases["features"] > 0
    seconds_to_fit(insects, recipe, tmp_path)
    assert estimate(insects, recipe).phases["features"] == 0


def test_an_estimate_knows_whether_pictures_are_kept_and_keeps_none_itself(insects, tmp_path, home):
    recipe = tuned("schedule.epochs=1")
    tried = rehearsal.Rehearsal(rehearsal.work_of(insects, recipe, tmp_path))
    assert not tried.pictures_kept
    assert not [path for path in (home / "cache").rglob("*") if path.is_file()]
    *_, pictures = loader.decoded(insects, tried.work.preprocessing, 1)
    assert callable(pictures) and tried.pictures_kept


def test_more_epochs_and_more_steps_take_longer(insects):
    few = estimate(insects, tuned("schedule.epochs=2")).phases["tune"]
    # 16 training images are two steps an epoch.
    many = tuned("schedule.epochs=100", "schedule.min_steps=400")
    assert estimate(insects, many).phases["tune"] > 10 * few


@pytest.mark.parametrize("head", ["linear", "mlp", "logistic", "svm", "knn"])
def test_every_head_can_be_estimated_on_kept_and_on_made_up_features(head, insects, tmp_path):
    recipe = small(f"head.kind={head}", "schedule.epochs=2")
    assert estimate(insects, recipe).phases["head"] > 0
    seconds_to_fit(insects, recipe, tmp_path)
    assert estimate(insects, recipe).phases["head"] > 0


@pytest.mark.parametrize(
    "assignments",
    [
        ["technique.name=last_stages", "augmentation.policy=none"],
        ["technique.name=last_stages"],
        ["technique.name=gradual", "technique.epochs_per_stage=1"],
        ["technique.name=from_scratch"],
        ["compute.batch_size=auto", "optimizer.learning_rate=find", "finish.soup=true"],
        ["balance.method=oversample", "compute.accumulate=2", "regularization.ema=0.9"],
    ],
)
def test_every_way_of_tuning_can_be_estimated(assignments, insects):
    found = estimate(insects, tuned("schedule.epochs=3", *assignments))
    assert found.phases["tune"] > 0 and found.memory_mb > 700


def test_a_soup_and_averaged_weights_cost_memory_and_a_soup_time(insects):
    plain = estimate(insects, tuned("schedule.epochs=3"))
    averaged = estimate(insects, tuned("schedule.epochs=3", "regularization.ema=0.9"))
    soup = estimate(insects, tuned("schedule.epochs=3", "finish.soup=true"))
    assert plain.memory_mb < averaged.memory_mb < soup.memory_mb


def test_the_tries_of_a_soup_are_passes_of_the_validation_images(insects, tmp_path):
    for epochs, tries in ((2, 2), (30, 4)):
        recipe = tuned(f"schedule.epochs={epochs}", "finish.soup=true")
        tried = rehearsal.Rehearsal(rehearsal.work_of(insects, recipe, tmp_path))
        assert stirring(tried) == tries * len(tried.work.rows("val"))
    without = rehearsal.Rehearsal(rehearsal.work_of(insects, tuned(), tmp_path))
    assert stirring(without) == 0


def test_one_process_may_estimate_one_precision_after_another(insects):
    for precision in ("fp32", "bf16"):
        found = estimate(insects, tuned("schedule.epochs=1", f"compute.precision={precision}"))
        assert found.phases["tune"] > 0


def test_a_rehearsal_leaves_the_network_as_it_was(insects, tmp_path):
    tried = rehearsal.Rehearsal(rehearsal.work_of(insects, tuned(), tmp_path))
    before = {name: one.clone() for name, one in tried.work.network.state_dict().items()}
    try:
        tried.tuning()
    finally:
        rehearsal.forget_accelerator()
    after = tried.work.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_that_would_have_to_be_fetched_are_not_waited_for(insects):
    recipe = small("backbone.name=resnet18")
    assert estimate(insects, recipe).phases["features"] > 0


@pytest.mark.parametrize("recipe", [small(), tuned("schedule.epochs=6")], ids=["frozen", "tuned"])
def test_an_estimate_is_of_the_size_of_what_the_training_then_takes(recipe, insects, tmp_path):
    seconds_to_fit(insects, tuned("schedule.epochs=1", "seed=1"), tmp_path / "warm")
    found = estimate(insects, recipe)
    expected = found.seconds - found.phases["start"]
    # The factor is 1.5 on a quiet machine; tests run on busy ones.
    assert 1 / 4 < expected / seconds_to_fit(insects, recipe, tmp_path / "run") < 4


def test_spread_takes_evenly_and_never_more_than_there_are():
    assert rehearsal.spread(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert rehearsal.spread(np.arange(3), 9).tolist() == [0, 1, 2]
    assert rehearsal.first_of_each(np.asarray([0, 1, 1, 1, 0, 0])).tolist() == [0, 4, 1, 2]
