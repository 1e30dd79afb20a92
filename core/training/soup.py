"""A greedy soup: the mean of the weights of a training's best epochs (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
# Epochs whose weights are kept; each costs the memory of one network.
MOST = 5


@dataclass
class Soup:
    """The best epochs so far, `MOST` of them: how good, which, and their weights on the CPU."""

    values: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)

    def add(self, value: float, epoch: int, weights: Weights) -> None:
        """Keep an epoch's weights if it is among the best; a higher value is better."""
        self.values.append(value)
        self.epochs.append(epoch)
        self.weights.append(weights)
        if len(self.values) > MOST:
            worst = min(range(len(self.values)), key=lambda k: (self.values[k], k))
            del self.values[worst], self.epochs[worst], self.weights[worst]

    def stirred(self, value_of: Callable[[Weights], float]) -> tuple[Weights, list[int]]:
        """The soup and its epochs: each next best is added if the average is then no worse."""
        order = sorted(range(len(self.values)), key=lambda k: self.values[k], reverse=True)
        chosen, best = order[:1], self.values[order[0]]
        for candidate in order[1:]:
            value = value_of(averaged([self.weights[k] for k in (*chosen, candidate)]))
            if value >= best:
                chosen, best = [*chosen, candidate], value
        mean = averaged([self.weights[k] for k in chosen])
        return mean, sorted(self.epochs[k] for k in chosen)


def copied(network: nn.Module) -> Weights:
    """A network's weights as they are now, on the CPU."""
    return {key: tensor.detach().cpu().clone() for key, tensor in network.state_dict().items()}


def averaged(many: list[Weights]) -> Weights:
    """The mean of several networks' weights; counters are taken from the first."""
    return {
        key: torch.stack([one[key] for one in many]).mean(dim=0)
        if first.is_floating_point()
        else first
        for key, first in many[0].items()
    }
