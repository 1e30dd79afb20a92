"""The confusion matrix as people look at it: counts or shares, classes in an order that tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from core.evaluation.charts import figure, shown
from core.machine import late_pandas as pd

# Classes up to which a table's cells are colored: Streamlit takes 262,144 of them.
MOST_STYLED = 500
# Classes up to which the best order takes no time that is noticed.
MOST_ORDERED = 200
COUNTS = "counts"
# What each cell is a share of: the axis that is summed over.
SHARES = {"shares of the true class": 1, "shares of the predicted class": 0}
KINDS = (COUNTS, *SHARES)


def by_name(counts: np.ndarray) -> np.ndarray:
    """The classes as they are, which is by name."""
    return np.arange(len(counts))


def by_likeness(counts: np.ndarray) -> np.ndarray:
    """The order C int64 of classes in which those that are confused stand beside each other.

    counts: C×C, row true, column predicted. Average linkage of the shares that are confused, its
    leaves in the best order (Bar-Joseph et al. 2001; scipy); of over 200 in a good one.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    if len(counts) < 3:
        return by_name(counts)
    shares = divided(counts, 1)
    likeness = np.nan_to_num(shares + shares.T) / 2
    distances = 1 - likeness
    np.fill_diagonal(distances, 0)
    condensed = squareform(distances, checks=False)
    tree = linkage(condensed, "average")
    if len(counts) <= MOST_ORDERED:
        tree = optimal_leaf_ordering(tree, condensed)
    return np.asarray(leaves_list(tree), dtype=np.int64)


ORDERS = {"by name": by_name, "by likeness": by_likeness}


def divided(counts: np.ndarray, axis: int) -> np.ndarray:
    """Counts C×C as shares of their sum along an axis: NaN where that is 0."""
    totals = counts.sum(axis=axis, keepdims=True)
    undefined = np.full(counts.shape, np.nan)
    return np.asarray(np.divide(counts, totals, out=undefined, where=totals > 0))


def table(counts: np.ndarray, classes: Sequence[str], kind: str, order: np.ndarray) -> pd.DataFrame:
    """The confusion matrix as a table: rows are true classes, columns predicted ones.

    kind: one of `KINDS`. order: of the classes, C int64. Shares of nothing are NaN.
    """
    values = divided(counts, SHARES[kind]) if kind in SHARES else counts
    names = [classes[k] for k in order]
    return pd.DataFrame(values[np.ix_(order, order)], index=names, columns=names)


def pairs(counts: np.ndarray, classes: Sequence[str], most: int = 100) -> pd.DataFrame:
    """The pairs of classes that are confused most: true, predicted, images, share of the true."""
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, wrong.shape)
    keep = wrong[rows, columns] > 0
    rows, columns = rows[keep], columns[keep]
    return pd.DataFrame(
        {
            "true class": [classes[k] for k in rows],
            "classified as": [classes[k] for k in columns],
            "images": wrong[rows, columns],
            "share": wrong[rows, columns] / counts.sum(axis=1)[rows],
        }
    )


def picture(counts: np.ndarray, classes: Sequence[str], order: np.ndarray) -> go.Figure:
    """The confusion matrix as a picture, for more classes than a table shows at once."""
    shares = np.nan_to_num(divided(counts, 1))[np.ix_(order, order)]
    names = [shown(classes[k]) for k in order]
    chart = figure("Share of each true class (row) by what it was classified as", 560)
    chart.add_heatmap(
        z=shares, zmin=0, zmax=1, customdata=np.broadcast_to(names, counts.shape),
        text=np.broadcast_to(np.array(names)[:, None], counts.shape),
        hovertemplate="%{text} → %{customdata}: %{z:.0%}<extra></extra>",
        colorbar={"tickformat": ".0%"},
    )  # fmt: skip
    chart.update_yaxes(autorange="reversed", showticklabels=False, title="true class")
    chart.update_xaxes(showticklabels=False, title="classified as")
    return chart


def styled(found: pd.DataFrame, kind: str) -> pd.io.formats.style.Styler | pd.DataFrame:
    """A confusion table with cells colored by their share: blue right, orange wrong."""
    if len(found) > MOST_STYLED:
        return found
    values = found.to_numpy(dtype=float)
    strength = values if kind in SHARES else divided(values, 1)
    colors = np.where(np.eye(len(found), dtype=bool), "0, 114, 178", "213, 94, 0")
    css = [
        [
            f"background-color: rgba({color}, {0.75 * share:.2f})" if share > 0 else ""
            for color, share in zip(*row, strict=True)
        ]
        for row in zip(colors, np.nan_to_num(strength), strict=True)
    ]
    sheet = pd.DataFrame(css, index=found.index, columns=found.columns)
    form = "{:.0%}" if kind in SHARES else "{:.0f}"
    # Empty cells stay empty: the eye then finds the confusions.
    return found.style.apply(lambda _: sheet, axis=None).format(
        lambda value: form.format(value) if float(str(value)) > 0 else ""
    )


def changes(before: np.ndarray, after: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """The cells in which two matrices C×C of the same images differ, the largest change first."""
    cells = np.argwhere(before != after)
    rows = [
        {
            "true class": classes[true],
            "classified as": classes[given],
            "by the most probable class": int(before[true, given]),
            "with the thresholds": int(after[true, given]),
            "right": "yes" if true == given else "no",
        }
        for true, given in cells[np.argsort(-np.abs(after - before)[tuple(cells.T)], kind="stable")]
    ]
    return pd.DataFrame(rows)
