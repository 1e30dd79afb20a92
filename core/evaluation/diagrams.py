"""Plotly figures of how sure a classifier is: reliability, operating points, images as points."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.evaluation.charts import AXES, MARGIN, curves, shown
from core.evaluation.curves import Curve
from core.evaluation.intervals import wilson
from core.evaluation.reliability import Reliability


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
