"""Heads on cached features, and how they become a network's own last layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

# Features that hardly vary would be blown up by standardizing.
SMALLEST_DEVIATION = 1e-4


class LinearHead(nn.Module):
    """Standardize, hide some features at random, one weighted sum for each class.

    Standardized features make one learning rate suit every backbone; `as_linear` folds the
    standardization away again.
    """

    def __init__(self, features: np.ndarray, n_classes: int, dropout: float) -> None:
        """features: of the training images, N×F float32."""
        super().__init__()
        deviation = np.maximum(features.std(axis=0), SMALLEST_DEVIATION)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.from_numpy(features.mean(axis=0)))
        self.register_buffer("deviation", torch.from_numpy(deviation.astype(np.float32)))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features.shape[1], n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from features B×F."""
        standardized = (features - self.mean) / self.deviation
        logits: Tensor = self.linear(self.dropout(standardized))
        return logits

    def as_linear(self) -> nn.Linear:
        """The same function, dropout aside, as one linear layer on the features as they are."""
        plain = nn.Linear(self.linear.in_features, self.linear.out_features)
        with torch.no_grad():
            weight = self.linear.weight / self.deviation
            plain.weight.copy_(weight)
            plain.bias.copy_(self.linear.bias - weight @ self.mean)
        return plain


HEADS: dict[str, type[LinearHead]] = {"linear": LinearHead}


def put_on(network: nn.Module, head: nn.Linear) -> None:
    """Make a linear layer the network's classifier."""
    with torch.no_grad():
        classifier = network.get_classifier()  # type: ignore[operator]
        classifier.weight.copy_(head.weight)
        classifier.bias.copy_(head.bias)
