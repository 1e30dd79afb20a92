"""Probabilities that mean what they say: temperature scaling."""

from __future__ import annotations

import numpy as np

# Beyond these a temperature only says that the validation images were all easy, or hopeless.
COLDEST, HOTTEST = 0.05, 20.0
ROUNDS = 60
FEWEST_IMAGES = 10


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises log loss on held-out images (Guo et al. 2017).

    logits: N×C float, before softmax. labels: N int64 in [0, C). With fewer than ten images, 1:
    the minimum would mean nothing. The truth is given (n + 1) / (n + 2) of the target and not all
    of it, as Platt (1999) does, so that a few held-out images that all are right do not make the
    classifier infinitely sure. That loss has one minimum in the logarithm of the temperature, so
    golden-section search finds it.
    """
    if len(labels) < FEWEST_IMAGES:
        return 1.0
    ratio = (5**0.5 - 1) / 2
    low, high = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(ROUNDS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if doubted_loss(logits, labels, left) < doubted_loss(logits, labels, right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def doubted_loss(logits: np.ndarray, labels: np.ndarray, log_temperature: float) -> float:
    """Cross-entropy at a temperature against targets that keep one image's worth of doubt."""
    logs = log_softmax(logits, float(np.exp(log_temperature)))
    n, n_classes = logs.shape
    truth = logs[np.arange(n), labels]
    doubt = 1 / (n + 2)
    others = (logs.sum(axis=1) - truth) / (n_classes - 1)
    return float(-np.mean((1 - doubt) * truth + doubt * others))


def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats of logits N×C."""
    return float(-np.mean(log_softmax(logits, 1.0)[np.arange(len(labels)), labels]))


def log_softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logarithms of the probabilities, N×C float64."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))
