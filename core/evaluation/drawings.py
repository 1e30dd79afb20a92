"""The figures of an evaluation as matplotlib draws them, without its global state (pyplot).

One at a time: pages and programs ask for them beside each other. The same run gives the same bytes
on the same machine. Names of classes are shown literally: neither `$` nor `_` means anything.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from core.evaluation import confusions
from core.evaluation.curves import Curve
from core.evaluation.tables import (
    CURVE_AXES,
    Results,
    classes_table,
    course_table,
    reliability_table,
)
from core.machine import late_pandas as pd
from core.text import line

if TYPE_CHECKING:  # It takes a third of a second, and pages only need the titles.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Those of the pages on light ground (.streamlit/config.toml): color-blind people tell them apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f",
          "#5b4fa0", "#b5bd3b")  # fmt: skip
RIGHT, WRONG = "#0072b2", "#d55e00"
INK, PALE, GRID = "#1b2a2e", "#b9c4c6", "#e3eaea"
LOOK: Any = {
    "font.size": 9, "text.color": INK, "text.parse_math": False,
    "axes.titlesize": 10, "axes.titlelocation": "left", "axes.labelcolor": INK,
    "axes.edgecolor": PALE, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
    "figure.facecolor": "white", "savefig.facecolor": "white",
    # Text stays text, and nothing in the file is random.
    "svg.fonttype": "none", "svg.hashsalt": "headstart",
}  # fmt: skip
DOTS_PER_INCH = 200  # Twice matplotlib's own.
WIDTH = 7.2  # inches
LONGEST_NAME = 28
# More curves than there are colors are told apart by the worst ones alone.
MOST_NAMED = len(COLORS)
# Classes up to which each cell has its count, and each row and column its name.
MOST_COUNTED, MOST_LABELLED = 40, 200
MOST_BARS = 200
# For names in other scripts, whichever of Linux, macOS and Windows has them.
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Arial Unicode MS",
    "Noto Emoji",
)  # fmt: skip

_one_at_a_time = threading.Lock()


@contextmanager
def drawing() -> Iterator[None]:
    """The house's look, while nobody else draws: matplotlib keeps its settings for all threads."""
    import matplotlib

    with _one_at_a_time, matplotlib.rc_context({**LOOK, "font.sans-serif": fonts()}):
        yield


@cache
def fonts() -> list[str]:
    """The font of all text, and those that are here for letters that it lacks."""
    from matplotlib.font_manager import get_font_names

    # What no font has is a box in a PNG, and a letter where a browser shows the SVG.
    warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
    here = set(get_font_names())
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in here)]


def sheet(height: float, rows: Sequence[float] = (1,), columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure of a height in inches, and its axes; rows: their relative heights."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(
        len(rows), columns, squeeze=False, sharex="col", height_ratios=list(rows)
    )
    return figure, axes.ravel()


def percent(axis: Any) -> None:
    """Write an axis of shares, 0 to 1, in percent."""
    axis.set_major_formatter(lambda share, _: f"{share:.0%}")


def name_of(label: str) -> str:
    """A class as a figure shows it."""
    return line(label, LONGEST_NAME)


def numbers(values: Sequence[float | None]) -> np.ndarray:
    """Values as float64, those that are not defined as NaN, which are not drawn."""
    return np.array(values, dtype=float)


def reach(rows: pd.DataFrame, value: str, low: str, high: str) -> np.ndarray:
    """How far the intervals of N rows reach below and above: 2×N, not below 0 by a rounding."""
    middle, ends = numbers(rows[value].tolist()), [numbers(rows[k].tolist()) for k in (low, high)]
    return np.asarray(np.maximum(0, [middle - ends[0], ends[1] - middle]))


def curves_drawn(kind: str) -> Callable[[Results], Figure]:
    """The curves of a kind: that of all classes dashed; of many classes the worst ones named."""

    def draw(results: Results) -> Figure:
        figure, (axes,) = sheet(4.4)
        found = results.evaluation.curves[kind]
        classes = sorted((c for c in found if not c.average), key=lambda c: c.area)
        named = classes[:MOST_NAMED]
        for curve in classes[MOST_NAMED:]:
            axes.plot(curve.x, curve.y, color=PALE, linewidth=0.6)
        lines = [
            (stroke(axes, curve, color), f"{curve.area:.3f}  {name_of(curve.title)}")
            for curve, color in zip(named, COLORS, strict=False)
        ]
        lines += [
            (stroke(axes, c, INK), f"{c.area:.3f}  {name_of(c.title)}") for c in found if c.average
        ]
        if kind == "ROC":
            axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1)
        rest = len(classes) - len(named)
        axes.legend(
            *zip(*lines, strict=True), loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8,
            title=f"area (the worst of {len(classes)})" if rest else "area", alignment="left",
        )  # fmt: skip
        squared(axes, *CURVE_AXES[kind])
        axes.set_title(results.headed(f"{kind} curves"))
        return figure

    return draw


def stroke(axes: Axes, curve: Curve, color: str) -> Any:
    """One curve on the axes."""
    style, width = ("--", 2.0) if curve.average else ("-", 1.4)
    return axes.plot(curve.x, curve.y, color=color, linestyle=style, linewidth=width)[0]


def squared(axes: Axes, x: str, y: str) -> None:
    """Axes of two shares, with their titles."""
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    percent(axes.xaxis)
    percent(axes.yaxis)


