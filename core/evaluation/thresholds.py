"""Operating points: how sure a classifier must be of a class before it says so.

With thresholds an image is of the class, among those whose probability reaches theirs, that exceeds
it most; if none does, of the most probable class that has none. So the threshold of a class that is
costly to miss can be low, and that of one whose alarms are costly high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import RecipeRefused
from core.evaluation.curves import ranked
from core.evaluation.intervals import Figure, of_share
from core.evaluation.scores import Scores
from core.machine import late_numpy as np
from core.storage import read_json, write_json

FILE = "thresholds.json"
# By class name; classes without one are not among them.
Thresholds = Mapping[str, float]
LEAST, MOST = 0.001, 0.999


def kept(model: Path) -> dict[str, float]:
    """The thresholds that are kept with the classifier in a `model` folder; none is the rule."""
    path = model / FILE
    return {k: float(v) for k, v in read_json(path).items()} if path.exists() else {}


def keep(model: Path, classes: Sequence[str], thresholds: Thresholds) -> None:
    """Keep thresholds with a classifier, for whoever predicts with it from now on.

    Raises: RecipeRefused for an unknown class or a threshold outside 0.001 to 0.999.
    """
    for name, value in thresholds.items():
        if name not in classes:
            raise RecipeRefused(f"The classifier knows no class {name}.", "Reload the page.")
        if not LEAST <= value <= MOST:
            raise RecipeRefused(
                f"A threshold of {value:g} for {name} cannot be used.",
                f"Choose one from {LEAST:g} to {MOST:g}.",
            )
    write_json(model / FILE, dict(thresholds))


def decided(
    probabilities: np.ndarray, classes: Sequence[str], thresholds: Thresholds
) -> np.ndarray:
    """The class that each image is given, N int64, from probabilities N×C."""
    if not thresholds:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    limits = np.array([thresholds.get(name, np.inf) for name in classes])
    excess = np.where(probabilities >= limits, probabilities / limits, 0.0)
    free = np.where(np.isinf(limits), probabilities, -1.0)
    rest = free if np.isinf(limits).any() else probabilities
    reached = excess.max(axis=1) > 0
    chosen = np.where(reached, excess.argmax(axis=1), rest.argmax(axis=1))
    return np.asarray(chosen, dtype=np.int64)


@dataclass(frozen=True)
class Point:
    """What a rule of deciding means for one class.

    recall, precision: of the class. false_alarms: the share of the other classes' images that are
    given the class.
    """

    recall: Figure
    precision: Figure
    false_alarms: Figure

    @property
    def misses(self) -> int:
        """Images of the class that are given another one."""
        return self.recall.n - round((self.recall.value or 0) * self.recall.n)

    @property
    def alarms(self) -> int:
        """Images of other classes that are given this one."""
        return round((self.false_alarms.value or 0) * self.false_alarms.n)


def point(labels: np.ndarray, given: np.ndarray, number: int) -> Point:
    """Where a class stands: labels and given classes, N int64, and the class's number."""
    truth, chosen = labels == number, given == number
    hits = int((truth & chosen).sum())
    return Point(
        of_share(hits, int(truth.sum())),
        of_share(hits, int(chosen.sum())),
        of_share(int((chosen & ~truth).sum()), int((~truth).sum())),
    )


def cheapest(scores: Scores, number: int, miss: float, alarm: float) -> float | None:
    """The threshold of a class that costs least on these images: N of them, of C classes.

    miss, alarm: what it costs to miss an image of the class, and to take another one for it. Half
    way to the next probability, so that as much room as there is lies on both sides. None where the
    images are all of the class, or none is.
    """
    ranks = ranked(scores.labels == number, scores.probabilities[:, number])
    if ranks is None:
        return None
    # Before the first threshold nothing is chosen; after the last one everything.
    found, alarms = np.r_[0, ranks.found], np.r_[0, ranks.alarms]
    costs = miss * (ranks.positives - found) + alarm * alarms
    ends = np.r_[1.0, ranks.thresholds, 0.0]
    best = np.flatnonzero(costs == costs.min())
    # Among equal ones the widest room.
    room = ends[best] - ends[best + 1]
    chosen = best[room.argmax()]
    return float(np.clip((ends[chosen] + ends[chosen + 1]) / 2, LEAST, MOST))


def by_cost(scores: Scores, classes: Sequence[str], name: str, miss: float, alarm: float) -> float:
    """The threshold of a class that costs least on validation images, to three digits.

    Raises: RecipeRefused where they cannot tell it, or for an unknown class.
    """
    if name not in classes:
        raise RecipeRefused(f"The classifier knows no class {name}.", "Reload the page.")
    best = cheapest(scores, list(classes).index(name), miss, alarm) if miss + alarm > 0 else None
    if best is None:
        raise RecipeRefused(
            f"The validation images cannot tell a threshold for {name}: none is of this class, all "
            "are, or no error costs anything.", "Give a cost, or set the threshold yourself.",
        )  # fmt: skip
    return float(np.clip(round(best, 3), LEAST, MOST))
