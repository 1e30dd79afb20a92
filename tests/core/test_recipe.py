from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core import recipe as recipes
from core.errors import RecipeRefused
from core.recipe import PRESET_HELP, PRESETS
from core.schema import Recipe

FIELDS = dict(recipes.fields())


def after(*assignments: str) -> Recipe:
    return recipes.with_settings(Recipe(), assignments)


def test_a_recipe_is_called_by_its_preset_or_by_its_technique():
    assert [recipes.short_name(recipes.preset(name)) for name in PRESETS] == list(PRESETS)
    changed = recipes.with_settings(recipes.preset("quick"), ["head.kind=mlp"])
    assert recipes.short_name(changed) == "feature_extraction"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_yaml_as_it_was(name: str):
    preset = recipes.preset(name)
    assert recipes.from_yaml(recipes.to_yaml(preset)) == preset


@given(
    learning_rate=st.one_of(st.just("auto"), st.floats(1e-8, 10)),
    weight_decay=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
)
def test_any_recipe_comes_back_from_yaml_as_it_was(
    learning_rate: Any, weight_decay: float, seed: int, name: str
):
    optimizer = {"learning_rate": learning_rate, "weight_decay": weight_decay}
    one = recipes.make({"optimizer": optimizer, "seed": seed, "backbone": {"name": name}})
    assert recipes.from_yaml(recipes.to_yaml(one)) == one


def test_yaml_shows_every_field():
    values = yaml.safe_load(recipes.to_yaml(Recipe()))
    shown = {
        f"{name}.{below}" if isinstance(value, dict) else name
        for name, value in values.items()
        for below in (value if isinstance(value, dict) else [""])
    }
    assert shown == set(FIELDS)


def test_what_yaml_leaves_out_has_its_default():
    assert recipes.from_yaml("") == Recipe()
    assert recipes.from_yaml("schedule: {epochs: 3}") == after("schedule.epochs=3")


def test_every_preset_has_its_help():
    assert set(PRESET_HELP) == set(PRESETS)


def test_presets_differ_from_each_other():
    assert len({recipes.to_yaml(recipes.preset(name)) for name in PRESETS}) == len(PRESETS)


def test_an_unknown_preset_is_refused_naming_those_there_are():
    with pytest.raises(RecipeRefused, match="quick, balanced, best"):
        recipes.preset("fast")


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_a_description_for_people(name: str):
    description = FIELDS[name].description or ""
    assert description[:1].isalnum() and description.endswith("."), name


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("schedule.epochs=5", 5),
        ("schedule.epochs = 5", 5),
        ("optimizer.learning_rate=1e-3", 0.001),
        ("optimizer.learning_rate=1E-3", 0.001),
        ("optimizer.learning_rate=1.5e-3", 0.0015),
        ("optimizer.learning_rate=1.5e3", 1500.0),
        ("optimizer.learning_rate=0.01", 0.01),
        ("optimizer.learning_rate=auto", "auto"),
        ("optimizer.weight_decay=1e-2", 0.01),
        ("data.split=[0.8, 0.1, 0.1]", (0.8, 0.1, 0.1)),
        ("data.split=[0.8,0.2,0]", (0.8, 0.2, 0.0)),
        ("backbone.name=resnet50", "resnet50"),
        ("backbone.name=resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("backbone.weights=/a b/c=d.safetensors", "/a b/c=d.safetensors"),
        ("technique.freeze_batch_norm=false", False),
        ("technique.freeze_batch_norm=auto", "auto"),
        ("finish.calibrate=False", False),
        ("image.size=96", 96),
        ("compute.device=cuda:1", "cuda:1"),
        ("seed=7", 7),
    ],
)
def test_an_assignment_sets_the_field_it_names_and_no_other(assignment: str, value: Any):
    name = assignment.partition("=")[0].strip()
    recipe = after(assignment)
    assert recipes.value_of(recipe, name) == value
    assert type(recipes.value_of(recipe, name)) is type(value)
    assert set(recipes.differences(recipe, Recipe())) <= {name}


def test_a_later_assignment_wins_and_leaves_its_neighbors():
    recipe = after("schedule.epochs=5", "schedule.warmup=0.2", "schedule.epochs=6")
    assert (recipe.schedule.epochs, recipe.schedule.warmup) == (6, 0.2)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_can_be_set_by_its_dotted_name(name: str):
    value = recipes.value_of(recipes.preset("best"), name)
    text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value).removesuffix("...\n")
    assert recipes.value_of(after(f"{name}={text.strip()}"), name) == value


@pytest.mark.parametrize("name", ["schedule.epoch", "epochs", "backbone.Name", "optimiser.name"])
def test_an_unknown_field_is_refused_naming_it_and_the_fields_there_are(name: str):
    with pytest.raises(RecipeRefused) as refusal:
        after(f"{name}=5")
    assert name.partition(".")[0] in refusal.value.what
    assert all(field in refusal.value.remedy for field in FIELDS)


@pytest.mark.parametrize("values", [{"schedule": {"epoch": 5}}, {"lr": 0.1}])
def test_an_unknown_field_in_yaml_is_refused(values: dict):
    with pytest.raises(RecipeRefused, match="There is no recipe field"):
        recipes.from_yaml(yaml.safe_dump(values))


