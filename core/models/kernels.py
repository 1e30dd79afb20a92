"""Heads that compare an image with training images: support vectors, nearest neighbors.

Both are plain torch modules, so that gradients pass through them and one file holds them.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import RecipeRefused
from core.machine import cores
from core.storage import Json

# All similarities of so many images and the copies that two folds take: 6 GB, measured.
MOST_IMAGES = 20_000
FOLDS = 3
FOLDS_AT_ONCE = 2
# Rows of similarities that are computed at once.
ROWS = 1000
# Distances below this are rounding: the image itself, or a copy.
NEAREST = 1e-6


class Vectors(nn.Module):
    """A support vector machine, one class against another, with calibrated probabilities.

    Decisions as scikit-learn's SVC with `decision_function_shape="ovr"`, probabilities as its
    CalibratedClassifierCV with sigmoids (Platt 1999) and `ensemble=False`; its parity is tested.
    """

    def __init__(
        self, n_features: int, n_classes: int, n_vectors: int, kernel: str, sizes: list[int]
    ) -> None:
        """sizes: number of support vectors of each class; they follow each other in that order."""
        super().__init__()
        self.spec: Json = {
            "kind": "svm", "n_features": n_features, "n_classes": n_classes,
            "n_vectors": n_vectors, "kernel": kernel, "sizes": sizes,
        }  # fmt: skip
        self.kernel, self.sizes, self.n_classes = kernel, sizes, n_classes
        n_pairs = n_classes * (n_classes - 1) // 2
        n_sigmoids = 1 if n_classes == 2 else n_classes
        shapes = {
            "vectors": (n_vectors, n_features), "coefficients": (n_classes - 1, n_vectors),
            "intercepts": (n_pairs,), "slopes": (n_sigmoids,), "offsets": (n_sigmoids,),
        }  # fmt: skip
        self.vectors: Tensor
        self.coefficients: Tensor
        self.intercepts: Tensor
        self.slopes: Tensor
        self.offsets: Tensor
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def decisions(self, features: Tensor) -> Tensor:
        """How far each image lies on each class's side: B×C, or B×1 for two classes."""
        similar = similarity(features, self.vectors, self.kernel)  # B×V
        if self.n_classes == 2:
            return similar @ self.coefficients.T + self.intercepts
        blocks = zip(
            torch.split(similar, self.sizes, 1), torch.split(self.coefficients, self.sizes, 1),
            strict=True,
        )  # fmt: skip
        parts = torch.stack([block @ own.T for block, own in blocks], dim=1)  # B×C×(C-1)
        first, second = torch.triu_indices(self.n_classes, self.n_classes, 1, device=parts.device)
        pairs = parts[:, first, second - 1] + parts[:, second, first] + self.intercepts
        return self.summed(pairs, first, second)

    def summed(self, pairs: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Votes of all pairs of classes, B×P, for each class, ties broken by their margins: B×C."""
        votes = pairs.new_zeros(len(pairs), self.n_classes)
        won = (pairs >= 0).to(pairs.dtype)
        votes = votes.index_add(1, first, won).index_add(1, second, 1 - won)
        margins = pairs.new_zeros(len(pairs), self.n_classes)
        margins = margins.index_add(1, first, pairs).index_add(1, second, -pairs)
        return votes + margins / (3 * (margins.abs() + 1))

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from scaled features B×F; their softmax is the calibrated probability."""
        sigmoids = self.decisions(features) * self.slopes + self.offsets
        if self.n_classes == 2:
            sigmoids = torch.cat([-sigmoids, sigmoids], dim=1)
        # The calibrated classifier divides the sigmoids by their sum; softmax of logs does that.
        return functional.logsigmoid(sigmoids)


def solved_margins(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, kernel: str, c: float
) -> Vectors:
    """A support vector machine on scaled features N×F, by scikit-learn.

    Raises: RecipeRefused for more images than their matrix of similarities allows, or a class with
    a single image, which cannot be held out once to calibrate.
    """
    counts = np.bincount(labels, minlength=len(weights))
    if len(features) > MOST_IMAGES:
        raise RecipeRefused(
            f"head.kind svm compares all pairs of {len(features):,} training images, and the limit "
            f"is {MOST_IMAGES:,}.",
            "Choose head.kind logistic or linear.",
        )
    if counts.min() < 2:
        raise RecipeRefused(
            "head.kind svm needs two training images of every class.",
            "Choose head.kind linear or knn, or add images.",
        )
    calibrated = calibrated_machine(features, labels, weights, kernel, c)
    machine, sigmoids = calibrated.estimator, calibrated.calibrators
    found = Vectors(
        features.shape[1], len(weights), len(machine.support_), kernel, machine.n_support_.tolist()
    )
    values = {
        "vectors": features[machine.support_], "coefficients": machine.dual_coef_,
        "intercepts": machine.intercept_, "slopes": [-one.a_ for one in sigmoids],
        "offsets": [-one.b_ for one in sigmoids],
    }  # fmt: skip
    for name, value in values.items():
        getattr(found, name).copy_(torch.as_tensor(np.asarray(value, dtype=np.float32)))
    return found


def calibrated_machine(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, kernel: str, c: float
) -> Any:
    """scikit-learn's machine and the sigmoid of each class, fitted on held-out folds.

    It is asked with similarities to the training images, which are computed once for all folds.
    """
    from joblib import parallel_config
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    n_folds = min(FOLDS, int(np.bincount(labels).min()))
    model = CalibratedClassifierCV(
        SVC(C=c, kernel="precomputed", cache_size=500), method="sigmoid", ensemble=False,
        cv=StratifiedKFold(n_folds, shuffle=True, random_state=0),
        n_jobs=min(FOLDS_AT_ONCE, cores()),
    )  # fmt: skip
    with warnings.catch_warnings(), parallel_config("threading"):
        # Folds of a rare class may be small; that is known and cannot be helped.
        warnings.simplefilter("ignore", UserWarning)
        # As weights of images, not of classes: the sigmoids must count them too. They would
        # otherwise bring back how rare a class is.
        model.fit(similarities(features, kernel), labels, sample_weight=weights[labels])
    return model.calibrated_classifiers_[0]


def similarities(features: np.ndarray, kernel: str) -> np.ndarray:
    """The kernel between all scaled features N×F: N×N float32."""
    images = torch.from_numpy(features)
    rows = [similarity(part, images, kernel) for part in torch.split(images, ROWS)]
    return np.asarray(torch.cat(rows).numpy())


def similarity(one: Tensor, other: Tensor, kernel: str) -> Tensor:
    """How alike scaled features A×F and B×F are: A×B. The width of the RBF kernel is √F."""
    if kernel == "linear":
        return one @ other.T
    return torch.exp(-torch.cdist(one, other).square() / one.shape[1])


class Neighbors(nn.Module):
    """Votes of the k most similar training images, by cosine, the nearer the more weight.

    Weights are 1 / distance, as scikit-learn's KNeighborsClassifier(weights="distance"). All
    classes share the vote of one image at distance 1, that is, unlike this one: far neighbors
    are no certainty even where they agree, and nearness then still passes a gradient.
    """

    def __init__(self, n_features: int, n_classes: int, n_images: int, neighbors: int) -> None:
        super().__init__()
        self.spec: Json = {
            "kind": "knn", "n_features": n_features, "n_classes": n_classes,
            "n_images": n_images, "neighbors": neighbors,
        }  # fmt: skip
        self.neighbors, self.n_classes = min(neighbors, n_images), n_classes
        self.images: Tensor
        self.labels: Tensor
        self.class_weights: Tensor
        self.register_buffer("images", torch.zeros(n_images, n_features))
        self.register_buffer("labels", torch.zeros(n_images, dtype=torch.int64))
        self.register_buffer("class_weights", torch.ones(n_classes))

    def remember(self, features: Tensor, labels: Tensor, class_weights: Tensor) -> None:
        """Keep scaled training features N×F, their labels N int64 and the classes' weights C."""
        self.images.copy_(functional.normalize(features, dim=1))
        self.labels.copy_(labels)
        self.class_weights.copy_(class_weights)

    def votes(self, features: Tensor) -> Tensor:
        """The votes of the neighbors for each class: B×C, from scaled features B×F."""
        similar = functional.normalize(features, dim=1) @ self.images.T
        nearest, where = similar.topk(self.neighbors, dim=1)
        labels = self.labels[where]
        weights = self.class_weights[labels] / (1 - nearest).clamp_min(NEAREST)
        return weights.new_zeros(len(features), self.n_classes).scatter_add(1, labels, weights)

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from scaled features B×F."""
        votes = self.votes(features) + 1 / self.n_classes
        return torch.log(votes / votes.sum(dim=1, keepdim=True))
