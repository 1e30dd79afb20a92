"""Images that are too dark, too bright, blurred, blank, tiny, of an odd shape, or gray among color.

Limits were chosen by looking at what they name in photos of insects, of hands, and of textiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from core.auditing.findings import Finding, Group
from core.machine import late_pandas as pd

# Brightness, 0–1: as cleanvision has them.
BRIGHTEST_OF_DARK, DARKEST_OF_BRIGHT = 0.32, 0.95
# Gray levels between the lightest and the darkest place of a blank picture.
SPAN_OF_BLANK = 12.0
# Deviation of the edges, 128 px a side. Sharp photos have more than 18, half of them more than 45;
# blurred by 2 % of their side they have less than 11.
EDGES_OF_BLURRED = 11.0
SHORTEST_SIDE = 32
# Smaller than this and so many times as small as the others is tiny too.
SHORT_SIDE, TIMES_SMALLER = 112, 4.0
# Long side through short side; cleanvision draws the line at 0.35 the other way round.
LONGEST = 2.85
# Difference between channels of gray: compression leaves some.
COLOR_OF_GRAY = 8.0
# What more than this share of images have is how the data is, not a fault of an image; from MANY
# on a sentence says so beside the list, since it may be either.
NATURE, MANY = 0.5, 0.25
FEWEST = 20
# Share of the variance between gray and color that lies between classes: more is no chance.
GATHERED = 0.1
HIDDEN = "so they are here, and none is listed for it."
LISTED = "each is listed. Keep them if photos will be so in use."


@dataclass(frozen=True)
class Fault:
    """Which images have a fault (N bool), how it shows in one of them, and what if many have it.

    nature: whether it is how the data is, so that none is listed for it, given those that have it.
    """

    has: Callable[[pd.DataFrame], pd.Series]
    about: Callable[[pd.Series], str]
    words: str
    nature: Callable[[pd.DataFrame, pd.Series], bool] = lambda _, hit: float(hit.mean()) > NATURE


def is_blank(looks: pd.DataFrame) -> pd.Series:
    """One color all over."""
    return looks["span"] < SPAN_OF_BLANK


def is_tiny(looks: pd.DataFrame) -> pd.Series:
    """Few pixels, or far fewer than the others."""
    short = looks[["width", "height"]].min(axis=1)
    small_here = (short < SHORT_SIDE) & (short * TIMES_SMALLER < short.median())
    return (short < SHORTEST_SIDE) | small_here


def is_spread(looks: pd.DataFrame, hit: pd.Series) -> bool:
    """Whether many images have something, in each class about as many of them.

    By the share of variance that lies between classes, corrected for their number (Kelley 1935).
    """
    share, n, classes = float(hit.mean()), len(hit), looks["label"].nunique()
    if share in (0.0, 1.0) or share <= MANY:
        return share > MANY
    of_class = hit.groupby(looks["label"]).transform("mean")
    between = float(np.var(of_class)) / (share * (1 - share))
    return 1 - (1 - between) * (n - 1) / max(1, n - classes) <= GATHERED


def shape(row: pd.Series) -> str:
    """Width and height in words."""
    return f"{row['width']:,} × {row['height']:,} pixels"


FAULTS: dict[str, Fault] = {
    "blank": Fault(
        is_blank,
        lambda row: f"brightness differs by {row['span'] / 255:.0%} at most",
        "are nearly of one color",
        # Nothing can be learned from them, however many they are.
        nature=lambda *_: False,
    ),
    "dark": Fault(
        lambda looks: (looks["brightest"] < BRIGHTEST_OF_DARK) & ~is_blank(looks),
        lambda row: f"its brightest parts have {row['brightest']:.0%} of full brightness",
        "are dark",
    ),
    "bright": Fault(
        lambda looks: (looks["darkest"] > DARKEST_OF_BRIGHT) & ~is_blank(looks),
        lambda row: f"95 % of it has at least {row['darkest']:.0%} of full brightness",
        "are very bright",
    ),
    "blurred": Fault(
        lambda looks: (
            (looks["edges"] < EDGES_OF_BLURRED)
            & ~is_blank(looks)
            & (looks["brightest"] >= BRIGHTEST_OF_DARK)
            & (looks["darkest"] <= DARKEST_OF_BRIGHT)
        ),
        lambda row: f"edges of strength {row['edges']:.0f}; sharp photos have over 18",
        "have no sharp edges",
    ),
    "tiny": Fault(is_tiny, shape, "are tiny"),
    "odd_aspect": Fault(
        lambda looks: (
            looks[["width", "height"]].max(axis=1)
            > LONGEST * looks[["width", "height"]].min(axis=1)
        ),
        shape,
        "are long strips",
    ),
    "grayscale": Fault(
        lambda looks: (looks["color"] < COLOR_OF_GRAY) & ~is_blank(looks),
        lambda row: "no color",
        "are gray",
        nature=is_spread,
    ),
}


def found(looks: pd.DataFrame) -> tuple[list[Finding], list[str]]:
    """Findings, and sentences on what most images have in common.

    looks: as `looks.measured` gives them, with `name`, `width` and `height`.
    """
    findings, notes = [], []
    seen = looks[looks["readable"]]
    for kind, fault in FAULTS.items():
        has = fault.has(seen)
        hidden = len(seen) >= FEWEST and fault.nature(seen, has)
        if has.any() and not hidden:
            findings.append(Finding(kind, tuple(groups_of(seen[has], fault))))
        if len(seen) >= FEWEST and float(has.mean()) > MANY:
            share = f"{has.sum():,} of {len(seen):,} images {fault.words}"
            notes.append(f"{share}: {HIDDEN if hidden else LISTED}")
    lost = looks.loc[~looks["readable"], "name"]
    if len(lost):
        notes.append(f"{len(lost):,} images can no longer be read, such as {lost.iloc[0]}.")
    return findings, notes


def groups_of(hit: pd.DataFrame, fault: Fault) -> Iterator[Group]:
    """One entry an image, by name."""
    for _, row in hit.sort_values("name").iterrows():
        yield Group((row["name"],), fault.about(row))
