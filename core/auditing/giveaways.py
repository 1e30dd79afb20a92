"""Classes with few images, and properties other than the content that tell a class.

A property (size, format, camera, border, color, brightness) is judged as a classifier of its own:
each image is given the class that most others with the same value have. Where that finds a class
again far beyond luck, a network may learn it instead of what is to be seen (Geirhos et al. 2020
call it a shortcut).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.auditing.faults import COLOR_OF_GRAY
from core.auditing.findings import Finding, Group
from core.auditing.kinds import FEW_IMAGES
from core.machine import late_pandas as pd

# Correlation (Matthews 1975) between being of a class and being taken for it, and chance of luck.
LEAST_CORRELATION, LUCK = 0.6, 1e-4
SMALLEST_CLASS = 8
# A value that so many images of a class have is named by itself.
DOMINANT = 0.8
# The largest class has so many times as many images as the smallest: worth a sentence.
UNBALANCED = 3.0
PLAIN_BORDER, STEPS_OF_BORDER = 4.0, 32
STEPS_OF_BRIGHTNESS = 8


@dataclass(frozen=True)
class Property:
    """Something other than the content: its value for each image, text; "" where it has none."""

    words: str
    values: Callable[[pd.DataFrame], pd.Series]


def sizes(looks: pd.DataFrame) -> pd.Series:
    """Width and height."""
    return looks["width"].astype(str) + " × " + looks["height"].astype(str) + " pixels"


def scales(looks: pd.DataFrame) -> pd.Series:
    """The number of pixels, to a factor of two, by the least of it."""
    powers = np.floor(np.log2((looks["width"] * looks["height"]).to_numpy(dtype=float)))
    return pd.Series([f"{2**power / 1e6:.2g} megapixels or more" for power in powers], looks.index)


def cameras(looks: pd.DataFrame) -> pd.Series:
    """The camera that EXIF names."""
    return ("taken with " + looks["camera"]).where(looks["camera"] != "", "without a camera's name")


def borders(looks: pd.DataFrame) -> pd.Series:
    """A plain border's brightness in eighths, or that there is none."""
    level = (looks["border"] // STEPS_OF_BORDER * STEPS_OF_BORDER / 255).map("{:.0%}".format)
    plain = "with a plain border of brightness " + level + " or more"
    return plain.where(looks["border_spread"] < PLAIN_BORDER, "without a plain border")


def colors(looks: pd.DataFrame) -> pd.Series:
    """Whether there is color at all."""
    return pd.Series(np.where(looks["color"] < COLOR_OF_GRAY, "gray", "in color"), looks.index)


def brightness(looks: pd.DataFrame) -> pd.Series:
    """The middle between the darkest and the brightest parts, in eighths of full brightness."""
    middle = (looks["darkest"] + looks["brightest"]).fillna(0.0).to_numpy(dtype=float) / 2
    steps = np.minimum(middle * STEPS_OF_BRIGHTNESS // 1, STEPS_OF_BRIGHTNESS - 1)
    ends = (steps / STEPS_OF_BRIGHTNESS, (steps + 1) / STEPS_OF_BRIGHTNESS)
    words = [
        f"between {low:.0%} and {high:.0%} bright on the whole"
        for low, high in zip(*ends, strict=True)
    ]
    return pd.Series(words, looks.index)


PROPERTIES: dict[str, Property] = {
    "format": Property("file format", lambda looks: looks["format"]),
    "size": Property("size", sizes),
    "scale": Property("number of pixels", scales),
    "camera": Property("camera", cameras),
    "border": Property("border", borders),
    "color": Property("color", colors),
    "brightness": Property("brightness", brightness),
}


def found(looks: pd.DataFrame) -> tuple[list[Finding], list[str]]:
    """Findings about classes, and sentences about their sizes.

    looks: as `looks.measured` gives them, with `name`, `label`, `width`, `height` and `format`.
    """
    counts = looks["label"].value_counts()
    findings = [
        Finding("few_images", tuple(few(looks, counts))),
        Finding("giveaway", tuple(giveaways(looks))),
    ]
    return [one for one in findings if one.groups], imbalance(counts)


def few(looks: pd.DataFrame, counts: pd.Series) -> list[Group]:
    """Classes with few images, the smallest first."""
    return [
        Group(
            tuple(looks.loc[looks["label"] == label, "name"]),
            f"{label} has {n} images; {FEW_IMAGES} are the least to learn and to measure with",
        )
        for label, n in counts.sort_values(kind="stable").items()
        if n < FEW_IMAGES
    ]


def imbalance(counts: pd.Series) -> list[str]:
    """What is to be said where some classes are much larger than others."""
    most, least = int(counts.max()), int(counts.min())
    if most < UNBALANCED * least:
        return []
    return [
        f"The classes are unbalanced: {counts.idxmax()} has {most:,} images, {most / least:.0f} "
        f"times as many as {counts.idxmin()} ({least:,}). Add images of the small classes, or "
        "choose a remedy under Balance in the recipe."
    ]


def giveaways(looks: pd.DataFrame) -> list[Group]:
    """Classes that a property tells, one entry for each class and property.

    Of the size and the number of pixels, which say nearly the same, only the better one counts.
    """
    names, labels = np.unique(looks["label"], return_inverse=True)
    told: dict[tuple[int, str], tuple[float, Group]] = {}
    for key, kind in PROPERTIES.items():
        values = kind.values(looks).to_numpy(dtype=str)
        guessed = guesses(values, labels)
        strengths = correlations(guessed, labels)
        for label in np.flatnonzero(strengths > LEAST_CORRELATION).tolist():
            strength, place = float(strengths[label]), (label, "size" if key == "scale" else key)
            weaker = place not in told or strength > told[place][0]
            if weaker and not luck(guessed, labels, label):
                right = (guessed == label) & (labels == label)
                about = in_words(kind, str(names[label]), values, labels == label, right)
                told[place] = (strength, Group(tuple(looks.loc[right, "name"]), about))
    return [group for _, group in sorted(told.values(), key=lambda pair: -pair[0])]


def guesses(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class that most *other* images with the same value have: N int64, −1 for undecided.

    values: N text. labels: N int64. Only pairs of value and class that occur are counted: there
    may be as many values as images, and thousands of classes.
    """
    _, value = np.unique(values, return_inverse=True)
    classes = int(labels.max()) + 1
    pairs, pair_of, counts = np.unique(
        value * classes + labels, return_inverse=True, return_counts=True
    )
    owner = pairs // classes
    # Within a value the most frequent class first; three more that belong to no value.
    order = np.lexsort((-counts, owner))
    owners, sizes = (
        np.append(part[order], [fill] * 3) for part, fill in ((owner, -1), (counts, 0))
    )
    first = np.searchsorted(owner, owner)
    rank = np.argsort(order) - first
    # Of the other classes with the same value the most frequent one, and the next.
    best, next_best = first + (rank == 0), first + 1 + (rank <= 1)
    most, next_most = (np.where(owners[one] == owner, sizes[one], 0) for one in (best, next_best))
    other = np.append(pairs[order] % classes, [0] * 3)[best]
    guessed = np.where(most > np.maximum(counts - 1, next_most), other, -1)
    guessed = np.where(counts - 1 > most, pairs % classes, guessed)
    return np.asarray(guessed[pair_of])


def correlations(guessed: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Matthews' correlation between being of a class and being taken for it, C float64.

    guessed, labels: N int64. 0 where all images or none are of a class, or are taken for it.
    """
    n, classes = len(labels), int(labels.max()) + 1
    right, taken, true = (
        np.bincount(part, minlength=classes).astype(float)
        for part in (labels[guessed == labels], guessed[guessed >= 0], labels)
    )
    spread = np.sqrt(taken * (n - taken) * true * (n - true))
    return np.asarray((n * right - taken * true) / np.where(spread > 0, spread, np.inf))


def luck(guessed: np.ndarray, labels: np.ndarray, label: int) -> bool:
    """Whether so many right guesses of a class may be luck, by the binomial test."""
    from scipy.stats import binomtest

    n, right = int((guessed == label).sum()), int(((guessed == label) & (labels == label)).sum())
    share = float((labels == label).mean())
    if (labels == label).sum() < SMALLEST_CLASS:
        return True
    return bool(binomtest(right, n, share, alternative="greater").pvalue > LUCK)


def in_words(
    kind: Property, name: str, values: np.ndarray, own: np.ndarray, right: np.ndarray
) -> str:
    """What tells a class, with counts. own: N bool, of the class. right: N bool, told rightly."""
    shown, counts = np.unique(values[right], return_counts=True)
    usual, most = shown[counts.argmax()], int(counts.max())
    if most >= DOMINANT * own.sum():
        others = int((values[~own] == usual).sum())
        return (
            f"{most:,} of {own.sum():,} images of {name} are {usual}; of all others "
            f"{others:,} of {(~own).sum():,}"
        )
    return (
        f"{right.sum():,} of {own.sum():,} images of {name} can be told by their {kind.words} "
        f"alone, such as {usual}"
    )
