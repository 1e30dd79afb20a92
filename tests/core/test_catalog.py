from __future__ import annotations

import importlib.util

import pytest

from core.models import catalog
from core.models.catalog import Backbone
from core.schema import Recipe

ALL = catalog.backbones()
TIERS = ("small", "medium", "large")


def by_name(backbone: Backbone) -> str:
    return backbone.name


def test_no_two_backbones_share_a_name_or_a_title():
    assert len({b.name for b in ALL}) == len({b.title for b in ALL}) == len(ALL) > 20


def test_the_default_of_the_recipe_is_in_the_catalogue():
    found = catalog.backbone(Recipe().backbone.name)
    assert found is not None and found.package


def test_the_cheapest_come_first():
    order = [(TIERS.index(b.tier), b.gmacs) for b in ALL]
    assert order == sorted(order)


@pytest.mark.parametrize("backbone", ALL, ids=by_name)
def test_the_tier_of_a_backbone_follows_from_its_cost(backbone: Backbone):
    expected = "small" if backbone.gmacs < 1.5 else "medium" if backbone.gmacs < 10 else "large"
    assert backbone.tier == expected


@pytest.mark.parametrize("backbone", ALL, ids=by_name)
def test_what_is_said_of_a_backbone_is_possible(backbone: Backbone):
    assert 0 < backbone.parameters_m < 1000 and backbone.gmacs > 0
    assert 96 <= backbone.input_size <= 518
    assert backbone.imagenet_top1 is None or 50 < backbone.imagenet_top1 < 91
    assert backbone.license and backbone.commercial in ("yes", "no", "unknown")
    assert backbone.good_for.endswith(".") and backbone.title and backbone.family


@pytest.mark.parametrize("backbone", ALL, ids=by_name)
def test_a_license_that_forbids_commerce_is_not_called_commercial(backbone: Backbone):
    assert backbone.commercial != "yes" or "nc" not in backbone.license.split("-")


@pytest.mark.parametrize("backbone", ALL, ids=by_name)
def test_timm_knows_the_backbone_and_says_the_same_of_it(backbone: Backbone):
    import timm

    assert backbone.name in timm.list_pretrained(backbone.architecture + "*")
    known = timm.get_pretrained_cfg(backbone.name)
    assert known is not None
    assert backbone.input_size == known.input_size[-1]
    assert backbone.license == (known.license or "unknown")


def test_a_package_that_carries_weights_is_one_that_requirements_can_name():
    packages = {b.package for b in ALL if b.package}
    assert packages and all(package == package.strip() for package in packages)
    bundled = catalog.backbone("tf_efficientnet_lite0")
    assert bundled is not None
    assert importlib.util.find_spec(bundled.package.replace("-", "_")) is not None


@pytest.mark.parametrize("backbone", ALL, ids=by_name)
def test_a_backbone_is_found_by_its_name_and_its_architecture(backbone: Backbone):
    assert catalog.backbone(backbone.name) is backbone
    found = catalog.backbone(backbone.architecture)
    assert found is not None and found.architecture == backbone.architecture


@pytest.mark.parametrize("name", ["", "resnet", "resnet50.", "RESNET50", "../x"])
def test_a_name_that_is_not_in_the_catalogue_is_not_found(name: str):
    assert catalog.backbone(name) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("resnt50", "resnet50"),
        ("ResNet50", "resnet50"),
        ("efficientnet_lite0", "tf_efficientnet_lite0"),
        ("mobilenet_v2", "mobilenetv2_100"),
    ],
)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(typed: str, meant: str):
    found = [name.partition(".")[0] for name in catalog.similar(typed)]
    assert meant in found


@pytest.mark.parametrize("n", [1, 2, 5])
def test_similar_names_are_few_different_and_of_the_catalogue(n: int):
    found = catalog.similar("resnet", n)
    assert 1 <= len(found) <= n and len(set(found)) == len(found)
    assert set(found) <= {b.name for b in ALL}


def test_nothing_is_similar_to_nonsense():
    assert catalog.similar("zzzzqqqq") == []
