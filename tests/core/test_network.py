from __future__ import annotations

import pytest
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from core import recipe as recipes
from core.errors import RecipeRefused
from core.models import network as networks
from core.schema import Recipe

CPU = torch.device("cpu")
SMALL = "test_resnet.r160_in1k"  # timm's own, for tests: half a million numbers


def random_recipe(name: str, **sections: dict) -> Recipe:
    return recipes.make(
        {"backbone": {"name": name}, "technique": {"name": "from_scratch"}, **sections}
    )


def made(name: str, n_classes: int = 3, **sections: dict) -> nn.Module:
    return networks.create(random_recipe(name, **sections), n_classes, pretrained=False).eval()


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def with_statistics(network: nn.Module) -> nn.Module:
    """A fresh batch norm changes nothing, and folding it proves nothing."""
    generator = torch.Generator().manual_seed(1)
    for norm in norms(network):
        for values in (norm.weight.data, norm.running_var):
            values.uniform_(0.5, 1.5, generator=generator)
        for values in (norm.bias.data, norm.running_mean):
            values.uniform_(-0.5, 0.5, generator=generator)
    return network


def pictures(size: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def largest_difference(one: nn.Module, other: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        expected, actual = networks.pooled(one, inputs), networks.pooled(other, inputs)
    return float((actual - expected).abs().max() / expected.abs().max())


def test_folding_leaves_no_batch_norm_in_the_bundled_backbone_and_its_features_as_they_were():
    network = networks.create(Recipe(), 3, pretrained=True).eval()
    fast = networks.frozen(network, CPU, torch.float32)
    assert norms(fast) == []
    assert len(norms(network)) == 49
    assert largest_difference(network, fast, pictures(224)) < 1e-4


@pytest.mark.parametrize(("name", "size"), [("resnet18", 96), ("vit_tiny_patch16_224", 224)])
def test_folding_changes_no_features_of_other_families(name: str, size: int):
    network = with_statistics(made(name))
    fast = networks.frozen(network, CPU, torch.float32)
    assert norms(fast) == []
    assert largest_difference(network, fast, pictures(size)) < 1e-4


class Twice(nn.Module):
    """A convolution whose output is used before its batch norm too: folding would be wrong."""

    pretrained_cfg = {"input_size": (3, 16, 16)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.conv(inputs)
        return self.norm(maps) + maps


def test_a_network_that_folding_would_change_is_left_as_it_is():
    network = with_statistics(Twice().eval())
    expected = network(pictures(16))
    left = networks.folded(network)
    assert len(norms(left)) == 1
    assert torch.equal(left(pictures(16)), expected)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("resnet5", "resnet50.a1_in1k"), ("efficientnet-lite0", "tf_efficientnet_lite0.in1k")],
)
def test_an_unknown_backbone_is_refused_with_names_that_look_like_it(typed: str, meant: str):
    with pytest.raises(RecipeRefused, match=typed) as refusal:
        made(typed)
    assert meant in refusal.value.remedy


def test_an_unknown_backbone_is_refused_as_unknown_even_where_its_weights_are_asked_for():
    with pytest.raises(RecipeRefused) as refusal:
        networks.create(recipes.made({"backbone.name": "resnet5"}), 3, pretrained=True)
    assert "resnet50.a1_in1k" in refusal.value.remedy


@pytest.mark.parametrize("name", ["hf_hub:timm/resnet18", "local-dir:/nowhere", "../x", ""])
def test_what_is_no_name_of_a_backbone_is_refused(name: str):
    with pytest.raises(RecipeRefused):
        made(name)


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "vit_tiny_patch16_224", "resnet50.tv_in1k"]
)
def test_pictures_are_prepared_as_they_were_when_the_backbone_was_pretrained(name: str):
    prepared = networks.preprocessing_of(made(name), random_recipe(name))
    known = get_pretrained_cfg(name)
    assert prepared.size == known.input_size[-1]
    assert (prepared.mean, prepared.std) == (known.mean, known.std)
    assert prepared.interpolation == known.interpolation
    assert prepared.short_side == round(prepared.size / known.crop_pct)


@pytest.mark.parametrize(("fit", "short_side"), [("crop", 101), ("squash", 96), ("letterbox", 96)])
def test_only_the_middle_crop_leaves_a_margin(fit: str, short_side: int):
    image = {"size": 96, "fit": fit}
    prepared = networks.preprocessing_of(made(SMALL), random_recipe(SMALL, image=image))
    assert (prepared.size, prepared.fit, prepared.short_side) == (96, fit, short_side)


@pytest.mark.parametrize("name", [SMALL, "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_another_image_size_is_taken_even_by_backbones_of_one_size(name: str):
    image = {"size": 64}
    network = made(name, image=image)
    assert networks.preprocessing_of(network, random_recipe(name, image=image)).size == 64
    fast = networks.frozen(network, CPU, torch.float32)
    assert largest_difference(network, fast, pictures(64)) < 1e-4


def test_the_same_seed_makes_the_same_network():
    one, again = made(SMALL).state_dict(), made(SMALL).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    other = networks.create(recipes.changed(random_recipe(SMALL), {"seed": 1}), 3, pretrained=False)
    assert not torch.equal(other.state_dict()["fc.weight"], one["fc.weight"])


def test_a_network_has_one_linear_classifier_with_an_output_for_each_class():
    network = made(SMALL, n_classes=7)
    assert network(pictures(64)).shape == (2, 7)
    assert networks.classifier_of(network).out_features == 7
    assert networks.pooled(network, pictures(64)).shape == (2, network.num_features)


def test_dropout_hides_features_in_training_only():
    network = made(SMALL, regularization={"dropout": 0.5})
    inputs = pictures(64)
    assert torch.equal(network(inputs), network(inputs))
    torch.manual_seed(0)
    head = network.train().forward_head(network.forward_features(inputs))
    assert not torch.equal(head, network.forward_head(network.forward_features(inputs)))
