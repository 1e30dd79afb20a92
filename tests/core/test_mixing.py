"""Blends of images and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.data.mixing import mixed
from core.schema import Augmentation

CLASSES, SIDE = 5, 32
KINDS = {"mixup": {"mixup": 1.0}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 1.0, "cutmix": 1.0}}


def batch(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise images and class numbers."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 3, SIDE, SIDE)).astype(np.float32)
    return torch.from_numpy(inputs), torch.from_numpy(rng.integers(0, CLASSES, n))


def plain(n: int) -> tuple[Tensor, Tensor]:
    """Images that are their own class number all over, each of another class."""
    labels = torch.arange(n)
    return labels.float().view(n, 1, 1, 1).expand(n, 3, SIDE, SIDE).clone(), labels


def mixes(kind: str, n: int = 5, times: int = 60) -> list[tuple[Tensor, Tensor]]:
    """Blends of plain images, by many seeds."""
    settings = Augmentation(**KINDS[kind])
    return [mixed(*plain(n), n, settings, np.random.default_rng(seed)) for seed in range(times)]


def is_pasted(image: Tensor) -> bool:
    """Whether an image of plain parts has pixels of two kinds."""
    return len(image.unique()) > 1


def test_without_mixing_a_batch_stays_what_it_is():
    inputs, labels = batch(7)
    found = mixed(inputs, labels, CLASSES, Augmentation(), np.random.default_rng(0))
    assert found[0] is inputs and found[1] is labels


@given(n=st.integers(1, 9), seed=st.integers(0, 99), alpha=st.floats(0.01, 4))
@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_shares_of_classes_that_sum_to_one(kind: str, n: int, seed: int, alpha: float):
    inputs, labels = batch(n, seed)
    settings = Augmentation(**dict.fromkeys(KINDS[kind], alpha))
    blends, targets = mixed(inputs, labels, CLASSES, settings, np.random.default_rng(seed))
    assert blends.shape == inputs.shape and blends.dtype == inputs.dtype
    assert targets.shape == (n, CLASSES) and targets.dtype == torch.float32
    assert torch.allclose(targets.sum(1), torch.ones(n)) and float(targets.min()) >= 0
    assert bool(torch.isfinite(blends).all())
    # Only classes of this batch, and at most two of them in one image.
    assert set(targets.nonzero()[:, 1].tolist()) <= set(labels.tolist())
    assert int((targets > 0).sum(1).max()) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_itself_is_left_as_it_is(kind: str):
    inputs, labels = batch(6)
    mixed(inputs, labels, CLASSES, Augmentation(**KINDS[kind]), np.random.default_rng(3))
    assert torch.equal(inputs, batch(6)[0]) and torch.equal(labels, batch(6)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_is_alone_stays_what_it_is(kind: str):
    inputs, labels = batch(1)
    settings = Augmentation(**KINDS[kind])
    blends, targets = mixed(inputs, labels, CLASSES, settings, np.random.default_rng(0))
    assert torch.allclose(blends, inputs)
    assert targets[0].tolist() == torch.eye(CLASSES)[labels[0]].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_blended_as_the_pixels_are(kind: str):
    # A plain image is its class number: the mean of its pixels is the mean of its targets.
    for blends, targets in mixes(kind):
        numbers = targets @ torch.arange(5.0)
        assert torch.allclose(blends.mean(dim=(1, 2, 3)), numbers, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_every_image_has_another_for_its_partner(kind: str, n: int):
    for _, targets in mixes(kind, n, 20):
        blended = ((targets > 0.01) & (targets < 0.99)).sum(1)
        assert blended.tolist() in ([2] * n, [0] * n)  # None only where the share is whole.


def test_mixup_lays_images_over_each_other_and_cutmix_beside_each_other():
    assert not any(is_pasted(image) for blends, _ in mixes("mixup") for image in blends)
    pasted = [is_pasted(image) for blends, _ in mixes("cutmix") for image in blends]
    assert sum(pasted) > 0.9 * len(pasted)


def test_cutmix_pastes_one_full_rectangle():
    for blends, targets in mixes("cutmix", 2):
        rows, columns = torch.where(blends[0, 0] == 1)
        if len(rows):
            high, wide = (int(one.max() - one.min()) + 1 for one in (rows, columns))
            assert high * wide == len(rows)
        assert float(targets[0, 1]) == pytest.approx(len(rows) / SIDE**2, abs=1e-6)


def test_where_both_are_on_each_batch_takes_one_by_even_chance():
    kinds = [{is_pasted(image) for image in blends} for blends, _ in mixes("both", times=200)]
    assert all(len(kind) == 1 for kind in kinds)
    assert 70 < kinds.count({True}) < 130


def test_a_small_alpha_mostly_keeps_images_and_a_large_one_halves_them():
    def smaller_share(alpha: float) -> float:
        settings = Augmentation(mixup=alpha)
        rngs = [np.random.default_rng(seed) for seed in range(100)]
        return float(np.mean([mixed(*plain(2), 2, settings, rng)[1].min() for rng in rngs]))

    assert smaller_share(0.05) < 0.1 < 0.3 < smaller_share(4.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_randomness_gives_the_same_blend_whatever_torchs_own(kind: str):
    found = []
    for number in range(2):
        torch.manual_seed(number)
        found.append(
            mixed(*batch(6), CLASSES, Augmentation(**KINDS[kind]), np.random.default_rng(1))
        )
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_blend_lies_in_memory_as_the_batch_does(kind: str, layout: torch.memory_format):
    inputs, labels = batch(6)
    for seed in range(6):
        blends, _ = mixed(
            inputs.to(memory_format=layout),
            labels,
            CLASSES,
            Augmentation(**KINDS[kind]),
            np.random.default_rng(seed),
        )
        assert blends.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_blend_has_the_precision_of_the_batch(kind: str, dtype: torch.dtype):
    inputs, labels = batch(4)
    settings = Augmentation(**KINDS[kind])
    found, targets = mixed(inputs.to(dtype), labels, CLASSES, settings, np.random.default_rng(0))
    assert found.dtype == dtype and targets.dtype == torch.float32
