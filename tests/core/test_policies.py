"""Named sets of changes, and those that draw changes by themselves."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from core import recipe as recipes
from core.data import policies_drawn
from core.data.images import decode
from core.data.policies_drawn import OPERATIONS, drawn
from core.schema import POLICIES, Augmentation
from tests.conftest import make_photo

SIDE = 48
DRAWING = tuple(policies_drawn.DRAWS)


@cache
def scene() -> Tensor:
    """A photo that uses only part of the brightness range, so that every operation shows."""
    square = torch.from_numpy(np.array(decode(make_photo(0, (SIDE, SIDE), "PNG"), SIDE)))
    return (square.permute(2, 0, 1).float() * 0.8 + 20).to(torch.uint8)


def distance(one: Tensor, other: Tensor) -> float:
    """The mean difference of two pictures, 0–255."""
    return float((one.float() - other.float()).abs().mean())


def mean_distance(policy: str, magnitude: float, n: int = 60) -> float:
    settings = Augmentation(policy=policy, magnitude=magnitude)
    found = [drawn(scene(), settings, np.random.default_rng(seed)) for seed in range(n)]
    return sum(distance(one, scene()) for one in found) / n


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_brings_its_strengths_and_leaves_the_rest_off(policy: str):
    off = Augmentation(policy="none").model_dump()
    assert Augmentation(policy=policy).model_dump() == {**off, **POLICIES[policy], "policy": policy}


def test_a_recipe_that_says_nothing_augments_lightly():
    assert Augmentation() == Augmentation(policy="light")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_field_beside_a_policy_has_its_own_say(policy: str):
    found = Augmentation(policy=policy, rotation=77, brightness=0.0)
    assert (found.rotation, found.brightness) == (77, 0)
    assert found.horizontal_flip == Augmentation(policy=policy).horizontal_flip


def test_stronger_policies_leave_nothing_weaker():
    light, medium, strong = (Augmentation(policy=name) for name in ("light", "medium", "strong"))
    for name in set(Augmentation.model_fields) - {"policy", "magnitude"}:
        values = [getattr(one, name) for one in (light, medium, strong)]
        assert values == sorted(values, reverse=name == "random_crop")


def test_only_what_changes_nothing_does_nothing():
    assert Augmentation(policy="none").does_nothing
    assert Augmentation(policy="none", magnitude=0.9).does_nothing
    assert not any(Augmentation(policy=policy).does_nothing for policy in set(POLICIES) - {"none"})
    still = {"horizontal_flip": 0, "random_crop": 1}
    assert not Augmentation(policy="RandAugment", **still).does_nothing
    assert Augmentation(policy="RandAugment", magnitude=0, **still).does_nothing
    assert not Augmentation(policy="none", mixup=0.2).does_nothing


@pytest.mark.parametrize("preset", recipes.PRESETS)
def test_a_new_policy_replaces_the_strengths_of_the_former_one(preset: str):
    before = recipes.with_settings(recipes.preset(preset), ["augmentation.vertical_flip=0.3"])
    found = recipes.with_settings(before, ["augmentation.policy=strong"])
    assert found.augmentation == Augmentation(policy="strong")


def test_strengths_beside_a_new_policy_win_in_any_order():
    for settings in (
        ["augmentation.policy=strong", "augmentation.hue=0"],
        ["augmentation.hue=0", "augmentation.policy=strong"],
    ):
        found = recipes.with_settings(recipes.preset("balanced"), settings).augmentation
        assert found == Augmentation(policy="strong", hue=0)
        assert found.hue == 0 and found.rotation == POLICIES["strong"]["rotation"]


def test_a_strength_alone_leaves_the_others_as_they_are():
    before = recipes.made({"augmentation.policy": "medium", "augmentation.blur": 3})
    found = recipes.with_settings(before, ["augmentation.rotation=5"]).augmentation
    assert found == Augmentation(policy="medium", blur=3, rotation=5)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_comes_back_from_yaml_with_what_was_set_beside_it(policy: str):
    recipe = recipes.made({"augmentation.policy": policy, "augmentation.contrast": 0.0})
    assert recipes.from_yaml(recipes.to_yaml(recipe)) == recipe


def test_a_short_yaml_is_filled_in_by_its_policy():
    found = recipes.from_yaml("augmentation: {policy: medium, erasing: 0}").augmentation
    assert found == Augmentation(policy="medium", erasing=0)


def test_the_table_holds_the_fourteen_operations_of_randaugment():
    assert len(OPERATIONS) == 14


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.5, 1.0])
def test_every_operation_but_identity_changes_a_picture(name: str, strength: float):
    found = OPERATIONS[name](scene(), strength)
    assert found.shape == (3, SIDE, SIDE) and found.dtype == torch.uint8
    assert torch.equal(found, scene()) == (name == "Identity")


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"AutoContrast", "Equalize"}))
def test_an_operation_without_strength_changes_nothing(name: str):
    assert distance(OPERATIONS[name](scene(), 0.0), scene()) < 0.01


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"AutoContrast", "Equalize", "Identity"}))
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_operation_goes_further_the_stronger_it_is(name: str, sign: int):
    # Brightness rather than pixels, since a shift by a whole stripe looks like none at all.
    slope = torch.linspace(20, 200, SIDE).round().to(torch.uint8)
    ramp = torch.stack(
        [
            slope.expand(SIDE, SIDE),
            slope[:, None].expand(SIDE, SIDE),
            slope.flip(0).expand(SIDE, SIDE),
        ]
    )
    ramp = (ramp.float() + (torch.arange(SIDE) % 2) * 8).to(torch.uint8)
    ways = [distance(OPERATIONS[name](ramp, sign * one), ramp) for one in (0.25, 0.5, 1.0)]
    assert 0 < ways[0] < ways[1] < ways[2]


@pytest.mark.parametrize("policy", DRAWING)
def test_what_is_drawn_goes_further_with_the_magnitude(policy: str):
    ways = [mean_distance(policy, magnitude) for magnitude in (0.1, 0.4, 1.0)]
    assert 0 < ways[0] < ways[1] < ways[2]


def test_two_operations_at_full_strength_go_further_than_one_at_any():
    assert mean_distance("RandAugment", 0.5) > 1.5 * mean_distance("TrivialAugment", 0.5)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_that_draws_nothing_hands_the_picture_on(policy: str):
    settings = Augmentation(policy=policy, magnitude=0)
    pixels = scene()
    assert drawn(pixels, settings, np.random.default_rng(0)) is pixels


def test_a_magnitude_says_nothing_to_policies_that_draw_nothing():
    pixels = scene()
    settings = Augmentation(policy="strong", magnitude=1)
    assert drawn(pixels, settings, np.random.default_rng(0)) is pixels


def test_operations_are_drawn_equally_often():
    settings = Augmentation(policy="TrivialAugment")
    found = [drawn(scene(), settings, np.random.default_rng(seed)) for seed in range(420)]
    # These three know no strength, so that their pictures can be told exactly: 30 each, and some
    # more where the strength that was drawn for another is next to nothing.
    for name in ("Identity", "AutoContrast", "Equalize"):
        expected = OPERATIONS[name](scene(), 1.0)
        assert 15 < sum(torch.equal(one, expected) for one in found) < 70


@pytest.mark.parametrize("policy", DRAWING)
def test_the_same_randomness_draws_the_same(policy: str):
    settings = Augmentation(policy=policy)
    for seed in range(20):
        torch.manual_seed(seed)
        one = drawn(scene(), settings, np.random.default_rng(seed))
        assert torch.equal(one, drawn(scene(), settings, np.random.default_rng(seed)))
