"""What a search may change: read, refused, laid over a recipe."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.errors import RecipeRefused
from core.studies import plan as plans
from core.studies import space as spaces
from core.studies.plan import Plan

BASE = recipes.preset("quick")


def test_every_range_that_is_offered_can_be_used():
    for technique in ("feature_extraction", "finetune"):
        base = recipes.changed(BASE, {"technique": {"name": technique}})
        for name, values in spaces.RANGES.items():
            (one,) = spaces.read({name: values}, base)
            assert one.name == name
        assert spaces.read(spaces.starter(base), base)


def test_a_space_is_the_same_after_it_was_written_and_read():
    found = spaces.read(spaces.RANGES, recipes.preset("balanced"))
    assert spaces.read(spaces.to_json(found), recipes.preset("balanced")) == found
    assert {one.name: one.low for one in found}["regularization.dropout"] == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "0 fields"),
        ({"head.size": [1]}, "no recipe field head.size"),
        ({"head.kind": []}, "1 to 50"),
        ({"head.kind": ["linear", {"a": 1}]}, "plain values"),
        ({"head.kind": ["linear", "forest"]}, "head.kind"),
        ({"regularization.dropout": {"low": 0.5, "high": 0.1}}, "low is less"),
        ({"regularization.dropout": {"low": 0, "high": 2}}, "dropout"),
        ({"regularization.dropout": {"low": 0, "high": float("nan")}}, "numbers"),
        ({"regularization.dropout": {"low": 0, "high": 0.5, "log": True}}, "more than 0"),
        ({"regularization.dropout": {"low": 0, "high": 0.5, "logs": True}}, "a range has"),
        ({"regularization.dropout": 0.5}, "a range has"),
        ({"schedule.epochs": {"low": 1.5, "high": 3}}, "epochs"),
        ({f"field.{k}": [1] for k in range(31)}, "31 fields"),
    ],
)
def test_what_is_no_space_is_refused_with_its_field(values, words):
    with pytest.raises(RecipeRefused, match=words):
        spaces.read(values, BASE)


def test_yaml_that_is_no_space_is_refused():
    for text in ("[1, 2", "just words", "a: &x [1]\nb: *x"):
        with pytest.raises(RecipeRefused):
            spaces.from_yaml(text, BASE)


def test_whole_numbers_stay_whole_and_shares_do_not():
    epochs, warmup = spaces.read(
        {"schedule.epochs": {"low": 1, "high": 9}, "schedule.warmup": {"low": 0, "high": 1}}, BASE
    )
    assert epochs.whole
    assert not warmup.whole


def test_a_grid_has_every_step_and_a_few_points_of_what_has_none():
    found = spaces.read(
        {
            "head.kind": ["linear", "mlp"],
            "schedule.epochs": {"low": 2, "high": 8, "step": 3},
            "optimizer.learning_rate": {"low": 0.001, "high": 1.0, "log": True},
        },
        BASE,
    )
    assert spaces.grid(found) == {
        "head.kind": ["linear", "mlp"],
        "schedule.epochs": [2, 5, 8],
        "optimizer.learning_rate": [0.001, 0.01, 0.1, 1.0],
    }
    assert len(spaces.points(found)) == 2 * 3 * 4


def test_fields_that_say_nothing_beside_the_others_make_no_other_recipe():
    one = spaces.applied(BASE, {"head.kind": "linear", "head.hidden": 64})
    other = spaces.applied(BASE, {"head.kind": "linear", "head.hidden": 512})
    assert one == other == BASE
    assert spaces.applied(BASE, {"head.kind": "mlp", "head.hidden": 64}).head.hidden == 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "magic"}, "no method 'magic'"),
        ({"metric": "beauty"}, "no metric"),
        ({"pruning": "all"}, "no pruning"),
        ({"trials": 0}, "trials is 0"),
        ({"folds": 1}, "1 folds"),
        ({"budget": -1.0}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"method": "cmaes", "space": spaces.read({"head.kind": ["mlp"]}, BASE)}, "lists alone"),
    ],
)
def test_what_cannot_be_searched_is_refused(change, words):
    values = {"space": spaces.read(spaces.starter(BASE), BASE), **change}
    with pytest.raises(RecipeRefused, match=words):
        plans.check(Plan(**values))


def test_times_are_read_as_people_write_them():
    assert [plans.seconds_of(t) for t in ("", "90", "90s", "20m", "1.5h", "1d")] == [
        0, 90, 90, 1200, 5400, 86400,
    ]  # fmt: skip
    with pytest.raises(RecipeRefused, match="soon"):
        plans.seconds_of("soon")
