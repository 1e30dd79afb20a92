"""Probabilities that mean what they say: temperature scaling."""

from __future__ import annotations

import numpy as np

# Beyond these a temperature only says that the validation images were all easy, or hopeless.
COLDEST, HOTTEST = 0.05, 20.0
ROUNDS = 60
FEWEST_IMAGES = 10
# Images of doubt where none is wrong.
DOUBT = 0.5
# The 95 % quantile of chi-squared with one degree of freedom.
LEAST_GAIN = 3.841


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises log loss on held-out images (Guo et al. 2017).

    logits: N×C float, before softmax. labels: N int64 in [0, C). 1 with fewer than ten images,
    whose minimum would mean nothing, and where the images cannot tell it from 1 (likelihood-ratio
    test, Wilks 1938). Where all images are right, they would make the classifier infinitely sure:
    the truth is then given (n + ½) / (n + 1) of the target, half an image of doubt, as Jeffreys'
    prior does (Platt 1999 gives it one). The loss has one minimum in the logarithm of the
    temperature, so golden-section search finds it.
    """
    if len(labels) < FEWEST_IMAGES:
        return 1.0
    right = bool((logits.argmax(axis=1) == labels).all())
    doubt = DOUBT / (len(labels) + 2 * DOUBT) if right else 0.0
    ratio = (5**0.5 - 1) / 2
    low, high = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(ROUNDS):
        left, right_end = high - ratio * (high - low), low + ratio * (high - low)
        if loss(logits, labels, left, doubt) < loss(logits, labels, right_end, doubt):
            high = right_end
        else:
            low = left
    found = (low + high) / 2
    gain = 2 * len(labels) * (loss(logits, labels, 0.0) - loss(logits, labels, found))
    return float(np.exp(found)) if right or gain > LEAST_GAIN else 1.0


def loss(
    logits: np.ndarray, labels: np.ndarray, log_temperature: float, doubt: float = 0.0
) -> float:
    """Cross-entropy at a temperature against targets that give the other classes a `doubt`."""
    logs = log_softmax(logits, float(np.exp(log_temperature)))
    truth = logs[np.arange(len(labels)), labels]
    others = (logs.sum(axis=1) - truth) / (logs.shape[1] - 1)
    return float(-np.mean((1 - doubt) * truth + doubt * others))


def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats of logits N×C."""
    return float(-np.mean(log_softmax(logits, 1.0)[np.arange(len(labels)), labels]))


def log_softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logarithms of the probabilities, N×C float64."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))
