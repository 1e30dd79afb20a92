"""How much a user's photos look like the everyday photos that backbones were trained on.

Measured with the network that comes with Headstart and its ImageNet classifier, by two things:

- how sure the classifier is of what it sees, the mean of the largest probability (Hendrycks and
  Gimpel 2017): unknown things make it unsure. By itself it can be fooled: it is surer of scanned
  digits than of hands.
- how far the images' activations lie from ImageNet's, whose means and variances every batch norm
  keeps (Li et al. 2017, Schneider et al. 2020): for each channel before each batch norm the
  distance between two normal distributions (2-Wasserstein), in ImageNet's deviations; then the
  root of the mean square over channels and layers. 0 is ImageNet itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.data import loader
from core.data.augment import Preprocessing, normalized
from core.data.dataset import Dataset
from core.models import network as networks
from core.models import weights
from core.recipe import made

METHOD = (
    "confidence of the ImageNet classifier (Hendrycks and Gimpel 2017) and distance of activations "
    "to its batch-norm statistics (Li et al. 2017), with EfficientNet-Lite0"
)
IMAGES, BATCH = 128, 32
# The distance counts three times as much as the confidence, which scanned digits can fool.
WEIGHT_OF_DISTANCE = 0.75
# Score (confidence, distance) of 128 images each: ants and bees from ImageNet 0.70 (0.72, 0.31),
# cuttings of two snapshots 0.54 (0.27, 0.38), hands before a plain wall 0.40 (0.20, 0.54), scanned
# digits 0.32 (0.43, 0.72), textiles from close by 0.18 (0.05, 0.77), pure noise 0.14 (0.14, 0.86),
# one plain color 0.04 (0.03, 0.95). The limits lie in the gaps.
MUCH, SOMEWHAT = 0.46, 0.35


@dataclass(frozen=True)
class Likeness:
    """How alike: score 0–1 of both measures, confidence 0–1, distance from 0 up."""

    score: float
    confidence: float
    distance: float

    @property
    def words(self) -> str:
        """The score as people say it."""
        if self.score >= MUCH:
            return "much like everyday photos"
        near = self.score >= SOMEWHAT
        return "somewhat like everyday photos" if near else "unlike everyday photos"


def measure(dataset: Dataset, rows: np.ndarray, threads: int, seed: int) -> Likeness:
    """The likeness of at most `IMAGES` of the given rows.

    Raises: WeightsMissing where the network that comes with Headstart was taken away.
    """
    network = with_classifier()
    preprocessing = networks.preprocessing_of(network, made({}))
    drawn = np.random.default_rng(seed).permutation(rows)[:IMAGES]
    pictures = loader.from_files(dataset, preprocessing)
    batches = loader.squares(pictures, np.sort(drawn).tolist(), preprocessing, BATCH, threads)
    return of_batches(network, preprocessing, list(batches))


def with_classifier() -> nn.Module:
    """The network that comes with Headstart, its ImageNet classifier included."""
    import timm

    weights.check(weights.BUNDLED, "pretrained")
    network: nn.Module = timm.create_model(weights.full_name(weights.BUNDLED))
    weights.load(network, weights.BUNDLED, "pretrained")
    return network.eval()


def of_batches(network: nn.Module, preprocessing: Preprocessing, batches: list[Tensor]) -> Likeness:
    """The likeness of uint8 squares, batches of B×3×S×S."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    seen = {norm: Moments() for norm in norms}
    hooks = [
        norm.register_forward_pre_hook(lambda m, inputs: seen[m].add(*inputs)) for norm in norms
    ]
    try:
        with torch.inference_mode():
            sure = [
                network(inputs.contiguous(memory_format=torch.channels_last)).softmax(1).amax(1)
                for inputs in (normalized(batch, preprocessing) for batch in batches)
            ]
    finally:
        for hook in hooks:
            hook.remove()
    distances = torch.stack([seen[norm].distance(norm) for norm in norms])
    confidence, distance = float(torch.cat(sure).mean()), float(distances.mean().sqrt())
    near = max(0.0, 1.0 - distance)
    score = WEIGHT_OF_DISTANCE * near + (1 - WEIGHT_OF_DISTANCE) * confidence
    return Likeness(round(score, 3), round(confidence, 3), round(distance, 3))


class Moments:
    """Means over all values that each channel has taken, of them and of their squares."""

    def __init__(self) -> None:
        self.n = 0
        self.total = self.squares = torch.zeros(1)

    def add(self, maps: Tensor) -> None:
        """Count in activations, B×C×H×W."""
        # Not torch.var_mean, which takes ten times as long with channels last.
        self.n += len(maps)
        self.total = self.total + len(maps) * maps.mean((0, 2, 3))
        self.squares = self.squares + len(maps) * maps.square().mean((0, 2, 3))

    def distance(self, norm: nn.BatchNorm2d) -> Tensor:
        """Mean over channels of the squared distance to what the norm keeps, in its variances."""
        mean = self.total / self.n
        variance = (self.squares / self.n - mean.square()).clamp_min(0)
        assert norm.running_mean is not None and norm.running_var is not None
        usual = norm.running_var + norm.eps
        shift, stretch = mean - norm.running_mean, variance.sqrt() - usual.sqrt()
        return ((shift.square() + stretch.square()) / usual).mean()
