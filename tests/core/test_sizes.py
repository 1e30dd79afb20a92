from __future__ import annotations

import pytest
import timm
import torch

from core import recipe as recipes
from core.errors import RecipeRefused
from core.models import network as networks
from core.models import sizes


@pytest.mark.parametrize(
    ("name", "size", "near"),
    [
        ("vit_small_patch14_dinov2", 225, "224 or 238"),
        ("vit_tiny_patch16_224", 100, "96 or 112"),
        ("maxvit_tiny_tf_224", 225, "224 or 256"),
        ("inception_v3", 64, "80"),
        ("swin_tiny_patch4_window7_224", 225, "224 or 228"),
    ],
)
def test_a_size_that_a_backbone_cannot_take_is_refused_with_the_nearest(
    name: str, size: int, near: str
):
    recipe = recipes.made({"backbone.name": name, "image.size": size})
    with pytest.raises(RecipeRefused, match=f"{size} × {size}") as refusal:
        networks.create(recipe, 3, pretrained=False)
    assert f"image.size to {near}, or" in refusal.value.remedy


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "densenet121"])
def test_convolutions_take_any_size(name: str):
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0)
    assert all(sizes.takes(network, size) for size in (32, 33, 101, 225))


def test_looking_changes_neither_the_mode_nor_the_weights():
    network = timm.create_model("resnet18", num_classes=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert sizes.takes(network, 64)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_weights_of_a_seed_do_not_depend_on_looking():
    def drawn(size: int | str) -> torch.Tensor:
        recipe = recipes.made({"image.size": size})
        return networks.create(recipe, 3, pretrained=False).get_classifier().weight

    assert torch.equal(drawn("auto"), drawn(64))
