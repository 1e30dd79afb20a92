from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from core import recipe as recipes
from core.data.augment import Preprocessing
from core.models import classifier as classifiers
from core.models import heads
from core.models import network as networks
from core.models.classifier import Classifier
from core.schema import Recipe

# Every way from features to classes, as a recipe names it.
KINDS: dict[str, dict[str, object]] = {
    "linear": {"head.kind": "linear"},
    "mlp": {"head.kind": "mlp", "head.hidden": 8},
    "mlp with batch norm": {
        "head.kind": "mlp", "head.hidden": 8, "head.batch_norm": True, "head.activation": "gelu",
    },
    "logistic": {"head.kind": "logistic"},
    "svm linear": {"head.kind": "svm", "head.kernel": "linear"},
    "svm rbf": {"head.kind": "svm", "head.kernel": "rbf"},
    "knn": {"head.kind": "knn", "head.neighbors": 5},
}  # fmt: skip
NETWORKS = ["resnet10t", "tf_efficientnet_lite0", "test_vit", "test_convnext", "test_nfnet"]


def recipe(kind: str = "linear", **more: object) -> Recipe:
    changed = {name.replace("__", "."): value for name, value in more.items()}
    return recipes.made({"technique.name": "feature_extraction", **KINDS[kind], **changed})


def varied(n: int = 20, width: int = 6, seed: int = 0) -> np.ndarray:
    """Features N×F float32 whose columns differ in place and spread."""
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.uniform(-2, 2, width)
    return (rng.normal(size=(n, width)) * spread + rng.normal(size=width) * 5).astype(np.float32)


def grouped(
    counts: list[int], width: int = 12, seed: int = 0, apart: float = 0.7
) -> tuple[np.ndarray, np.ndarray]:
    """Features N×F of classes that overlap, and labels N; the classes lie where they always lie."""
    centers = np.random.default_rng(99).normal(size=(len(counts), width)) * apart
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), width))
    return (3 * (centers[labels] + noise) + 5).astype(np.float32), labels


def made(kind: str, features: np.ndarray, labels: np.ndarray) -> nn.Module:
    """A head of any kind; those that learn step by step have random weights."""
    n_classes = int(labels.max()) + 1
    if recipe(kind).head.kind in heads.FITTED:
        return heads.solved(recipe(kind), features, labels, np.ones(n_classes)).eval()
    torch.manual_seed(1)
    head = heads.fresh(recipe(kind), features, n_classes)
    for value in head.parameters():
        nn.init.normal_(value)
    return head.eval()


