"""Heads: from a backbone's features to one logit for each class.

Those of `LEARNED` learn step by step and may go on learning on top of the network; those of
`FITTED` are solved for at once by scikit-learn and become torch modules with the same outputs, so
that a classifier is always one network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import RecipeRefused
from core.models import network as networks
from core.models.kernels import Neighbors, Vectors, solved_margins
from core.schema import Head, Recipe
from core.storage import Json

SMALLEST_DEVIATION = 1e-6
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


class Scaled(nn.Module):
    """Center features and divide all of them by one number, their common deviation.

    One learning rate then suits every backbone. Each by its own deviation would blow up those that
    hardly vary, and with them the first steps of fine-tuning; it was measured to be less accurate.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.tensor(1.0))

    def measure(self, features: np.ndarray) -> None:
        """Take center and deviation from training features, N×F float32."""
        mean = features.mean(axis=0)
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.fill_(max(float((features - mean).std()), SMALLEST_DEVIATION))

    def forward(self, features: Tensor) -> Tensor:
        """Features B×F, centered and scaled."""
        scaled: Tensor = (features - self.mean) / self.deviation
        return scaled


class LinearHead(nn.Module):
    """Scale, hide some features at random, one weighted sum for each class."""

    def __init__(self, n_features: int, n_classes: int, input_dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = Scaled(n_features)
        self.input_dropout = nn.Dropout(input_dropout)
        self.linear = nn.Linear(n_features, n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from features B×F."""
        logits: Tensor = self.linear(self.input_dropout(self.scale(features)))
        return logits

    def as_linear(self) -> nn.Linear:
        """The same function, without dropout, as one linear layer on the features as they are."""
        plain = nn.Linear(self.linear.in_features, self.linear.out_features)
        with torch.no_grad():
            weight = self.linear.weight / self.scale.deviation
            plain.weight.copy_(weight)
            plain.bias.copy_(self.linear.bias - weight @ self.scale.mean)
        return plain


class Mlp(nn.Module):
    """Scale, one hidden layer, one weighted sum for each class (a multi-layer perceptron)."""

    def __init__(
        self, n_features: int, n_classes: int, *, hidden: int, activation: str, dropout: float,
        batch_norm: bool, input_dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spec: Json = {
            "kind": "mlp", "n_features": n_features, "n_classes": n_classes, "hidden": hidden,
            "activation": activation, "dropout": dropout, "batch_norm": batch_norm,
        }  # fmt: skip
        self.scale = Scaled(n_features)
        self.input_dropout = nn.Dropout(input_dropout)
        self.hidden = nn.Linear(n_features, hidden)
        self.norm = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from features B×F."""
        inner = self.hidden(self.input_dropout(self.scale(features)))
        logits: Tensor = self.linear(self.dropout(self.activation(self.norm(inner))))
        return logits


def linear(recipe: Recipe, n_features: int, n_classes: int) -> LinearHead:
    """A fresh linear head."""
    return LinearHead(n_features, n_classes, recipe.regularization.dropout)


def mlp(recipe: Recipe, n_features: int, n_classes: int) -> Mlp:
    """A fresh head with a hidden layer."""
    settings = recipe.head
    return Mlp(
        n_features, n_classes, hidden=settings.hidden, activation=settings.activation,
        dropout=settings.dropout, batch_norm=settings.batch_norm,
        input_dropout=recipe.regularization.dropout,
    )  # fmt: skip


Learned = LinearHead | Mlp
LEARNED: dict[str, Callable[[Recipe, int, int], Learned]] = {"linear": linear, "mlp": mlp}


def fresh(recipe: Recipe, features: np.ndarray, n_classes: int) -> Learned:
    """A head that has learned nothing, scaled to training features N×F float32."""
    head = LEARNED[recipe.head.kind](recipe, features.shape[1], n_classes)
    head.scale.measure(features)
    return head


def logistic(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, settings: Head
) -> nn.Module:
    """Multinomial logistic regression with an L2 penalty (scikit-learn's LogisticRegression)."""
    from sklearn.linear_model import LogisticRegression

    head = LinearHead(features.shape[1], len(weights))
    head.scale.measure(features)
    scaled = head.scale(torch.from_numpy(features)).numpy()
    solved = LogisticRegression(C=settings.c, max_iter=2000, class_weight=dict(enumerate(weights)))
    solved.fit(scaled, labels)
    # For two classes scikit-learn gives one difference; each class takes half of it.
    rows, bias = solved.coef_, solved.intercept_
    if len(rows) == 1:
        rows, bias = np.concatenate([-rows, rows]) / 2, np.concatenate([-bias, bias]) / 2
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(rows))
        head.linear.bias.copy_(torch.from_numpy(bias))
    return head


def svm(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, settings: Head) -> nn.Module:
    """A support vector machine with calibrated probabilities, on scaled features."""
    scale = Scaled(features.shape[1])
    scale.measure(features)
    scaled = scale(torch.from_numpy(features)).numpy()
    machine = solved_margins(scaled, labels, weights, settings.kernel, settings.c)
    return Fitted(scale, machine)


def knn(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, settings: Head) -> nn.Module:
    """The training features themselves, to be compared with."""
    scale = Scaled(features.shape[1])
    scale.measure(features)
    scaled = scale(torch.from_numpy(features))
    nearest = Neighbors(features.shape[1], len(weights), len(features), settings.neighbors)
    nearest.remember(scaled, torch.from_numpy(labels), torch.from_numpy(weights))
    return Fitted(scale, nearest)


class Fitted(nn.Module):
    """Scale, then what was solved for."""

    def __init__(self, scale: Scaled, solved: Vectors | Neighbors) -> None:
        super().__init__()
        self.spec: Json = solved.spec
        self.scale = scale
        self.solved = solved

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from features B×F."""
        logits: Tensor = self.solved(self.scale(features))
        return logits


# features N×F float32, labels N int64, a weight for each of C classes -> head
Solve = Callable[[np.ndarray, np.ndarray, np.ndarray, Head], nn.Module]
FITTED: dict[str, Solve] = {"logistic": logistic, "svm": svm, "knn": knn}


def solved(
    recipe: Recipe, features: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> nn.Module:
    """A head of `FITTED` on training features.

    Raises: RecipeRefused where the kind of head cannot be had for these images.
    """
    absent = np.setdiff1d(np.arange(len(weights)), labels)
    if len(absent):
        raise RecipeRefused(
            f"head.kind {recipe.head.kind} needs training images of every class, and "
            f"{len(absent)} classes have none.",
            "Choose head.kind linear, add images, or change data.split.",
        )
    return FITTED[recipe.head.kind](features, labels, weights, recipe.head)


def put_on(network: nn.Module, head: nn.Module) -> None:
    """Make a head the network's classifier; a linear one becomes the network's own last layer."""
    classifier = networks.classifier_of(network)
    if isinstance(head, LinearHead):
        head = head.as_linear()
    if isinstance(head, Mlp):
        head.input_dropout.p = 0.0  # The network hides its own features.
    networks.replace(network, classifier, head)


def spec_of(head: nn.Module) -> Json:
    """What is needed to make a head's modules again; nothing for a plain linear layer."""
    spec: Any = getattr(head, "spec", {})
    return dict(spec)


def from_spec(spec: Json) -> nn.Module:
    """The modules of a head, their values still to be loaded."""
    arguments = {key: value for key, value in spec.items() if key != "kind"}
    if spec["kind"] == "mlp":
        return Mlp(**arguments)
    solved_kind = Vectors if spec["kind"] == "svm" else Neighbors
    return Fitted(Scaled(arguments["n_features"]), solved_kind(**arguments))
