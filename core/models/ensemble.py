"""Several networks as one: features side by side, and a head that averages their probabilities.

To everybody else it is one network: `networks.pooled` gives N×ΣF, its classifier takes those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as f
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from core.data.augment import Preprocessing
from core.errors import RecipeRefused

# The least probability in a logarithm.
SMALLEST = 1e-12


@dataclass(frozen=True)
class View:
    """What a member sees of the ensemble's picture: `crop` pixels of its middle, at its own size.

    canvas, own: how the ensemble's picture, and the member's, is prepared.
    """

    canvas: Preprocessing
    own: Preprocessing

    @property
    def crop(self) -> int:
        """Side of the middle square that the member sees, in pixels of the ensemble's picture."""
        share = (self.own.size / self.own.short_side) / (self.canvas.size / self.canvas.short_side)
        return min(self.canvas.size, round(self.canvas.size * share))

    @property
    def is_same(self) -> bool:
        """Whether the member sees just what the ensemble does."""
        return self.canvas == self.own

    def inputs(self, pictures: Tensor) -> Tensor:
        """The member's input N×3×s×s from the ensemble's, N×3×S×S, both normalized."""
        if self.is_same:
            return pictures
        plain = pictures * column(self.canvas.std, pictures) + column(self.canvas.mean, pictures)
        start = (self.canvas.size - self.crop) // 2
        cut = plain[..., start : start + self.crop, start : start + self.crop]
        resized = transforms.resize(
            cut, [self.own.size, self.own.size], InterpolationMode(self.own.interpolation),
            antialias=True,
        ).clamp(0, 1)  # fmt: skip
        found: Tensor = resized - column(self.own.mean, pictures)
        return found / column(self.own.std, pictures)

    def heat(self, found: np.ndarray) -> np.ndarray:
        """A member's map s×s, laid on the ensemble's picture: S×S float32."""
        if self.is_same:
            return found
        size = [self.crop, self.crop]
        small = torch.from_numpy(found)[None, None]
        resized = f.interpolate(small, size, mode="bilinear", align_corners=False)[0, 0].numpy()
        whole = np.zeros((self.canvas.size, self.canvas.size), dtype=np.float32)
        start = (self.canvas.size - self.crop) // 2
        whole[start : start + self.crop, start : start + self.crop] = resized
        return whole


def column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    """Three numbers as 3×1×1, where pictures are."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def canvas_of(every: Sequence[Preprocessing]) -> Preprocessing:
    """How pictures are prepared so that each member finds in them what it wants to see.

    Raises: RecipeRefused for members that see other cuts of a photo.
    """
    fits = sorted({one.fit for one in every})
    if len(fits) > 1:
        raise RecipeRefused(
            f"The runs fit photos into the square in different ways ({', '.join(fits)}).",
            "Combine runs with the same image.fit.",
        )
    if all(one == every[0] for one in every):
        return every[0]
    # As many pixels as the one that sees the photo the largest, as much of it as the widest.
    short_side = max(one.short_side for one in every)
    share = max(one.size / one.short_side for one in every)
    return replace(every[0], size=round(short_side * share), short_side=short_side)


class EnsembleHead(nn.Module):
    """The logarithm of the weighted mean of the members' calibrated probabilities.

    As logits: their softmax is that mean again.
    """

    def __init__(
        self, heads: Sequence[nn.Module], widths: Sequence[int], temperatures: Sequence[float],
        weights: Sequence[float],
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads = nn.ModuleList(heads)
        # Plain numbers: they are no weights that learn.
        self.widths, self.temperatures, self.weights = [*widths], [*temperatures], [*weights]

    def forward(self, features: Tensor) -> Tensor:
        """Logits B×C from features B×ΣF."""
        pieces = torch.split(features, self.widths, dim=1)
        terms = [
            weight * torch.softmax(head(piece).float() / degree, dim=1)
            for head, piece, degree, weight in zip(
                self.heads, pieces, self.temperatures, self.weights, strict=True
            )
        ]
        return torch.stack(terms).sum(dim=0).clamp_min(SMALLEST).log()


class Ensemble(nn.Module):
    """Networks side by side, each with its view of the picture; timm's interface."""

    def __init__(
        self, networks: Sequence[nn.Module], views: Sequence[View], temperatures: Sequence[float],
        weights: Sequence[float],
    ) -> None:  # fmt: skip
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.views = [*views]
        canvas = views[0].canvas
        self.pretrained_cfg: Any = {
            **networks[0].pretrained_cfg,  # type: ignore[dict-item]
            "input_size": (3, canvas.size, canvas.size),
        }
        was_training = self.training
        self.eval()
        with torch.no_grad():
            blank = torch.zeros(1, 3, canvas.size, canvas.size)
            widths = [len(pooled[0]) for pooled in self.pooled(blank)]
        self.train(was_training)
        heads = [network.get_classifier() for network in networks]  # type: ignore[operator]
        self.head = EnsembleHead(heads, widths, temperatures, weights)

    @property
    def weights(self) -> list[float]:
        """The weight of each member."""
        return self.head.weights

    def pooled(self, pictures: Tensor) -> list[Tensor]:
        """Each member's features N×F of pictures N×3×S×S."""
        return [
            network.forward_head(network.forward_features(view.inputs(pictures)), pre_logits=True)  # type: ignore[operator]
            for network, view in zip(self.networks, self.views, strict=True)
        ]

    def forward_features(self, pictures: Tensor) -> Tensor:
        """All features side by side, N×ΣF."""
        return torch.cat(self.pooled(pictures), dim=1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The features themselves, or logits N×C."""
        found: Tensor = features if pre_logits else self.head(features)
        return found

    def get_classifier(self) -> nn.Module:
        """The head that takes all features."""
        return self.head

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits N×C of normalized pictures N×3×S×S."""
        found: Tensor = self.head(self.forward_features(pictures))
        return found
