"""Two classifiers on the same test images: how much better one is, and how sure that is.

Both are judged on each image, so that what they share (hard images are hard for both) drops out of
the difference: its interval is narrower than two intervals laid side by side suggest. Where a
difference is written, it is the first's figure less the second's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.evaluation import counts as counting
from core.evaluation import metrics
from core.evaluation.counts import Counts, Measure
from core.evaluation.intervals import Z95, Figure, of_mean, variance, wilson
from core.evaluation.metrics import Kind
from core.evaluation.scores import Scores
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.storage import Json

# p below which one is called better, and below which it is not counted out; images that are few.
SIGNIFICANT, RARE, FEW_IMAGES = 0.05, 0.01, 30
OF_COUNTS = ("balanced_accuracy", "macro_f1", "matthews", "kappa")
LOWER_IS_BETTER = ("log_loss",)
# Figures that are 0 by convention, with no slope there, where truth or predictions never vary.
NEED_VARIETY = ("matthews",)
# Of the counts, in images: small enough for a slope, large enough for its digits.
STEP = 1e-4


@dataclass(frozen=True)
class Shared:
    """The test images of two runs, in one order and with one numbering of classes.

    first, second: scores of N images with the same names and labels. relabelled: images of both
    that are left out, since their class was corrected between the runs.
    """

    first: Scores
    second: Scores
    classes: tuple[str, ...]
    relabelled: int

    def __len__(self) -> int:
        return len(self.first)

    @property
    def right(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether the first, and the second, is right on each image: N bool each."""
        one, other = (s.predicted == s.labels for s in (self.first, self.second))
        return one, other


@dataclass(frozen=True)
class Difference:
    """A figure of both on the same images, and the first's less the second's with its interval."""

    first: float | None
    second: float | None
    difference: Figure


@dataclass(frozen=True)
class Comparison:
    """What n shared images say of two classifiers.

    only_first, only_second: images that only the first, or the second, has right. p: of McNemar's
    exact test. differences: by the names of `metrics.KINDS`; none without images.
    """

    n: int
    relabelled: int
    only_first: int
    only_second: int
    p: float
    differences: dict[str, Difference]


def shared(
    first: Scores, first_classes: tuple[str, ...], second: Scores, second_classes: tuple[str, ...]
) -> Shared:
    """The images of both, by name, whose true class has the same name for both.

    Each run's classes are those that its own class numbers mean. Names must be of one dataset.
    """
    places = pd.Index(second.images).get_indexer(pd.Index(first.images))
    both = places >= 0
    # In the order of datasets, so that of two equally probable classes the same one comes first.
    classes = tuple(sorted({*first_classes, *second_classes}))
    one = renumbered(first.chosen(both), first_classes, classes)
    other = renumbered(second.chosen(places[both]), second_classes, classes)
    same = one.labels == other.labels
    if same.all():
        return Shared(one, other, classes, 0)
    return Shared(one.chosen(same), other.chosen(same), classes, int((~same).sum()))


def renumbered(scores: Scores, own: tuple[str, ...], classes: tuple[str, ...]) -> Scores:
    """Scores with the numbers of other classes, of which the own ones are some: 0 for the others.

    own: the classes that their numbers mean now.
    """
    if own == classes:
        return scores
    numbers = {name: number for number, name in enumerate(classes)}
    places = np.array([numbers[name] for name in own], dtype=np.int64)
    probabilities = np.zeros((len(scores), len(classes)), dtype=np.float32)
    probabilities[:, places] = scores.probabilities
    return replace(scores, probabilities=probabilities, labels=places[scores.labels])


def compared(both: Shared) -> Comparison:
    """All that the shared images say."""
    one, other = both.right
    only = int((one & ~other).sum()), int((other & ~one).sum())
    found = differences(both) if len(both) else {}
    return Comparison(len(both), both.relabelled, *only, mcnemar(*only), found)


def mcnemar(only_first: int, only_second: int) -> float:
    """How often, of two equally good ones, the images that one alone has right part so unevenly.

    The exact two-sided test (McNemar 1947) by the binomial distribution; 1 where there are none.
    """
    from scipy.stats import binomtest

    apart = only_first + only_second
    return float(binomtest(only_first, apart).pvalue) if apart else 1.0


