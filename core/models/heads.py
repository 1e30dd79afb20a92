"""Heads on cached features, and how they become a network's own last layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

SMALLEST_DEVIATION = 1e-6


class LinearHead(nn.Module):
    """Center and scale, hide some features at random, one weighted sum for each class.

    All features are divided by one number, their common deviation, so that one learning rate suits
    every backbone. Each by its own would blow up those that hardly vary, and with them the first
    steps of fine-tuning; it was measured to be less accurate too. `as_linear` folds it away again.
    """

    def __init__(self, features: np.ndarray, n_classes: int, dropout: float) -> None:
        """features: of the training images, N×F float32."""
        super().__init__()
        mean = features.mean(axis=0)
        deviation = max(float((features - mean).std()), SMALLEST_DEVIATION)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("deviation", torch.tensor(deviation))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features.shape[1], n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from features B×F."""
        scaled = (features - self.mean) / self.deviation
        logits: Tensor = self.linear(self.dropout(scaled))
        return logits

    def as_linear(self) -> nn.Linear:
        """The same function, without dropout, as one linear layer on the features as they are."""
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
