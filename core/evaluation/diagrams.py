"""Plotly figures of how sure a classifier is: reliability, operating points, images as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.evaluation.charts import AXES, MARGIN, curves, figure, shown
from core.evaluation.curves import Curve
from core.evaluation.intervals import Figure, wilson
from core.evaluation.reliability import Reliability

# Lines of like colors are told apart by these.
DASHES = ("solid", "dash", "dot", "dashdot")


def reliability(found: Mapping[str, Reliability]) -> go.Figure:
    """Accuracy by confidence, with 95 % intervals, and below how many images each bin has.

    found: by what each is called, the one that counts last: its images are the bars.
    """
    chart = make_subplots(
        rows=2, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.05
    )
    chart.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "width": 1, "color": "gray"},
        name="perfectly calibrated", hoverinfo="skip", row=1, col=1,
    )  # fmt: skip
    for name, one in found.items():
        ends = [wilson(*bin_) for bin_ in zip(one.right.tolist(), one.images.tolist(), strict=True)]
        above = [high - y for (_, high), y in zip(ends, one.accuracy, strict=True)]
        below = [y - low for (low, _), y in zip(ends, one.accuracy, strict=True)]
        chart.add_scatter(
            x=one.confidence, y=one.accuracy, mode="lines+markers", name=shown(name),
            error_y={"array": above, "arrayminus": below, "thickness": 1}, customdata=one.images,
            hovertemplate="confidence %{x:.1%}, right %{y:.1%} of %{customdata}<extra></extra>",
            row=1, col=1,
        )  # fmt: skip
    last = [*found.values()][-1]
    chart.add_bar(
        x=last.confidence, y=last.images, width=0.04, showlegend=False,
        hovertemplate="%{y} images<extra></extra>", row=2, col=1,
    )  # fmt: skip
    chart.update_layout(
        height=480, margin=MARGIN, uirevision="keep",
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )  # fmt: skip
    chart.update_xaxes(range=[0, 1.02], tickformat=".0%")
    chart.update_xaxes(title="confidence", row=2)
    chart.update_yaxes(title="share that is right", range=[0, 1.05], tickformat=".0%", row=1)
    chart.update_yaxes(title="images", row=2)
    return chart


def operating(kind: str, curve: Curve, x: float, y: float) -> go.Figure:
    """A class's curve of a kind, with the chosen operating point on it."""
    chart = curves(kind, [curve])
    axes = AXES[kind]
    chart.add_scatter(
        x=[x], y=[y], mode="markers", marker={"size": 14, "symbol": "diamond"}, name="chosen point",
        hovertemplate=f"{axes.x} %{{x:.1%}}, {axes.y} %{{y:.1%}}<extra></extra>",
    )  # fmt: skip
    chart.update_layout(height=340)
    return chart


def overlaid(kind: str, found: Mapping[str, Curve]) -> go.Figure:
    """One curve of each of several runs, by what the run is called, over each other."""
    chart = curves(kind, [])
    axes = AXES[kind]
    for number, (name, curve) in enumerate(found.items()):
        chart.add_scatter(
            x=curve.x, y=curve.y, mode="lines",
            line={"width": 2, "dash": DASHES[number % len(DASHES)]},
            name=f"{shown(name)} (area {curve.area:.3f})",
            hovertemplate=f"{axes.x} %{{x:.1%}}, {axes.y} %{{y:.1%}}<extra>{shown(name)}</extra>",
        )  # fmt: skip
    chart.update_layout(title_text=f"{kind} of all classes as one")
    return below(chart)


def below(chart: go.Figure) -> go.Figure:
    """A chart with its legend below it, where long names have a line each."""
    chart.update_layout(
        legend={"orientation": "v", "y": -0.2, "yanchor": "top", "x": 0, "xanchor": "left"}
    )
    return chart


def accuracy_by_time(
    names: Sequence[str], milliseconds: Sequence[float], found: Sequence[Figure]
) -> go.Figure:
    """Accuracy with its 95 % interval over the time for one image: a point for each run."""
    chart = figure("Accuracy against time for one image", 380)
    for name, time, one in zip(names, milliseconds, found, strict=True):
        value, low, high = one.value or 0.0, one.low or 0.0, one.high or 0.0
        chart.add_scatter(
            x=[time], y=[value], mode="markers", name=shown(name), marker={"size": 11},
            error_y={"array": [high - value], "arrayminus": [value - low], "thickness": 1.2},
            hovertemplate=f"%{{x:.3g}} ms, {value:.1%} right (95 %: {low:.1%} to {high:.1%}, "
            f"n = {one.n:,})<extra>{shown(name)}</extra>",
        )  # fmt: skip
    chart.update_xaxes(title="milliseconds for one image", rangemode="tozero")
    chart.update_yaxes(title="test accuracy", tickformat=".0%")
    return below(chart)
