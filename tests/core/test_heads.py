from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from core.models import heads


def varied(n: int = 20, width: int = 6, seed: int = 0) -> np.ndarray:
    """Features N×F float32 whose columns differ in place and spread."""
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.uniform(-2, 2, width)
    return (rng.normal(size=(n, width)) * spread + rng.normal(size=width) * 5).astype(np.float32)


def trained(features: np.ndarray, n_classes: int = 3, dropout: float = 0.0) -> heads.LinearHead:
    """A head whose weights are no zeros any more."""
    head = heads.LinearHead(features, n_classes, dropout)
    torch.manual_seed(1)
    torch.nn.init.normal_(head.linear.weight)
    torch.nn.init.normal_(head.linear.bias)
    return head.eval()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_head_and_its_linear_layer_say_the_same(dropout: float):
    features = torch.from_numpy(varied())
    head = trained(features.numpy(), dropout=dropout)
    with torch.no_grad():
        torch.testing.assert_close(head.as_linear()(features), head(features), rtol=1e-4, atol=1e-4)


def test_a_fresh_head_finds_all_classes_equally_likely():
    features = varied()
    assert torch.equal(heads.LinearHead(features, 4, 0.0)(torch.from_numpy(features)).unique(),
                       torch.zeros(1))  # fmt: skip


def test_the_scale_of_the_features_does_not_matter_to_the_head():
    features = varied()
    small, large = trained(features), trained(features * 1000)
    with torch.no_grad():
        torch.testing.assert_close(
            small(torch.from_numpy(features)), large(torch.from_numpy(features * 1000)),
            rtol=1e-3, atol=1e-3,
        )  # fmt: skip


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_features_that_never_vary_do_no_harm(value: float):
    features = np.full((5, 4), value, dtype=np.float32)
    head = trained(features)
    assert head(torch.from_numpy(features)).isfinite().all()
    assert head.as_linear()(torch.from_numpy(features)).isfinite().all()


def test_one_feature_that_never_varies_is_passed_over():
    features = varied()
    features[:, 2] = 7.0
    head = trained(features)
    without = head.linear.weight.clone()
    with torch.no_grad():
        expected = head(torch.from_numpy(features))
        head.linear.weight[:, 2] = 100.0
        assert not torch.equal(without, head.linear.weight)
        torch.testing.assert_close(head(torch.from_numpy(features)), expected, rtol=1e-4, atol=1e-3)


def test_a_single_image_is_enough_for_a_head():
    assert heads.LinearHead(varied(n=1), 2, 0.0)(torch.from_numpy(varied(n=1))).isfinite().all()


def test_a_head_put_on_a_network_becomes_its_classifier():
    network = timm.create_model("test_resnet.r160_in1k", num_classes=3).eval()
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network.forward_head(network.forward_features(pictures), pre_logits=True)
        head = trained(features.numpy())
        heads.put_on(network, head.as_linear())
        torch.testing.assert_close(network(pictures), head(features), rtol=1e-4, atol=1e-4)


def test_a_head_is_part_of_its_state_with_the_scale_that_it_learned_at():
    head, other = trained(varied()), trained(varied(seed=1))
    features = torch.from_numpy(varied())
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(features), head(features))
