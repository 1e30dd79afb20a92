from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from core import recipe as recipes
from core.schema import POLICIES, Augmentation, Balance
from core.training import balance

DRAWING = ("oversample", "undersample", "augment_minority")
METHODS = sorted(balance.METHODS)
COUNTS = st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(any)
STRENGTHS = st.sampled_from([0.0, 0.3, 0.5, 1.0])
CPU = torch.device("cpu")
# What the changes to images of the rarest class gain at most, as a share of their strength.
GAIN = balance.MOST_STRENGTHENED - 1


def fix(method: str, strength: float = 1.0) -> Balance:
    return Balance(method=method, strength=strength)


def labels_of(counts: list[int]) -> np.ndarray:
    """Labels N int64 with these counts, in mixed order."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))


def drawn(counts: list[int], how: Balance, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return balance.positions(labels_of(counts), len(counts), how, rng)


# --- which images an epoch is made of ----------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "strength", "expected"),
    [
        ("oversample", 0.0, [64, 16, 4, 0]),
        ("oversample", 0.5, [64, 32, 16, 0]),
        ("oversample", 1.0, [64, 64, 64, 0]),
        ("augment_minority", 0.5, [64, 32, 16, 0]),
        ("smote", 0.5, [64, 32, 16, 0]),
        ("undersample", 0.0, [64, 16, 4, 0]),
        ("undersample", 0.5, [16, 8, 4, 0]),
        ("undersample", 1.0, [4, 4, 4, 0]),
        ("none", 1.0, [64, 16, 4, 0]),
        ("class_weights", 1.0, [64, 16, 4, 0]),
        ("focal", 1.0, [64, 16, 4, 0]),
    ],
)
def test_an_epoch_holds_as_many_of_each_class_as_the_strength_says(
    method: str, strength: float, expected: list[int]
):
    counts = np.array([64, 16, 4, 0])
    assert balance.wanted(counts, fix(method, strength)).tolist() == expected


@given(counts=COUNTS, method=st.sampled_from(METHODS), strength=STRENGTHS)
def test_every_image_of_a_class_is_seen_as_often_as_any_other_to_within_one(
    counts: list[int], method: str, strength: float
):
    how = fix(method, strength)
    times = np.bincount(drawn(counts, how), minlength=sum(counts))
    goals = counts if method == "smote" else balance.wanted(np.array(counts), how)
    for number, goal in enumerate(goals):
        own = times[labels_of(counts) == number]
        assert own.sum() == goal
        assert not len(own) or own.max() - own.min() <= 1


@given(counts=COUNTS, method=st.sampled_from(METHODS))
def test_a_balance_of_no_strength_changes_nothing(counts: list[int], method: str):
    assert drawn(counts, fix(method, 0.0)).tolist() == list(range(sum(counts)))
    np.testing.assert_allclose(balance.class_weights(np.array(counts), fix(method, 0.0)), 1)
    how = balance.loss_of(np.array(counts), fix(method, 0.0), 0.0, CPU)
    assert how.focus == 0


@pytest.mark.parametrize("method", DRAWING)
def test_no_image_of_a_rare_class_is_left_out(method: str):
    labels = labels_of([50, 20, 3])
    chosen = drawn([50, 20, 3], fix(method))
    assert set(np.nonzero(labels == 2)[0]) <= set(chosen)


def steps(counts: list[int], epoch: int, seed: int = 0, **more: Any) -> list[np.ndarray]:
    changes = {"balance.method": "undersample", "technique.name": "finetune", "seed": seed}
    recipe = recipes.made({**changes, **more})
    return balance.order(labels_of(counts), len(counts), recipe, 4, epoch)


def test_undersampling_shows_other_images_in_another_epoch_until_all_were_seen():
    counts = [40, 8]
    epochs = [set(np.concatenate(steps(counts, epoch))) for epoch in range(1, 31)]
    assert all(len(seen) == 16 for seen in epochs)
    assert epochs[0] != epochs[1]
    assert set.union(*epochs) == set(range(48))


@pytest.mark.parametrize("method", DRAWING)
def test_the_order_of_an_epoch_follows_from_the_seed_and_its_number_alone(method: str):
    def order(epoch: int, seed: int) -> list[list[int]]:
        found = steps([30, 7], epoch, seed, **{"balance.method": method})
        return [step.tolist() for step in found]

    assert order(3, 5) == order(3, 5)
    assert order(3, 5) != order(4, 5)
    assert order(3, 5) != order(3, 6)


@given(
    counts=COUNTS.filter(lambda counts: sum(counts) > 1),
    method=st.sampled_from([m for m in METHODS if m != "smote"]),
    strength=STRENGTHS,
    accumulate=st.sampled_from([1, 3]),
)
def test_all_epochs_have_as_many_steps_and_no_step_is_a_single_image(
    counts: list[int], method: str, strength: float, accumulate: int
):
    how = {"method": method, "strength": strength}
    more = {"compute.accumulate": accumulate} | {f"balance.{k}": v for k, v in how.items()}
    epochs = [steps(counts, epoch, **more) for epoch in (1, 2, 3)]
    assert len({tuple(map(len, epoch)) for epoch in epochs}) == 1
    sizes = list(map(len, epochs[0]))
    assert sum(sizes) == balance.wanted(np.array(counts), fix(method, strength)).sum()
    assert min(sizes) > 1 or sum(sizes) == 1
    assert max(sizes) <= 4 * accumulate + 1


# --- what counts more in the loss --------------------------------------------------------------


@given(counts=COUNTS, method=st.sampled_from(METHODS), strength=STRENGTHS)
def test_weights_of_classes_are_one_on_average_over_the_images(
    counts: list[int], method: str, strength: float
):
    weights = balance.class_weights(np.array(counts), fix(method, strength))
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert weights @ counts / sum(counts) == pytest.approx(1)


@pytest.mark.parametrize("method", ["class_weights", "focal"])
def test_a_class_counts_more_the_rarer_it_is(method: str):
    counts = np.array([90, 10])
    full, half = (balance.class_weights(counts, fix(method, s)) for s in (1, 0.5))
    np.testing.assert_allclose(full, [100 / 180, 100 / 20])
    assert half[1] / half[0] == pytest.approx(3)


def logits_and_labels(n: int = 40, n_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, n_classes) * 2, torch.randint(n_classes, (n,))


WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("weights", "smoothing"), [(torch.ones(4), 0.0), (torch.ones(4), 0.2), (WEIGHTS, 0.0)]
)
def test_the_loss_is_cross_entropy_as_torch_has_it(weights: torch.Tensor, smoothing: float):
    logits, labels = logits_and_labels()
    expected = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(balance.Loss(weights, smoothing, 0.0)(logits, labels), expected)


def test_doubt_about_a_label_counts_as_much_as_the_image_and_not_as_the_doubted_classes():
    """Here torch differs: it would teach a little of heavy classes on every image."""
    logits, labels = logits_and_labels()
    smooth = functional.one_hot(labels, 4) * 0.8 + 0.2 / 4
    losses = -(smooth * logits.log_softmax(dim=1)).sum(dim=1)
    expected = (losses * WEIGHTS[labels]).sum() / WEIGHTS[labels].sum()
    torch.testing.assert_close(balance.Loss(WEIGHTS, 0.2, 0.0)(logits, labels), expected)
    torchs = nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2)(logits, labels)
    assert abs(float(torchs - expected)) > 0.01


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_may_be_shares_of_classes_as_in_mixup(smoothing: float):
    logits, labels = logits_and_labels()
    shares = torch.rand(40, 4).softmax(dim=1)
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, shares)
    loss = balance.Loss(torch.ones(4), smoothing, 0.0)
    torch.testing.assert_close(loss(logits, shares), expected)
    whole = functional.one_hot(labels, 4).float()
    for weighted in (loss, balance.Loss(WEIGHTS, smoothing, 2.0)):
        torch.testing.assert_close(weighted(logits, whole), weighted(logits, labels))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_is_the_formula_of_its_authors(gamma: float):
    """FL(p) = -α (1 - p)^γ log p, Lin et al. 2017, equation 5."""
    logits, labels = logits_and_labels()
    p = logits.softmax(dim=1)[torch.arange(40), labels]
    losses = -WEIGHTS[labels] * (1 - p) ** gamma * p.log()
    expected = losses.sum() / WEIGHTS[labels].sum()
    torch.testing.assert_close(balance.Loss(WEIGHTS, 0.0, gamma)(logits, labels), expected)


def test_focal_loss_looks_away_from_easy_images_the_more_the_stronger_it_is():
    logits = torch.tensor([[4.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([0, 0])  # one easy, one hard
    shares = []
    for strength in (0.0, 0.5, 1.0):
        loss = balance.loss_of(np.array([5, 5]), fix("focal", strength), 0.0, CPU)
        easy, hard = (float(loss(logits[k : k + 1], labels[k : k + 1])) for k in (0, 1))
        shares.append(easy / hard)
    assert shares[0] > 10 * shares[1] > 100 * shares[2] > 0


@pytest.mark.parametrize("strength", [0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_image_that_is_certain_leaves_the_gradient_a_number(strength: float, smoothing: float):
    """The slope of (1 - p)^γ has no end at p = 1 where γ is below 1."""
    loss = balance.loss_of(np.array([5, 5]), fix("focal", strength), smoothing, CPU)
    logits = torch.tensor([[60.0, -60.0], [-60.0, 60.0]], requires_grad=True)
    loss(logits, torch.tensor([0, 0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert float(logits.grad[1].abs().sum()) > 0.1


# --- features made up between neighbors --------------------------------------------------------


def smoted(counts: list[int], strength: float = 1.0) -> tuple[np.ndarray, ...]:
    """Features and labels before, and with what was made up."""
    labels = labels_of(counts)
    centers = np.random.default_rng(7).normal(size=(len(counts), 5)) * 4
    noise = np.random.default_rng(8).normal(size=(len(labels), 5))
    features = (centers[labels] + noise).astype(np.float32)
    after = balance.synthesized(features, labels, len(counts), fix("smote", strength), seed=3)
    return features, labels, *after


@pytest.mark.parametrize("counts", [[30, 12, 5], [30, 2, 1, 1], [9, 0, 4], [2, 1]])
def test_smote_makes_the_counts_equal_and_leaves_images_as_they_are(counts: list[int]):
    features, labels, more, their_labels = smoted(counts)
    present = [max(counts) if count else 0 for count in counts]
    assert np.bincount(their_labels, minlength=len(counts)).tolist() == present
    assert np.array_equal(more[: len(features)], features)
    assert np.array_equal(their_labels[: len(labels)], labels)
    assert (more.dtype, their_labels.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("counts", [[30, 12, 5], [20, 2]])
def test_what_smote_makes_up_lies_between_two_images_of_its_class(counts: list[int]):
    features, labels, more, their_labels = smoted(counts)
    for point, label in zip(more[len(features) :], their_labels[len(labels) :], strict=True):
        own = features[labels == label].astype(float)
        ways = np.linalg.norm(own[:, None] - own[None], axis=2)
        through = np.linalg.norm(own - point, axis=1)
        detour = through[:, None] + through[None, :] - ways
        np.fill_diagonal(detour, np.inf)
        assert detour.min() < 1e-4


def test_smote_makes_up_many_different_points():
    features, _, more, _ = smoted([30, 5])
    assert len(np.unique(more[len(features) :], axis=0)) == 25


def test_a_class_of_one_image_has_it_repeated():
    features, labels, more, their_labels = smoted([6, 1])
    (only,) = features[labels == 1]
    np.testing.assert_allclose(more[their_labels == 1], np.tile(only, (6, 1)), rtol=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_smote_goes_as_far_as_its_strength_says(strength: float):
    counts = [64, 16, 4]
    _, _, _, labels = smoted(counts, strength)
    wanted = balance.wanted(np.array(counts), fix("smote", strength))
    assert np.bincount(labels).tolist() == wanted.tolist()


@pytest.mark.parametrize("method", [m for m in METHODS if m != "smote"])
def test_no_other_method_makes_up_features(method: str):
    features, labels = np.zeros((5, 2), dtype=np.float32), np.array([0, 0, 0, 0, 1])
    after = balance.synthesized(features, labels, 2, fix(method), seed=0)
    assert after[0] is features
    assert after[1] is labels


# --- rare classes changed more -----------------------------------------------------------------


def by_class(
    augmentation: Augmentation, method: str = "augment_minority", strength: float = 1.0
) -> list[Augmentation]:
    """Settings of three classes, the most common first."""
    how = fix(method, strength)
    return balance.augmentation_of(augmentation, labels_of([100, 50, 10]), 3, how)


def test_images_are_changed_the_more_the_rarer_their_class_is():
    given_ = Augmentation(policy="light", rotation=10.0, random_crop=0.5)
    common, rarer, rarest = by_class(given_)
    assert common == given_
    # What was set by hand is strengthened; what was not comes from the medium policy.
    assert rarest.perspective > given_.perspective == 0
    assert (rarer.rotation, rarest.rotation) == pytest.approx((10 + 5 * GAIN, 10 + 9 * GAIN))
    assert given_.random_crop > rarer.random_crop > rarest.random_crop
    assert rarest.horizontal_flip == given_.horizontal_flip
    assert by_class(given_, strength=0.5)[2].rotation == pytest.approx(10 + 4.5 * GAIN)


def test_where_nothing_is_changed_rare_classes_get_the_medium_policy():
    common, _, rarest = by_class(Augmentation(policy="none"))
    assert common.does_nothing
    assert rarest.rotation == pytest.approx(POLICIES["medium"]["rotation"] * (1 + 0.9 * GAIN))
    assert rarest.horizontal_flip == 0, "whether mirroring changes the class is not ours to say"


def test_classes_that_are_hardly_rarer_are_hardly_changed_more():
    given_ = Augmentation(policy="light")
    how = fix("augment_minority", 1.0)
    found = balance.augmentation_of(given_, labels_of([100, 95]), 2, how)[1]
    assert found.perspective == 0
    assert found.brightness == pytest.approx(given_.brightness * (1 + 0.05 * GAIN))


def test_how_much_a_picture_is_changed_does_not_tell_its_class():
    usual, labels = Augmentation(policy="light"), labels_of([100, 50, 10])
    of = balance.changes(usual, labels, 3, fix("augment_minority", 1.0))
    _, rarer, rarest = by_class(usual)
    for label in range(3):
        first = [of(label, number, 0) for number in range(8)]
        assert (first.count(usual), first.count(rarest)) == (6, 2)
    assert {str(of(1, number, 1)) for number in range(8)} == {str(rarer)}
    assert {str(of(2, number, 3)) for number in range(8)} == {str(rarest)}
    without = balance.changes(usual, labels, 3, fix("oversample", 1.0))
    assert {str(without(k, n, t)) for k in range(3) for n in range(4) for t in range(4)} == {
        str(usual)
    }


@pytest.mark.parametrize("method", METHODS)
def test_only_augment_minority_tells_classes_apart_and_only_with_strength(method: str):
    given_ = Augmentation(policy="light")
    assert by_class(given_, method, strength=0.0) == [given_] * 3
    if method != "augment_minority":
        assert by_class(given_, method) == [given_] * 3


def test_every_strengthened_setting_is_one_that_a_recipe_takes():
    for policy in POLICIES:
        for found in by_class(Augmentation(policy=policy, zoom=0.9, mixup=4.0, erasing=1.0)):
            assert Augmentation(**found.model_dump()) == found
