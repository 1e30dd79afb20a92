from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from core import recipe as recipes
from core.models import network as networks
from core.models import stages
from core.schema import Recipe

# What becomes of families that are too large to run in a test; no weights are made.
LARGE = {
    "vgg16_bn": 5,
    "efficientnet_b4": 8,
    "resnet101": 5,
    "convnext_base": 5,
    "swin_base_patch4_window7_224": 5,
    "vit_large_patch16_224": 5,
    "vit_base_patch14_dinov2": 5,
    "eva02_base_patch14_448": 5,
    "inception_resnet_v2": 5,
}


def without_weights(name: str) -> nn.Module:
    with torch.device("meta"):
        made: nn.Module = timm.create_model(name, num_classes=3)
    return made


def recipe_of(technique: str, **fields: object) -> Recipe:
    own = {f"technique.{name}": value for name, value in fields.items()}
    return recipes.made({"technique.name": technique, **own})


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    recipe = recipes.made({"image.size": 64})
    return networks.create(recipe, 3, pretrained=False).eval()


# --- what they are -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LARGE)
def test_a_network_has_a_handful_of_stages_however_many_blocks_it_has(name: str):
    network = without_weights(name)
    every = stages.stages(network)
    assert len(every) == LARGE[name]
    assert [stage.name for stage in every[:2]] == ["stem", "stage 1"]
    named = {parameter for stage in every for parameter in stage.parameters}
    head = networks.classifier_of(network)
    assert len(named) == len(list(network.parameters())) - len(list(head.parameters()))


def test_the_blocks_of_a_plain_transformer_are_cut_into_equal_parts():
    every = stages.stages(without_weights("vit_tiny_patch16_224"))
    assert every[0].modules[0] == "patch_embed"
    assert {"cls_token", "pos_embed"} <= set(every[0].parameters)
    for number, stage in enumerate(every[1:]):
        first = 3 * number
        assert stage.modules[:3] == tuple(f"blocks.{k}" for k in range(first, first + 3))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("swin_tiny_patch4_window7_224", ("norm",)),
        ("mobilenetv3_small_100", ("conv_head",)),
        ("vit_base_patch16_siglip_224", ("norm", "attn_pool")),
        ("maxvit_tiny_tf_224", ("head.norm", "head.pre_logits")),
    ],
)
def test_what_comes_after_the_last_block_belongs_to_the_last_stage(name: str, parts: tuple[str]):
    assert set(parts) <= set(stages.stages(without_weights(name))[-1].modules)


def test_a_network_that_timm_does_not_group_has_a_stage_for_each_child():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
            self.head = nn.Linear(8, 2)

        def get_classifier(self) -> nn.Module:
            return self.head

    every = stages.stages(Plain())
    assert [stage.parameters for stage in every] == [
        ("scale",),
        ("first.weight", "first.bias"),
        ("second.weight", "second.bias"),
    ]


def test_another_classifier_changes_no_stage(lite: nn.Module):
    other = copy.deepcopy(lite)
    head = nn.Sequential(nn.Linear(1280, 8), nn.ReLU(), nn.Linear(8, 3))
    networks.replace(other, networks.classifier_of(other), head)
    assert stages.stages(other) == stages.stages(lite)


# --- who learns when ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (recipe_of("feature_extraction"), [0, 0, 0, 0]),
        (recipe_of("last_stages", stages=3), [3, 3, 3, 3]),
        (recipe_of("last_stages", stages=50), [8, 8, 8, 8]),
        (recipe_of("gradual", epochs_per_stage=2), [1, 1, 2, 2]),
        (recipe_of("gradual", epochs_per_stage=1), [1, 2, 3, 4]),
        (recipe_of("finetune"), [8, 8, 8, 8]),
        (recipe_of("from_scratch"), [8, 8, 8, 8]),
    ],
)
def test_each_technique_says_how_many_of_the_last_stages_learn(recipe: Recipe, expected: list[int]):
    assert [stages.learning(recipe, epoch, 8) for epoch in (1, 2, 3, 4)] == expected


def test_no_more_stages_learn_than_there_are():
    assert stages.learning(recipe_of("gradual", epochs_per_stage=1), 100, 5) == 5


# --- what they put out -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "first", "last"),
    [
        ("resnet18", 224, (56, 56, 64), (7, 7, 512)),
        ("swin_tiny_patch4_window7_224", 224, (56, 56, 96), (7, 7, 768)),
        ("vit_tiny_patch16_224", 224, (14, 14, 192), (14, 14, 192)),
        ("mobilenetv3_small_100", 64, (32, 32, 16), (2, 2, 576)),
    ],
)
def test_the_shape_of_each_output_is_height_width_and_channels(
    name: str, size: int, first: tuple[int, ...], last: tuple[int, ...]
):
    seen = stages.outputs(without_weights(name).eval(), size)
    assert seen[0][1] == first
    assert seen[-1][1] == last


def test_parameters_are_counted_once(lite: nn.Module):
    counted = sum(n for _, _, n in stages.outputs(lite, 64))
    head = sum(parameter.numel() for parameter in networks.classifier_of(lite).parameters())
    assert counted + head == sum(parameter.numel() for parameter in lite.parameters())


def test_looking_leaves_no_hook_behind(lite: nn.Module):
    stages.outputs(lite, 64)
    assert not any(module._forward_hooks for module in lite.modules())


# --- cut apart ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_last", range(1, 8))
def test_two_halves_give_the_logits_of_the_whole(lite: nn.Module, n_last: int):
    halves = stages.split_at(lite, n_last)
    assert halves is not None
    pictures = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(halves[1](halves[0](pictures)), lite(pictures), atol=1e-5)


def test_what_the_second_half_learned_fits_back_into_the_network(lite: nn.Module):
    whole = copy.deepcopy(lite)
    trunk, rest = stages.split_at(whole, 2)
    with torch.no_grad():
        for parameter in rest.parameters():
            parameter.mul_(1.5)
    found = whole.load_state_dict(rest.state_dict(), strict=False)
    assert not found.unexpected_keys
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(rest(trunk(pictures)), whole(pictures), atol=1e-4)
        assert not torch.allclose(lite(pictures), whole(pictures), atol=1e-3)


def test_a_cut_keeps_whatever_classifier_there_is(lite: nn.Module):
    whole = copy.deepcopy(lite)
    head = nn.Sequential(nn.Linear(1280, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    networks.replace(whole, networks.classifier_of(whole), head)
    trunk, rest = stages.split_at(whole, 1)
    assert isinstance(networks.classifier_of(rest), nn.Sequential)
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(rest(trunk(pictures)), whole(pictures), atol=1e-5)


def test_the_first_half_can_be_made_fast_as_any_network(lite: nn.Module):
    trunk, _ = stages.split_at(lite, 2)
    fast = networks.frozen(trunk, torch.device("cpu"), torch.float32)
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(fast(pictures), trunk(pictures), atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


@pytest.mark.parametrize("n_last", [0, 8, 9])
def test_there_is_no_cut_where_nothing_or_all_is_frozen(lite: nn.Module, n_last: int):
    assert stages.split_at(lite, n_last) is None


def test_a_network_with_several_paths_is_not_cut():
    """Between HRNet's stages there are maps of several sizes at once."""
    network = timm.create_model("hrnet_w18_small", num_classes=3).eval()
    network.pretrained_cfg = {**network.pretrained_cfg, "input_size": (3, 64, 64)}
    assert stages.split_at(network, 1) is None
