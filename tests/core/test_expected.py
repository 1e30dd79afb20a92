"""How many trainings a study has, and which of their phases are counted once."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.data import importing
from core.errors import DatasetRefused, RecipeRefused
from core.models.advisor import Estimate
from core.studies import expected, space
from core.studies.crossval import Plan as Folds
from core.studies.plan import Plan

ONE = Estimate({"start": 5.0, "features": 20.0, "head": 2.0, "finish": 1.0}, 100.0)
RECIPE = recipes.with_settings(recipes.preset("quick"), ["image.size=32"])
HEADS = {"head.kind": ["linear", "mlp"], "head.hidden": [8, 16]}


@pytest.fixture
def insects(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", each=10)))


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(expected, "estimate", lambda dataset, recipe: ONE)


def plan(values=HEADS, **options) -> Plan:
    return Plan(space.read(values, RECIPE), **options)


@pytest.mark.parametrize(
    ("asked", "trainings", "seconds"),
    [
        (plan(trials=20), 22, 28 + 20 * 3 + 3),
        (plan(trials=20, folds=3), 64, 28 + 62 * 3 + 3),
        (plan(method="grid", trials=30), 6, 28 + 4 * 3 + 3),
        (plan(trials=500, budget=600.0), 193, 28 + 191 * 3 + 3),
        (plan(trials=500, budget=10.0), 2, 28 + 3),
        (plan({"image.size": [160, 224]}, trials=4), 6, 28 + 4 * 3 + 2 * 20 + 3),
        (plan({"backbone.name": ["resnet18"]}, trials=1), 3, 28 + 3 + 20 + 3),
    ],
)
def test_a_search_is_its_trials_the_recipe_as_it_was_and_the_winner(
    insects, measured, asked, trainings, seconds
):
    assert expected.of_search(insects, RECIPE, asked) == (trainings, pytest.approx(seconds))


def test_a_cross_validation_is_its_folds(insects, measured):
    assert expected.of_crossval(insects, RECIPE, Folds(5)) == (5, 28 + 4 * 3)
    assert expected.of_crossval(insects, RECIPE, Folds(3, repeats=2)) == (6, 28 + 5 * 3)


def test_what_cannot_be_begun_is_refused_and_not_measured(insects, monkeypatch):
    monkeypatch.setattr(expected, "estimate", lambda dataset, recipe: pytest.fail("measured"))
    with pytest.raises(RecipeRefused):
        expected.of_search(insects, RECIPE, plan(trials=0))
    with pytest.raises(DatasetRefused):
        expected.of_crossval(insects, RECIPE, Folds(0))


def test_trials_that_take_longer_than_the_recipe_as_it_was_are_counted_so(insects, monkeypatch):
    heads = {"linear": 2.0, "mlp": 6.0}
    phases = {"start": 5.0, "features": 20.0}
    monkeypatch.setattr(
        expected,
        "estimate",
        lambda dataset, recipe: Estimate({**phases, "head": heads[recipe.head.kind]}, 100.0),
    )
    _, seconds = expected.of_search(insects, RECIPE, plan({"head.kind": ["mlp"]}, trials=10))
    assert seconds == 27 + 10 * 6 + 6
    _, seconds = expected.of_search(insects, RECIPE, plan(trials=10))
    assert 27 + 11 * 2 < seconds < 27 + 11 * 6


def test_trials_that_would_be_refused_take_no_time(insects, monkeypatch):
    asked = plan({"head.kind": ["svm"], "balance.method": ["none", "focal"]}, trials=10)
    seen = []
    monkeypatch.setattr(
        expected, "estimate", lambda dataset, recipe: seen.append(recipe.balance.method) or ONE
    )
    expected.of_search(insects, RECIPE, asked)
    assert 1 < len(seen) < 1 + expected.DRAWN and set(seen) == {"none"}


def test_what_is_measured_is_the_recipe_as_it_is(insects):
    n, seconds = expected.of_search(insects, RECIPE, plan(trials=3))
    more = expected.of_search(insects, RECIPE, plan(trials=300))
    assert n == 5 and 0 < seconds < more[1]