def differences(both: Shared) -> dict[str, Difference]:
    """The figures of N > 0 shared images that have a difference with an interval, by name."""
    one, other = both.first, both.second
    losses = metrics.losses(one), metrics.losses(other)
    found = {
        "accuracy": of_shares(*both.right),
        **of_counts(both),
        "log_loss": of_means(*losses, one.labels),
    }
    return {name: found[name] for name in metrics.KINDS if name in found}


def of_shares(one: np.ndarray, other: np.ndarray) -> Difference:
    """The difference of two shares of the same N images (Newcombe 1998, method 10).

    one, other: N bool. Wilson's intervals of both, joined by how much the two agree.
    """
    n = len(one)
    (b, c), a = ((one & ~other).sum(), (other & ~one).sum()), (one & other).sum()
    first, second = (a + b) / n, (a + c) / n
    (low1, high1), (low2, high2) = wilson(a + b, n), wilson(a + c, n)
    phi = agreement(float(a), float(b), float(c), float(n - a - b - c))

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))

    value = float(first - second)
    low = value - reach(first - low1, high2 - second)
    high = value + reach(high1 - first, second - low2)
    return Difference(float(first), float(second), Figure(value, float(low), float(high), n))


def agreement(both: float, first: float, second: float, neither: float) -> float:
    """Correlation of right and wrong of two classifiers, from images; nearer 0 by half an image.

    0 where one of them is always right or always wrong (Newcombe 1998).
    """
    n = both + first + second + neither
    sides = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not sides:
        return 0.0
    together = both * neither - first * second
    return (max(0.0, together - n / 2) if together > 0 else together) / math.sqrt(sides)


def of_means(one: np.ndarray, other: np.ndarray, labels: np.ndarray) -> Difference:
    """The difference of two means over the same N images. labels: their true classes, N int64."""
    found = of_mean(one - other, labels, signed=True)
    # Of one image nothing is known of how much others differ.
    found = found if found.high is not None else replace(found, low=None)
    return Difference(float(one.mean()), float(other.mean()), found)


def of_counts(both: Shared) -> dict[str, Difference]:
    """The differences of figures that depend on the confusion matrices alone."""
    n_classes = len(both.classes)
    here = [
        counting.of(metrics.confusion(scores.labels, scores.predicted, n_classes))
        for scores in (both.first, both.second)
    ]
    return {name: of_measure(name, both, *here) for name in OF_COUNTS}


def of_measure(name: str, both: Shared, one: Counts, other: Counts) -> Difference:
    """The difference of one figure, as wide as many paired draws by class would have it.

    The infinitesimal jackknife (Efron 1982). Half an image that only one has right is added to each
    side (as Agresti and Min 2005 do for shares), of the class where it counts most, so that those
    who agree on all images, or on a rare class, do not seem equal for certain.
    """
    measure, n = metrics.OF_COUNTS[name], len(both)
    first, second = float(measure(one)), float(measure(other))
    if not (math.isfinite(first) and math.isfinite(second)):
        return Difference(known(first), known(second), Figure(None, None, None, n))
    if name in NEED_VARIETY and not (varies(one) and varies(other)):
        return Difference(first, second, Figure(first - second, None, None, n))
    moved, gain = influence(measure, one, both.first)
    other_moved, other_gain = influence(measure, other, both.second)
    doubt = float(np.abs((gain + other_gain)[one.truths > 0] / 2).max() ** 2)
    spread = Z95 * math.sqrt(variance(moved - other_moved, both.first.labels) + doubt)
    most, value = 1 - metrics.LOWEST.get(name, 0.0), first - second
    low, high = max(-most, value - spread), min(most, value + spread)
    return Difference(first, second, Figure(value, low, high, n))


def varies(here: Counts) -> bool:
    """Whether the images are of several classes, and are said to be of several."""
    n = here.truths.sum()
    return bool((here.truths < n).all() and (here.guesses < n).all())


def known(value: float) -> float | None:
    """A value; None where it is not defined."""
    return value if math.isfinite(value) else None