def asked(head: nn.Module, features: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = head(torch.from_numpy(features))
    return logits


def trained(features: np.ndarray, n_classes: int = 3, dropout: float = 0.0) -> heads.LinearHead:
    """A linear head whose weights are no zeros any more."""
    head = heads.LinearHead(features.shape[1], n_classes, dropout)
    head.scale.measure(features)
    torch.manual_seed(1)
    nn.init.normal_(head.linear.weight)
    nn.init.normal_(head.linear.bias)
    return head.eval()


# --- the linear head ---------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_head_and_its_linear_layer_say_the_same(dropout: float):
    features = varied()
    head = trained(features, dropout=dropout)
    torch.testing.assert_close(
        asked(head.as_linear(), features), asked(head, features), rtol=1e-4, atol=1e-4
    )


def test_a_fresh_linear_head_finds_all_classes_equally_likely():
    head = heads.fresh(recipe("linear"), varied(), 4)
    assert torch.equal(asked(head, varied()), torch.zeros(20, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_the_features_does_not_matter_to_any_head(kind: str):
    features, labels = grouped([12, 10, 9])
    small, large = made(kind, features, labels), made(kind, features * 1024, labels)
    torch.testing.assert_close(
        asked(small, features), asked(large, features * 1024), rtol=1e-3, atol=1e-3
    )


def test_scaled_features_are_centered_and_their_common_deviation_is_one():
    scale = heads.Scaled(6)
    scale.measure(varied(n=500))
    scaled = scale(torch.from_numpy(varied(n=500)))
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    assert float(scaled.std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert float(scaled.std(dim=0).max() / scaled.std(dim=0).min()) > 10


def test_one_feature_that_never_varies_is_passed_over():
    features = varied()
    features[:, 2] = 7.0
    head = trained(features)
    expected = asked(head, features)
    with torch.no_grad():
        head.linear.weight[:, 2] = 100.0
    torch.testing.assert_close(asked(head, features), expected, rtol=1e-4, atol=1e-3)


def test_hidden_features_are_hidden_in_training_only():
    head = trained(varied(), dropout=0.9)
    assert torch.equal(asked(head, varied()), asked(head, varied()))
    head.train()
    assert not torch.equal(asked(head, varied()), asked(head, varied()))


# --- the hidden layer --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "bend"),
    [("relu", torch.relu), ("gelu", nn.functional.gelu), ("sigmoid", torch.sigmoid),
     ("tanh", torch.tanh)],
)  # fmt: skip
def test_an_mlp_bends_as_its_activation_says(activation: str, bend):
    features = varied()
    head = heads.fresh(recipe("mlp", head__activation=activation), features, 2).eval()
    state = head.state_dict()
    scaled = (torch.from_numpy(features) - state["scale.mean"]) / state["scale.deviation"]
    hidden = bend(scaled @ state["hidden.weight"].T + state["hidden.bias"])
    expected = hidden @ state["linear.weight"].T + state["linear.bias"]
    torch.testing.assert_close(asked(head, features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [2, 64])
def test_an_mlp_has_as_many_hidden_units_as_asked_for(hidden: int):
    head = heads.fresh(recipe("mlp", head__hidden=hidden), varied(), 3)
    weights = {name: tuple(value.shape) for name, value in head.named_parameters()}
    assert weights["hidden.weight"] == (hidden, 6)
    assert weights["linear.weight"] == (3, hidden)


@pytest.mark.parametrize("share", [0.0, 0.75])
def test_an_mlp_switches_off_the_share_of_units_that_its_dropout_says(share: float):
    head = heads.fresh(recipe("mlp", head__hidden=4000, head__dropout=share), varied(), 2).train()
    seen: list[torch.Tensor] = []
    head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    asked(head, varied())
    head.eval()
    asked(head, varied())
    on = seen[1] > 0
    assert float((seen[0][on] == 0).float().mean()) == pytest.approx(share, abs=0.02)


def test_batch_norm_brings_hidden_units_to_a_common_scale():
    plain = heads.fresh(recipe("mlp", head__batch_norm=False), varied(), 2)
    assert not any(isinstance(part, nn.BatchNorm1d) for part in plain.modules())
    head = heads.fresh(recipe("mlp", head__batch_norm=True), varied(), 2).train()
    seen: list[torch.Tensor] = []
    head.norm.register_forward_hook(lambda _, __, output: seen.append(output))
    asked(head, varied())
    torch.testing.assert_close(seen[0].mean(dim=0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0].std(dim=0, correction=0), torch.ones(8), atol=0.1, rtol=0)


# --- every head --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_from_the_most_probable_class_to_the_features(kind: str):
    """A heat map is made of them; where they vanish it stays empty."""
    features, labels = grouped([15, 15, 15], apart=1.5)
    unseen = torch.from_numpy(grouped([5, 5, 5], seed=1, apart=1.5)[0]).requires_grad_()
    logits = made(kind, features, labels)(unseen)
    logits.max(dim=1).values.sum().backward()
    assert unseen.grad is not None
    assert unseen.grad.isfinite().all()
    assert (unseen.grad.abs().sum(dim=1) > 1e-6).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear"])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_a_head_is_made_again_from_its_spec_and_its_state(kind: str, n_classes: int):
    features, labels = grouped([9 + k for k in range(n_classes)])
    head = made(kind, features, labels)
    if kind == "logistic":  # It is kept as a plain linear layer.
        assert heads.spec_of(head.as_linear()) == {}
        return
    again = heads.from_spec(heads.spec_of(head))
    again.load_state_dict(head.state_dict())
    unseen, _ = grouped([4] * n_classes, seed=1)
    assert torch.equal(asked(again.eval(), unseen), asked(head, unseen))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_a_head_says_what_the_head_says_of_its_features(name: str):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval()
    side = network.pretrained_cfg["input_size"][-1] if name == "test_vit" else 64
    pictures = torch.randn(6, 3, side, side)
    with torch.no_grad():
        features = networks.pooled(network, pictures)
    for kind in KINDS:
        head = made(kind, features.numpy(), np.array([0, 1, 2, 0, 1, 2]))
        expected = asked(head, features.numpy())
        heads.put_on(network, head)
        with torch.no_grad():
            torch.testing.assert_close(network(pictures), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_with_any_head_is_saved_and_loaded(kind: str, tmp_path: Path):
    network = timm.create_model("test_resnet.r160_in1k", num_classes=3).eval()
    features, labels = grouped([7, 8, 9], width=network.num_features)
    heads.put_on(network, made(kind, features, labels))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    prepared = Preprocessing(64, "crop", 64, mean, std, "bicubic")
    before = Classifier(network, prepared, ("a", "b", "c"), 1.5, "test_resnet.r160_in1k")
    classifiers.save(before, tmp_path / "model", {})
    after = classifiers.load(tmp_path / "model")
    pictures = torch.randn(3, 3, 64, 64)
    np.testing.assert_allclose(
        after.probabilities(pictures), before.probabilities(pictures), atol=1e-6
    )
    assert type(networks.classifier_of(after.network)) is type(networks.classifier_of(network))


def test_dropout_is_not_done_twice_on_a_network():
    head = heads.mlp(recipe("mlp", regularization__dropout=0.5), 512, 3)
    assert head.input_dropout.p == 0.5
    heads.put_on(timm.create_model("test_resnet.r160_in1k", num_classes=3), head)
    assert head.input_dropout.p == 0


@given(
    kind=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 100),
    n_classes=st.integers(2, 4),
    each=st.integers(1, 4),
    width=st.integers(1, 5),
    odd=st.sampled_from(["constant", "copies", "one varies", "huge", "tiny", "usual"]),
)
@settings(max_examples=30)
@example(kind="knn", seed=0, n_classes=2, each=1, width=3, odd="usual")
@example(kind="logistic", seed=0, n_classes=2, each=1, width=3, odd="constant")
@example(kind="svm rbf", seed=0, n_classes=3, each=2, width=3, odd="constant")
@example(kind="svm linear", seed=0, n_classes=2, each=2, width=3, odd="copies")
def test_probabilities_are_numbers_that_sum_to_one_whatever_the_features(
    kind: str, seed: int, n_classes: int, each: int, width: int, odd: str
):
    each = max(2, each) if kind.startswith("svm") else each
    features, labels = grouped([each] * n_classes, width, seed)
    odd_features = {
        "constant": np.full_like(features, 3),
        "copies": np.repeat(features[:1], len(features), axis=0),
        "one varies": features * (np.arange(width) == 0),
        "huge": features * 1e6,
        "tiny": features * 1e-6,
        "usual": features,
    }[odd].astype(np.float32)
    head = made(kind, odd_features, labels)
    for shown in (odd_features, features):
        probabilities = asked(head, shown).softmax(dim=1)
        assert probabilities.isfinite().all()
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(labels)))
