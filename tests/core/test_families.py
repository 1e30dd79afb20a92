"""Every family of backbones, from its stages to its predictions, with random weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core import recipe as recipes
from core.evaluation import explain as explaining
from core.models import classifier as classifiers
from core.models import network as networks
from core.models import stages
from core.models.classifier import Classifier
from core.schema import Recipe
from core.training import tuning

CLASSES = ("a", "b", "c")
# The smallest member of each family, and a small size at which its last maps are not one pixel.
FAMILIES = {
    "VGG": ("vgg11_bn", 64),
    "ResNet": ("resnet18", 64),
    "ResNeXt": ("resnext50_32x4d", 64),
    "Inception-v3": ("inception_v3", 112),
    "Inception-v4": ("inception_v4", 112),
    "Inception-ResNet-v2": ("inception_resnet_v2", 112),
    "EfficientNet": ("efficientnet_b0", 64),
    "EfficientNetV2": ("tf_efficientnetv2_b0", 64),
    "EfficientNet-Lite": ("tf_efficientnet_lite0", 64),
    "MobileNetV2": ("mobilenetv2_100", 64),
    "MobileNetV3": ("mobilenetv3_small_100", 64),
    "MobileNetV4": ("mobilenetv4_conv_small", 64),
    "DenseNet": ("densenet121", 64),
    "RegNet": ("regnety_002", 64),
    "ConvNeXt": ("convnext_atto", 64),
    "ConvNeXt V2": ("convnextv2_atto", 64),
    "ViT": ("vit_tiny_patch16_224", 64),
    "DINOv2": ("vit_small_patch14_reg4_dinov2", 56),
    "DINOv3": ("vit_small_patch16_dinov3", 64),
    "EVA-02": ("eva02_tiny_patch14_336", 56),
    "Swin": ("swin_tiny_patch4_window7_224", 64),
    "Swin V2": ("swinv2_tiny_window8_256", 64),
    "TinyViT": ("tiny_vit_5m_224", 64),
    "MaxViT": ("maxvit_tiny_tf_224", 64),
    "CLIP": ("vit_xsmall_patch16_clip_224", 64),
    "SigLIP": ("vit_base_patch16_siglip_224", 64),
}


def recipe_of(family: str) -> Recipe:
    name, size = FAMILIES[family]
    return recipes.made(
        {"backbone.name": name, "technique.name": "from_scratch", "image.size": size}
    )


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(family: str) -> Iterator[nn.Module]:
    """The family's network in evaluation mode; nobody changes it."""
    made = networks.create(recipe_of(family), len(CLASSES), pretrained=False)
    yield made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures(family: str) -> Tensor:
    """Two normalized pictures of noise."""
    size = FAMILIES[family][1]
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier(family: str, network: nn.Module) -> Classifier:
    prepared = networks.preprocessing_of(network, recipe_of(family))
    return Classifier(network, prepared, CLASSES, 1.0, FAMILIES[family][0])


def test_every_parameter_but_the_classifiers_is_in_exactly_one_stage(network: nn.Module):
    every = stages.stages(network)
    assert 4 <= len(every) <= 8
    named = [name for stage in every for name in stage.parameters]
    head = {id(parameter) for parameter in networks.classifier_of(network).parameters()}
    expected = {name for name, value in network.named_parameters() if id(value) not in head}
    assert len(named) == len(set(named))
    assert set(named) == expected


def test_the_classifier_is_one_linear_layer_on_the_pooled_features(
    network: nn.Module, pictures: Tensor
):
    with torch.no_grad():
        features = networks.pooled(network, pictures)
        expected = network(pictures)
    assert features.ndim == 2
    assert torch.allclose(networks.classifier_of(network)(features), expected, atol=1e-5)


def test_only_what_learns_changes(network: nn.Module, pictures: Tensor):
    """Neither the weights nor the batch norms of frozen stages: one step with the last one."""
    body = copy.deepcopy(network)
    every = stages.stages(body)
    frozen = tuning.thawed(body, every, 1)
    body.train()
    for module in frozen:
        module.eval()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    learning = [parameter for parameter in body.parameters() if parameter.requires_grad]
    body(pictures).square().mean().backward()
    torch.optim.SGD(learning, lr=1.0).step()
    after = body.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    still = {
        name
        for stage in every[:-1]
        for own in (*stage.modules, *stage.parameters)
        for name in before
        if stages.within(name, own)
    }
    assert not changed & still
    assert changed & set(every[-1].parameters)
    assert changed & {f"{stages.classifier_name(body)}.weight"}


def test_it_is_explained(classifier: Classifier):
    size = classifier.preprocessing.size
    random = torch.Generator().manual_seed(0)
    square = torch.randint(0, 256, (3, size, size), generator=random).to(torch.uint8)
    speaks = False
    for number in range(len(CLASSES)):
        heat = explaining.heat_map(classifier, square, number)
        assert heat.shape == (size, size)
        assert np.isfinite(heat).all()
        assert heat.min() >= 0
        assert heat.max() <= 1
        speaks = bool(heat.std() > 0.01)
        if speaks:
            break  # In a network of random weights nothing may speak for some of the classes.
    assert speaks


def test_what_was_saved_predicts_the_same(classifier: Classifier, pictures: Tensor, tmp_path: Path):
    classifiers.save(classifier, tmp_path / "model", {})
    loaded = classifiers.load(tmp_path / "model")
    expected = classifier.probabilities(pictures)
    assert np.allclose(loaded.probabilities(pictures), expected, atol=1e-5)


def test_its_stages_can_be_cut_apart(network: nn.Module, pictures: Tensor):
    halves = stages.split_at(network, 2)
    assert halves is not None
    trunk, rest = halves
    with torch.no_grad():
        actual, expected = rest(trunk(pictures)), network(pictures)
    assert torch.allclose(actual, expected, atol=1e-5)
    found = network.load_state_dict(rest.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert isinstance(networks.classifier_of(rest), nn.Linear)