def influence(measure: Measure, here: Counts, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """By how much each image moves a figure: N; and one more that is right, of each class: C."""
    by_hits, by_guesses = slopes(measure, here)
    right = scores.predicted == scores.labels
    moved = by_hits[scores.labels] * right + by_guesses[scores.predicted]
    return moved, by_hits + by_guesses


def slopes(measure: Measure, here: Counts) -> tuple[np.ndarray, np.ndarray]:
    """How steeply a figure rises with the hits, and with the guesses, of each class: C each."""
    n_classes = len(here.hits)
    # A row for each class, in which its count alone is moved: C×C.
    hits, guesses = np.tile(here.hits, (n_classes, 1)), np.tile(here.guesses, (n_classes, 1))
    step = STEP * np.eye(n_classes)

    def slope(by_hits: np.ndarray, by_guesses: np.ndarray) -> np.ndarray:
        above = measure(Counts(hits + by_hits, guesses + by_guesses, here.truths))
        below = measure(Counts(hits - by_hits, guesses - by_guesses, here.truths))
        return np.asarray(above - below) / (2 * STEP)

    still = np.zeros_like(step)
    return slope(step, still), slope(still, step)


def in_words(found: Comparison, first: str = "A", second: str = "B") -> str:
    """What a comparison says, for somebody who knows no statistics. first, second: their names."""
    if not found.n:
        return (
            f"{first} and {second} share no test image, so that they cannot be compared image by "
            "image. Train both on one dataset with the same split and the same seed."
            + corrected(found.relabelled)
        )
    few = " So few images show large differences only." * (found.n < FEW_IMAGES)
    return (
        f"On the test images of both (n = {found.n:,}), {first} is right on {found.only_first:,} "
        f"where {second} is wrong, {second} on {found.only_second:,} where {first} is wrong. "
        f"{verdict(found, first, second)}{few}{corrected(found.relabelled)}"
    )


def verdict(found: Comparison, first: str, second: str) -> str:
    """How often chance alone would part the images so, and what follows."""
    if not found.only_first + found.only_second:
        return "Nothing tells them apart."
    how_often = (
        f"{max(1, round(100 * found.p))} of 100" if found.p >= RARE else "fewer than 1 of 100"
    )
    better = first if found.only_first > found.only_second else second
    follows = (
        f"{better} is better on such images"
        if found.p < SIGNIFICANT
        else "which is better is not known from these images"
    )
    return (
        f"If both were equally good, so uneven a count would come in {how_often} cases "
        f"(McNemar's exact test, p = {found.p:.2g}): {follows}."
    )


def corrected(relabelled: int) -> str:
    """A sentence on images whose class is not the same for both; "" without any."""
    return (
        f" {relabelled:,} more are left out: their class was corrected between the two trainings."
        if relabelled
        else ""
    )


def better(name: str, found: Difference, first: str = "A", second: str = "B") -> str:
    """Which of two a figure calls better for certain: whose interval leaves 0 on one side."""
    low, high = found.difference.low, found.difference.high
    if low is None or high is None or low <= 0 <= high:
        return "not known"
    return first if (low > 0) != (name in LOWER_IS_BETTER) else second


def table(found: Comparison, first: str = "A", second: str = "B") -> list[Json]:
    """The differences as rows in words: both figures, their difference, and who is better."""
    return [
        {
            "figure": metrics.KINDS[name].title,
            first: metrics.KINDS[name].written(one.first),
            second: metrics.KINDS[name].written(one.second),
            f"{first} − {second}": metrics.KINDS[name].written(one.difference.value),
            "95 % interval": metrics.KINDS[name].interval(one.difference),
            "better": better(name, one, first, second),
            "images": one.difference.n,
            "meaning": metrics.KINDS[name].help,
        }
        for name, one in found.differences.items()
    ]


def side_by_side(found: Mapping[str, Mapping[str, Figure]]) -> list[Json]:
    """The figures of several classifiers, by what each is called, as rows in words.

    A figure that means nothing for one of them (top 5 of four classes) is empty there.
    """
    return [
        {
            "figure": kind.title,
            **{who: cell(kind, figures.get(name)) for who, figures in found.items()},
            "meaning": kind.help,
        }
        for name, kind in metrics.KINDS.items()
        if any(name in figures for figures in found.values())
    ]


def cell(kind: Kind, figure: Figure | None) -> str:
    """A figure with its interval, short."""
    return "" if figure is None else f"{kind.written(figure.value)} ({kind.interval(figure)})"
