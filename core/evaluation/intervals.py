"""How sure a figure is: 95 % intervals, that keep to what a split of test images by class says.

The number of test images of each class is fixed by the split, so that every method is stratified by
the true class. Shares have Wilson's interval. Figures of the confusion matrix vary as the bootstrap
says; means and areas as one of very many draws would say (infinitesimal jackknife, Efron 1982; for
an area that is DeLong's, 1988), since 1,000 draws of 50,000 images would take minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.machine import late_numpy as np

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Figure:
    """One value with its 95 % interval and the number of images it rests on.

    value: None where it is not defined. low, high: None where nothing is known of them.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def wilson(hits: float, n: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); no share is known from 0 images: (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    share = hits / n
    center = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def of_share(hits: int, n: int) -> Figure:
    """The share of `hits` among n; not defined among none."""
    return Figure(hits / n, *wilson(hits, n), n) if n else Figure(None, None, None, 0)


def of_mean(values: np.ndarray, strata: np.ndarray, *, signed: bool = False) -> Figure:
    """The mean of values, N, not negative unless `signed`; strata: their true classes, N int64."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Figure(mean, None if signed else 0.0, None, n)
    spread = Z95 * math.sqrt(variance((values - mean) / n, strata))
    low = mean - spread if signed else max(0.0, mean - spread)
    return Figure(mean, low, mean + spread, n)


def of_spread(
    value: float, spread: float, n: int, *, least: float | None = None, lowest: float = 0.0
) -> Figure:
    """A value between `lowest` and 1 with Wilson's interval for as many images as it is worth.

    So many that a share of as many would vary by `spread`, its variance. The interval keeps within
    the ends and has a width where no image is wrong: there it is worth `least` images, or n. Over
    simulated test sets it holds the truth more evenly than the bootstrap's percentiles, which are
    biased where classes are small (`python -m benchmarks --only coverage`).
    """
    reach = 1 - lowest
    share, variance = (value - lowest) / reach, spread / reach**2
    worth = share * (1 - share) / variance if variance > 0 else 0.0
    images = worth if worth > 0 else n if least is None else least
    low, high = wilson(share * images, images)
    return Figure(value, lowest + low * reach, lowest + high * reach, n)


def variance(influence: np.ndarray, strata: np.ndarray) -> float:
    """The variance of a figure when the images of each stratum are drawn anew.

    influence: N float64, by how much each image moves the figure; strata: N int64. A stratum of one
    image has no spread of its own: it is taken to differ as much as it does from all. Made larger
    where few images tell it, so that 1.96 deviations are as many as Student's t asks for (its
    degrees of freedom by Satterthwaite 1946).
    """
    counts = np.bincount(strata)
    sums = np.bincount(strata, weights=influence)
    squares = np.bincount(strata, weights=influence**2)
    several = counts > 1
    n = counts[several]
    within = np.maximum(0.0, squares[several] - sums[several] ** 2 / n) * n / (n - 1)
    spread = float(within.sum())
    if spread > 0:
        spread *= (student(spread**2 / float((within**2 / (n - 1)).sum())) / Z95) ** 2
    return spread + float(squares[counts == 1].sum())


def student(freedom: float) -> float:
    """How many deviations a 95 % interval reaches with so many degrees of freedom (Student's t)."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def of_folds(
    values: np.ndarray, tested: float, limits: tuple[float, float | None] = (0.0, 1.0)
) -> Figure:
    """The mean of a figure over k folds, N float64, with a 95 % interval for another training.

    tested: test images to one training image. The folds share training images, which makes their
    spread too small: corrected as Nadeau and Bengio (2003) have it. Folds that are all alike say
    nothing of how others would differ: no interval. limits: of the figure's own values; None is
    none. n: the number of folds.
    """
    k, mean = len(values), float(values.mean())
    if k < 2 or np.ptp(values) == 0:
        return Figure(mean, None, None, k)
    reach = student(k - 1) * float(values.std(ddof=1)) * math.sqrt(1 / k + tested)
    high = mean + reach if limits[1] is None else min(limits[1], mean + reach)
    return Figure(mean, max(limits[0], mean - reach), high, k)


def of_draws(value: float, draws: np.ndarray, n: int, least: float, lowest: float) -> Figure:
    """A value with an interval as wide as what the bootstrap drew; not defined where it is not.

    draws: those that are not defined are left out. least, lowest: as in `of_spread`.
    """
    defined = draws[np.isfinite(draws)]
    if not math.isfinite(value) or not len(defined):
        return Figure(None, None, None, n)
    return of_spread(value, float(defined.var()), n, least=least, lowest=lowest)
