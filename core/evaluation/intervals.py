"""How sure a figure is: 95 % intervals, that keep to what a split of test images by class says.

The number of test images of each class is fixed by the split, so that every method is stratified by
the true class. Shares have Wilson's interval; figures of the confusion matrix the bootstrap's;
means and areas the one that a bootstrap of very many draws comes to (infinitesimal jackknife, Efron
1982; for an area that is DeLong's, 1988), since 1,000 draws of 50,000 images would take minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

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


def of_mean(values: np.ndarray, strata: np.ndarray) -> Figure:
    """The mean of non-negative values, N; strata: the true class of each, N int64."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Figure(mean, 0.0, None, n)
    spread = Z95 * math.sqrt(variance((values - mean) / n, strata))
    return Figure(mean, max(0.0, mean - spread), mean + spread, n)


def of_area(value: float, influence: np.ndarray, strata: np.ndarray, least: int) -> Figure:
    """An area between 0 and 1, with Wilson's interval for as many images as its variance is worth.

    So the interval stays within 0 and 1 and has a width where all images are in order.
    influence: N float64, by how much each image moves the area. least: how many images it is worth
    at least, which counts where all are in order.
    """
    spread = variance(influence, strata)
    worth = max(least, value * (1 - value) / spread if spread > 0 else 0.0)
    return Figure(value, *wilson(value * worth, worth), len(strata))


def variance(influence: np.ndarray, strata: np.ndarray) -> float:
    """The variance of a figure when the images of each stratum are drawn anew.

    influence: N float64, by how much each image moves the figure; strata: N int64. A stratum of one
    image has no spread of its own: it is taken to differ as much as it does from all.
    """
    counts = np.bincount(strata)
    sums = np.bincount(strata, weights=influence)
    squares = np.bincount(strata, weights=influence**2)
    several = counts > 1
    within = squares[several] - sums[several] ** 2 / counts[several]
    spread = float((within * counts[several] / (counts[several] - 1)).sum())
    return max(0.0, spread + float(squares[counts == 1].sum()))


def of_draws(value: float, draws: np.ndarray, n: int) -> Figure:
    """A value with the middle 95 % of what the bootstrap drew; what was not defined there is out.

    The interval holds the value even where the drawn ones, which are biased, leave it out.
    """
    defined = draws[np.isfinite(draws)]
    if not math.isfinite(value) or not len(defined):
        return Figure(None, None, None, n)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Figure(value, min(float(low), value), max(float(high), value), n)