@pytest.mark.parametrize(
    "assignment",
    [
        "schedule.epochs=0",
        "schedule.epochs=many",
        "schedule.epochs=1.5",
        "schedule.warmup=1.1",
        "image.size=31",
        "image.size=1025",
        "image.fit=stretch",
        "data.split=[0.8, 0.1, 0.2]",
        "data.split=[1, 0, 0]",
        "data.split=[0.5, 0.5]",
        "data.split=[1.2, -0.1, -0.1]",
        "compute.device=gpu",
        "compute.batch_size=0",
        "regularization.dropout=1",
        "augmentation.rotation=.nan",
        "optimizer.clip=-1",
        "seed=-1",
        "seed=2147483648",
        "technique.name=magic",
        "schedule=5",
        "schedule=",
    ],
)
def test_a_value_that_makes_no_sense_is_refused_naming_its_field(assignment: str):
    with pytest.raises(RecipeRefused) as refusal:
        after(assignment)
    assert assignment.partition("=")[0].partition(".")[0] in str(refusal.value)


@pytest.mark.parametrize("rate", ["-1", ".nan", ".inf"])
def test_a_learning_rate_that_is_no_step_downhill_is_refused(rate: str):
    with pytest.raises(RecipeRefused, match="learning_rate"):
        after(f"optimizer.learning_rate={rate}")


@pytest.mark.parametrize("workers", ["-2", "0"])
def test_fewer_than_one_thread_is_refused(workers: str):
    with pytest.raises(RecipeRefused, match="workers"):
        after(f"compute.workers={workers}")


def test_from_scratch_with_a_weights_file_is_refused_naming_both():
    with pytest.raises(RecipeRefused, match=r"technique\.name.*backbone\.weights"):
        after("technique.name=from_scratch", "backbone.weights=/w.safetensors")


@pytest.mark.parametrize("assignment", ["schedule.epochs", "", "epochs 5"])
def test_an_assignment_without_a_value_is_refused_with_an_example(assignment: str):
    with pytest.raises(RecipeRefused, match=r"schedule\.epochs=5"):
        after(assignment)


@pytest.mark.parametrize("text", ["[x", "[e", "{e", "'e", "2021-13-45", "2021-13-45e", "e: ["])
def test_a_value_that_cannot_be_read_is_refused(text: str):
    with pytest.raises(RecipeRefused):
        after(f"schedule.name={text}")


@pytest.mark.parametrize(
    "assignments",
    [
        ["schedule.epochs.x=1"],
        ["backbone.name.x=1"],
        ["data.split.x=1"],
        ["seed.x=1"],
        ["schedule=5", "schedule.epochs=3"],
    ],
)
def test_a_name_that_goes_deeper_than_its_field_is_refused(assignments: list[str]):
    with pytest.raises(RecipeRefused):
        recipes.with_settings(after("seed=5"), assignments)


@pytest.mark.parametrize("text", ["a: [", "- 1", "word", "5", "schedule: 5", "1: 2", "\0", "a: \t"])
def test_yaml_that_is_no_recipe_is_refused(text: str):
    with pytest.raises(RecipeRefused):
        recipes.from_yaml(text)


def test_yaml_with_a_date_that_does_not_exist_is_refused():
    with pytest.raises(RecipeRefused):
        recipes.from_yaml("seed: 2021-13-45")


def test_a_recipe_cannot_be_changed():
    recipe = Recipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.schedule.epochs = 1  # type: ignore[misc]
    assert hash(recipe) == hash(Recipe())


def test_a_recipe_does_not_differ_from_itself():
    assert recipes.differences(recipes.preset("best"), recipes.preset("best")) == {}


def test_differences_are_the_fields_that_differ_with_both_values():
    other = after("schedule.epochs=3", "seed=1", "data.split=[0.8, 0.1, 0.1]")
    assert recipes.differences(Recipe(), other) == {
        "data.split": ((0.70, 0.15, 0.15), (0.8, 0.1, 0.1)),
        "schedule.epochs": (10, 3),
        "seed": (0, 1),
    }


def test_changes_are_laid_over_a_recipe_and_leave_the_rest():
    best = recipes.preset("best")
    changed = recipes.changed(best, {"schedule": {"epochs": 1}})
    assert set(recipes.differences(best, changed)) == {"schedule.epochs"}
    assert best.schedule.epochs == 20


def test_merging_changes_neither_of_its_parts():
    base, change = {"a": {"x": 1}}, {"a": {"y": 2}}
    assert recipes.merged(base, change) == {"a": {"x": 1, "y": 2}}
    assert (base, change) == ({"a": {"x": 1}}, {"a": {"y": 2}})


def test_choices_are_those_of_a_fixed_list():
    assert recipes.choices(FIELDS["image.fit"]) == ("crop", "squash", "letterbox")
    for name in ("image.size", "optimizer.learning_rate", "seed", "finish.calibrate"):
        assert recipes.choices(FIELDS[name]) == ()


@pytest.mark.parametrize("name", FIELDS)
def test_every_choice_of_a_field_is_accepted(name: str):
    for choice in recipes.choices(FIELDS[name]):
        # Nothing is augmented where nothing but a head is trained.
        beside = ["technique.name=finetune"] if choice == "augment_minority" else []
        assert recipes.value_of(after(f"{name}={choice}", *beside), name) == choice


def test_shares_may_miss_one_by_a_rounding():
    assert math.isclose(sum(after("data.split=[0.1, 0.7, 0.2]").data.split), 1)
