"""What scikit-learn solved for, and the torch modules that say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import nn

from core import recipe as recipes
from core.errors import RecipeRefused
from core.models import heads, kernels

Labeled = tuple[np.ndarray, np.ndarray]


def grouped(counts: list[int], width: int = 12, seed: int = 0, apart: float = 0.7) -> Labeled:
    """Features N×F of classes that overlap, and labels N; the classes lie where they always lie."""
    centers = np.random.default_rng(99).normal(size=(len(counts), width)) * apart
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), width))
    return (3 * (centers[labels] + noise) + 5).astype(np.float32), labels


def scaled(features: np.ndarray, like: np.ndarray) -> np.ndarray:
    """As the heads scale features that they are shown after training features `like`."""
    center = like.mean(axis=0)
    return np.asarray((features - center) / (like - center).std())


def solved(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, **head: Any
) -> nn.Module:
    """A head with the recipe's settings of these names."""
    named = {f"head.{name}": value for name, value in head.items()}
    recipe = recipes.made({"technique.name": "feature_extraction", **named})
    each = np.ones(int(labels.max()) + 1) if weights is None else weights
    return heads.solved(recipe, features, labels, each).eval()


def logits(head: nn.Module, features: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = head(torch.from_numpy(features))
    return found


def probabilities(head: nn.Module, features: np.ndarray) -> np.ndarray:
    return logits(head, features).softmax(dim=1).numpy()


KINDS: list[dict[str, object]] = [
    {"kind": "logistic"},
    {"kind": "svm", "kernel": "linear"},
    {"kind": "svm", "kernel": "rbf"},
    {"kind": "knn", "neighbors": 25},
]
BY_KIND = pytest.mark.parametrize("head", KINDS, ids=lambda head: "-".join(map(str, head.values())))
BY_KERNEL = pytest.mark.parametrize("kernel", ["linear", "rbf"])
BY_CLASSES = pytest.mark.parametrize("n_classes", [2, 3, 7])

# --- logistic regression -----------------------------------------------------------------------


@BY_CLASSES
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_a_logistic_head_gives_scikit_learns_probabilities(n_classes: int, c: float):
    features, labels = grouped([12] * n_classes)
    unseen, _ = grouped([9] * n_classes, seed=1)
    weights = np.linspace(0.5, 3, n_classes)
    model = LogisticRegression(C=c, class_weight=dict(enumerate(weights)), max_iter=2000)
    model.fit(scaled(features, features), labels)
    np.testing.assert_allclose(
        probabilities(solved(features, labels, weights, kind="logistic", c=c), unseen),
        model.predict_proba(scaled(unseen, features)), atol=1e-4,
    )  # fmt: skip


# --- support vectors ---------------------------------------------------------------------------


@BY_KERNEL
@BY_CLASSES
def test_a_machine_in_torch_gives_the_probabilities_of_the_one_it_was_made_from(
    kernel: str, n_classes: int
):
    features, labels = grouped([10 + k for k in range(n_classes)])
    unseen, _ = grouped([40] * n_classes, seed=1)
    weights = np.linspace(0.5, 3, n_classes)
    shown, trained_on = scaled(unseen, features), scaled(features, features)
    machine = kernels.calibrated_machine(trained_on, labels, weights, kernel, 1.0)
    alike = kernels.similarity(torch.from_numpy(shown), torch.from_numpy(trained_on), kernel)
    np.testing.assert_allclose(
        probabilities(solved(features, labels, weights, kind="svm", kernel=kernel), unseen),
        machine.predict_proba(alike.numpy()), atol=1e-4,
    )  # fmt: skip


@BY_KERNEL
@BY_CLASSES
def test_an_svm_is_scikit_learns_own_with_its_own_kernel(kernel: str, n_classes: int):
    """Solved anew on features, in doubles: both stop a little short of the same solution, which
    may change a held-out vote, and with it a sigmoid."""
    features, labels = grouped([10 + k for k in range(n_classes)])
    unseen, _ = grouped([40] * n_classes, seed=1)
    weights = np.linspace(0.5, 3, n_classes)
    model = CalibratedClassifierCV(
        SVC(kernel=kernel, gamma=1 / features.shape[1], C=2.0), method="sigmoid", ensemble=False,
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    )  # fmt: skip
    model.fit(scaled(features, features).astype(float), labels, sample_weight=weights[labels])
    np.testing.assert_allclose(
        probabilities(solved(features, labels, weights, kind="svm", kernel=kernel, c=2.0), unseen),
        model.predict_proba(scaled(unseen, features)), atol=0.02,
    )  # fmt: skip


def test_only_a_bent_border_parts_a_ring_from_its_middle():
    angles = np.linspace(0, 6, 40)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3
    middle = np.random.default_rng(0).normal(size=(40, 2)) * 0.3
    features = np.concatenate([ring, middle]).astype(np.float32)
    labels = np.repeat([0, 1], 40)
    right = {
        kernel: (probabilities(solved(features, labels, kind="svm", kernel=kernel), features)
                 .argmax(axis=1) == labels).mean()
        for kernel in ("linear", "rbf")
    }  # fmt: skip
    assert right["rbf"] == 1
    assert right["linear"] < 0.8


def test_all_similarities_are_those_of_single_pairs(monkeypatch: pytest.MonkeyPatch):
    features, _ = grouped([7, 6])
    monkeypatch.setattr(kernels, "ROWS", 4)
    apart = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(
        kernels.similarities(features / 30, "rbf"), np.exp(-apart / 900 / 12), atol=1e-5
    )
    np.testing.assert_allclose(
        kernels.similarities(features, "linear"), features @ features.T, rtol=1e-4
    )


# --- neighbors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 10])
@BY_CLASSES
def test_neighbors_vote_as_scikit_learns_do(k: int, n_classes: int):
    """Apart from one vote that all classes share."""
    features, labels = grouped([10 + k for k in range(n_classes)])
    unseen, _ = grouped([20] * n_classes, seed=1)
    shown, trained_on = scaled(unseen, features), scaled(features, features)
    model = KNeighborsClassifier(k, metric="cosine", weights="distance").fit(trained_on, labels)
    n_votes = (1 / model.kneighbors(shown)[0]).sum(axis=1, keepdims=True)
    expected = (model.predict_proba(shown) * n_votes + 1 / n_classes) / (n_votes + 1)
    head = solved(features, labels, kind="knn", neighbors=k)
    np.testing.assert_allclose(probabilities(head, unseen), expected, atol=1e-4)


def test_more_neighbors_than_images_are_all_images():
    features, labels = grouped([6, 5])
    unseen, _ = grouped([9, 9], seed=1)
    many, all_of_them = (solved(features, labels, kind="knn", neighbors=k) for k in (1000, 11))
    assert torch.equal(logits(many, unseen), logits(all_of_them, unseen))


def test_an_image_that_was_learned_from_is_recognized():
    features, labels = grouped([9, 9, 9], apart=0.1)
    found = probabilities(solved(features, labels, kind="knn", neighbors=10), features)
    assert (found[np.arange(27), labels] > 0.99).all()


def test_neighbors_that_agree_are_believed_the_less_the_farther_they_are():
    axis = np.eye(12, dtype=np.float32)[0] * 10
    features = np.stack([axis, axis, -axis, -axis])
    features[:, 1] = [1, -1, 1, -1]
    head = solved(features, np.array([0, 0, 1, 1]), kind="knn", neighbors=2)
    turned = np.eye(12, dtype=np.float32)[2] * 10
    near, far = axis + 0.3 * turned, axis + 2 * turned
    sure = probabilities(head, np.stack([near, far]))[:, 0]
    assert 1 > sure[0] > sure[1] > 0.5


# --- all of them -------------------------------------------------------------------------------


@BY_KIND
def test_weights_of_classes_make_a_rare_class_be_found(head: dict[str, Any]):
    """Also where probabilities are calibrated: that must not bring back how rare it is."""
    features, labels = grouped([120, 12], apart=0.4)
    unseen, _ = grouped([0, 200], seed=1, apart=0.4)
    found = [
        (probabilities(solved(features, labels, weights, **head), unseen).argmax(axis=1) == 1)
        .mean()
        for weights in (np.ones(2), np.array([0.55, 5.5]))
    ]  # fmt: skip
    assert found[1] > found[0] + 0.1, found


@pytest.mark.parametrize("head", KINDS[:3], ids=lambda head: "-".join(map(str, head.values())))
def test_a_large_c_follows_the_images_more_closely_than_a_small_one(head: dict[str, Any]):
    features, labels = grouped([15, 15, 15], apart=0.5)
    loose, close = (
        probabilities(solved(features, labels, **head, c=c), features)[np.arange(45), labels]
        for c in (1e-4, 1)
    )
    assert np.log(close).mean() > np.log(loose).mean() + 0.05


@BY_KIND
def test_a_class_without_images_is_refused_with_a_way_out(head: dict[str, Any]):
    features, labels = grouped([9, 9, 9])
    present = labels != 1
    with pytest.raises(RecipeRefused, match="1 classes have none") as refusal:
        solved(features[present], labels[present], **head)
    assert "linear" in refusal.value.remedy


@BY_KERNEL
def test_a_single_image_of_a_class_is_refused_by_svm_with_a_way_out(kernel: str):
    with pytest.raises(RecipeRefused, match="two training images") as refusal:
        solved(*grouped([9, 1]), kind="svm", kernel=kernel)
    assert "knn" in refusal.value.remedy
    assert logits(solved(*grouped([9, 1]), kind="knn"), grouped([9, 1])[0]).isfinite().all()


def test_more_images_than_memory_can_compare_are_refused_by_svm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "MOST_IMAGES", 17)
    assert solved(*grouped([9, 8]), kind="svm")
    with pytest.raises(RecipeRefused, match="18 training images, and the limit is 17") as refusal:
        solved(*grouped([9, 9]), kind="svm")
    assert "logistic" in refusal.value.remedy