def confusion_drawn(results: Results) -> Figure:
    """The confusion matrix: its color says the share of the true class, blue right, orange wrong.

    Up to 40 classes with counts, up to 200 with names.
    """
    counts, classes = results.evaluation.confusion, results.evaluation.classes
    n = len(classes)
    # Below a tenth of an inch nobody reads a name.
    cell = max(0.1, min(0.42, 12 / n))
    figure, (axes,) = sheet(max(2.6, min(n, MOST_LABELLED) * cell + 2))
    figure.set_figwidth(max(4.4, min(n, MOST_LABELLED) * cell + 2.4))
    axes.imshow(shaded(counts), interpolation="nearest")
    axes.set(xlabel="classified as", ylabel="true class", xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if n <= MOST_LABELLED:
        names, size = [name_of(label) for label in classes], min(9.0, cell * 60)
        axes.set_xticks(range(n), names, rotation=45 if n <= 20 else 90, fontsize=size,
                        ha="right" if n <= 20 else "center", rotation_mode="anchor" if n <= 20
                        else "default")  # fmt: skip
        axes.set_yticks(range(n), names, fontsize=size)
    if n <= MOST_COUNTED:
        shares = np.nan_to_num(confusions.divided(counts, 1))
        for row, column in np.argwhere(counts > 0):
            axes.text(
                column, row, f"{counts[row, column]:,}", ha="center", va="center",
                fontsize=min(9.0, cell * 28),
                color="white" if shares[row, column] > 0.55 else INK,
            )  # fmt: skip
    axes.set_title(results.headed("Confusion matrix"))
    return figure


def shaded(counts: np.ndarray) -> np.ndarray:
    """The colors of the cells of a matrix C×C: C×C×3 in 0–1, white where there is no image."""
    shares = np.nan_to_num(confusions.divided(counts, 1))[..., None] * 0.9
    colors = np.where(np.eye(len(counts), dtype=bool)[..., None], rgb(RIGHT), rgb(WRONG))
    # A single mistake among thousands is still seen.
    strength = np.where(counts[..., None] > 0, np.maximum(shares, 0.08), 0)
    return np.asarray(1 - strength * (1 - colors))


def rgb(color: str) -> np.ndarray:
    """A color as three numbers in 0–1."""
    return np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255


def reliability_drawn(results: Results) -> Figure:
    """Accuracy by confidence with 95 % intervals, and below it the images of each bin."""
    figure, (above, below) = sheet(4.6, rows=(3, 1))
    above.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1)
    table = reliability_table(results)
    last = table["probabilities"].iloc[-1]
    for name, bins in table.groupby("probabilities", sort=False):
        above.errorbar(
            bins["confidence"], bins["share right"],
            yerr=reach(bins, "share right", "share right low", "share right high"),
            color=RIGHT if name == last else WRONG, marker="o", markersize=4, linewidth=1.2,
            elinewidth=0.8, label=name,
        )  # fmt: skip
    told = table[table["probabilities"] == last]
    below.bar(told["confidence"], told["images"], width=0.03, color=RIGHT)
    below.set(xlabel="confidence", ylabel="images", xlim=(-0.01, 1.02))
    percent(below.xaxis)
    above.set(ylabel="share that is right", ylim=(-0.02, 1.04))
    percent(above.yaxis)
    above.legend(loc="upper left", fontsize=8)
    above.set_title(results.headed("Reliability"))
    return figure


def classes_drawn(results: Results) -> Figure:
    """The recall of each class with its 95 % interval, the weakest on top."""
    table = classes_table(results).dropna(subset="recall")
    rows = table.head(MOST_BARS)
    figure, (axes,) = sheet(0.21 * len(rows) + 1.1)
    recall = numbers(rows["recall"].tolist())
    places = np.arange(len(rows))
    axes.errorbar(
        recall, places, xerr=reach(rows, "recall", "recall_low", "recall_high"), fmt="o",
        color=RIGHT, markersize=4, elinewidth=1, capsize=2,
    )  # fmt: skip
    labels = [
        f"{name_of(name)}  (n = {images:,})"
        for name, images in zip(rows["class"], rows["images"], strict=True)
    ]
    axes.set_yticks(places, labels, fontsize=8)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(-0.01, 1.02), xlabel="recall, 95 % interval")
    percent(axes.xaxis)
    weakest = f", the {MOST_BARS} weakest" if len(table) > MOST_BARS else ""
    axes.set_title(results.headed(f"Recall of each class{weakest}"))
    return figure


def course_drawn(results: Results) -> Figure:
    """Loss and accuracy by epoch of the last phase, training and validation, the best marked."""
    table = course_table(results)
    chosen = table[table["phase"] == table["phase"].iloc[-1]]
    figure, both = sheet(3.0, columns=2)
    for axes, what in zip(both, ("loss", "accuracy"), strict=True):
        for name, color in (("training", WRONG), ("validation", RIGHT)):
            axes.plot(
                numbers(chosen["epoch"].tolist()), numbers(chosen[f"{name} {what}"].tolist()),
                color=color, marker="o", markersize=2.5, linewidth=1.2, label=name,
            )  # fmt: skip
        best = chosen.loc[chosen["best so far"] == "yes", "epoch"]
        if len(best):
            axes.axvline(best.iloc[-1], color=INK, linestyle=":", linewidth=1, label="best")
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
    percent(both[1].yaxis)
    both[0].legend(fontsize=8)
    figure.suptitle(chosen["phase"].iloc[-1], x=0.01, ha="left", fontsize=10)
    return figure
