"""How much each member of an ensemble counts, by what it says of the validation images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.evaluation.metrics import SMALLEST
from core.machine import late_numpy as np

# Draws of the greedy choice: each member's weight is a multiple of a so-manieth.
DRAWS = 50
# Weights below this are none: a member that costs its time and changes nothing.
LEAST = 0.01


@dataclass(frozen=True)
class Way:
    """One way to weigh.

    weigh(P, y): weights M ≥ 0, summing to 1, of members' probabilities M×N×C and labels N.
    """

    title: str
    help: str
    weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]
    needs_validation: bool = True


def loss(weights: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Log loss of the weighted mean of probabilities M×N×C."""
    chosen = probabilities[:, np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(weights @ chosen, SMALLEST)).mean())


def plain(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """All the same."""
    return np.full(len(probabilities), 1 / len(probabilities))


def weighted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The weights of least log loss: stacking by a convex combination (Breiman 1996).

    That loss is convex in the weights; expectation maximization of mixture weights descends it
    (Dempster et al. 1977) and stays within them.
    """
    chosen = np.maximum(probabilities[:, np.arange(len(labels)), labels], SMALLEST)  # M×N
    weights = plain(probabilities, labels)
    for _ in range(2000):
        shares = weights[:, None] * chosen
        after = (shares / shares.sum(axis=0)).mean(axis=1)
        if np.abs(after - weights).max() < 1e-7:
            break
        weights = after
    return kept(weights)


def greedy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw members with replacement, each time the one that helps most (Caruana et al. 2004).

    Begins with the best one; of all numbers of draws the one of least loss is taken.
    """
    chosen = probabilities[:, np.arange(len(labels)), labels].astype(np.float64)  # M×N
    counts = np.zeros(len(probabilities))
    total, best, least = np.zeros(len(labels)), counts, np.inf
    for draw in range(1, DRAWS + 1):
        losses = -np.log(np.maximum((total + chosen) / draw, SMALLEST)).mean(axis=1)
        pick = int(losses.argmin())
        counts = counts.copy()
        counts[pick] += 1
        total = total + chosen[pick]
        if losses[pick] < least - 1e-12:
            best, least = counts, float(losses[pick])
    return np.asarray(best / best.sum())


def kept(weights: np.ndarray) -> np.ndarray:
    """Weights without those that say nothing, summing to 1."""
    large = np.where(weights < LEAST, 0, weights)
    return np.asarray(large / large.sum())


WAYS: dict[str, Way] = {
    "mean": Way("Mean", "All count the same. Nothing is fitted, so that nothing can overfit.",
                plain, needs_validation=False),
    "weighted": Way("Weighted", "The weights that fit the validation images best.", weighted),
    "greedy": Way("Greedy", "Adds whichever helps most on the validation images; often leaves "
                  "most members out.", greedy),
}  # fmt: skip
SOUP = "soup"
SOUP_TITLE = "Soup"
SOUP_HELP = (
    "Averages the weights themselves, as long as the validation images agree: one network, as fast "
    "as each. For runs of one architecture that began alike."
)
