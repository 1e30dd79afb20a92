"""Whether probabilities mean what they say: the reliability diagram and its calibration error.

Images are put into bins of equal width by their confidence, the probability of the predicted class
(Guo et al. 2017). Where one of ten such predictions is wrong, their confidence should be 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.evaluation.intervals import Figure
from core.evaluation.scores import Scores

BINS = 15
DRAWS = 1000


@dataclass(frozen=True)
class Reliability:
    """B bins of confidence, those without images left out, and what they come to.

    images, right: B int64, images and those classified rightly. confidence: B float64, the mean of
    the bin. error: the expected calibration error, 0 to 1. by_chance: what a perfectly calibrated
    classifier would show of it on as many images, on average.
    """

    images: np.ndarray
    right: np.ndarray
    confidence: np.ndarray
    error: Figure
    by_chance: float

    @property
    def accuracy(self) -> np.ndarray:
        """The share of right ones in each bin: B float64."""
        return np.asarray(self.right / self.images)


def reliability(scores: Scores, temperature: float = 1.0, seed: int = 0) -> Reliability:
    """The bins of N > 0 images, and their expected calibration error (Naeini et al. 2015).

    temperature: that the probabilities were divided by and are to be without; 1 leaves them as they
    are. The error's interval is the bootstrap's within each bin, centered on the error: drawn
    ones are larger by what chance adds.
    """
    confidence = without(scores.probabilities, temperature).max(axis=1)
    right = scores.predicted == scores.labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    images = np.bincount(place, minlength=BINS)
    filled = images > 0
    sums = [np.bincount(place, weights=values, minlength=BINS) for values in (right, confidence)]
    n, hits, mean = images[filled], sums[0][filled], sums[1][filled] / images[filled]
    rng = np.random.default_rng(seed)
    # A bin whose images are all right or all wrong would not vary: one image of doubt is added.
    likely = (hits + mean) / (n + 1)
    error = float(gap(hits, n, mean))
    drawn = gap(rng.binomial(n, likely, size=(DRAWS, len(n))), n, mean)
    low, high = np.quantile(drawn, [0.025, 0.975]) - (drawn.mean() - error)
    chance = gap(rng.binomial(n, np.clip(mean, 0, 1), size=(DRAWS, len(n))), n, mean)
    figure = Figure(error, max(0.0, float(low)), min(1.0, float(high)), len(scores))
    return Reliability(n, hits.astype(np.int64), mean, figure, float(chance.mean()))


def gap(hits: np.ndarray, images: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """How far accuracy and confidence lie apart, weighed by images: …, from hits …×B."""
    return np.asarray(np.abs(hits - images * confidence).sum(axis=-1) / images.sum())


def without(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities N×C float64 as they were before their logits were divided by a temperature."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    powers = np.exp(logs * temperature - (logs * temperature).max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
