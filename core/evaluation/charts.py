"""Plotly figures from plain data; colors come from the page's theme."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from core.data.split import PARTS
from core.evaluation.curves import Curve
from core.machine import late_pandas as pd
from core.training.events import PHASES, EpochEnded, Step

PART_TITLES = {"train": "training", "val": "validation", "test": "test"}
LONGEST_NAME = 40
# More curves than this are told apart by hovering, not by a legend.
MOST_IN_LEGEND = 12
# Fewer points than this are marked; more ticks than this are too many for whole epochs.
FEW_POINTS, MOST_TICKS = 60, 10
ROW_HEIGHT, LEAST_HEIGHT = 22, 240
# The range test is drawn up to this many times its first loss.
RANGE_TEST_CUT = 3
# The ten colors of the theme come round again with another symbol.
SYMBOLS = ("circle", "diamond", "cross", "triangle-up", "square", "x", "star", "pentagon")


class Axes(NamedTuple):
    """What the axes of a curve are called, and whether guessing lies on their diagonal."""

    x: str
    y: str
    guessing: bool


AXES = {
    "ROC": Axes("false positive rate", "true positive rate", True),
    "Precision and recall": Axes("recall", "precision", False),
}
MARGIN = {"l": 8, "r": 8, "t": 36, "b": 8}


def shown(name: str) -> str:
    """A class or file name as plotly shows it: literally, on one line, not too long."""
    line = " ".join(str(name).split())
    cut = line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"
    return html.escape(cut)


def figure(title: str, height: int = 320) -> go.Figure:
    """An empty figure in the house's layout."""
    chart = go.Figure()
    chart.update_layout(
        title={"text": title, "font": {"size": 14}}, height=height, margin=MARGIN,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        uirevision="keep", hovermode="closest",
    )  # fmt: skip
    return chart


def class_counts(table: pd.DataFrame) -> go.Figure:
    """Images of each class, stacked by part; `table` is `split.per_class`'s."""
    height = max(LEAST_HEIGHT, ROW_HEIGHT * len(table) + 110)
    chart = figure("Images of each class", min(height, 1600))
    names = [shown(name) for name in table.index]
    for part in PARTS:
        chart.add_bar(
            y=list(range(len(table))), x=table[part], name=PART_TITLES[part], orientation="h",
            customdata=names,
            hovertemplate="%{customdata}: %{x} " + PART_TITLES[part] + "<extra></extra>",
        )  # fmt: skip
    chart.update_layout(barmode="stack")
    chart.update_yaxes(
        tickvals=list(range(len(table))), ticktext=names, autorange="reversed", automargin=True
    )
    chart.update_xaxes(title="images")
    return chart


def by_epoch(epochs: Sequence[EpochEnded], figure_name: str) -> go.Figure:
    """Loss or accuracy by epoch, training and validation, for the last phase that has epochs."""
    chart = figure(f"{figure_name.capitalize()} by epoch")
    if not epochs:
        return chart
    phase = epochs[-1].phase
    chosen = [e for e in epochs if e.phase == phase]
    lines = {
        "training": [(e.epoch, e.train.get(figure_name)) for e in chosen if e.train],
        "validation": [(e.epoch, e.val.get(figure_name)) for e in chosen],
    }
    for name, points in lines.items():
        x, y = [p[0] for p in points], [p[1] for p in points]
        add_course(chart, x, y, name)
    best = [e for e in chosen if e.best]
    if best:
        chart.add_vline(x=best[-1].epoch, line_dash="dot", annotation_text="best")
    set_epochs(chart, chosen)
    set_values(chart, figure_name, [y for points in lines.values() for _, y in points])
    return chart


def add_course(
    chart: go.Figure, x: Sequence[float], y: Sequence[float | None], name: str = ""
) -> None:
    """A line whose points can be seen where they are few, also one alone and on an axis."""
    few = len(x) <= FEW_POINTS
    chart.add_scatter(
        x=x, y=y, name=name, mode="lines+markers" if few else "lines", cliponaxis=False,
        marker={"size": 10 if len(x) == 1 else 5},
    )  # fmt: skip


def set_epochs(chart: go.Figure, epochs: Sequence[EpochEnded]) -> None:
    """An axis of whole epochs, from 0 to as many as are planned."""
    last, phase = epochs[-1].epochs, epochs[-1].phase
    chart.update_xaxes(
        title=f"epoch ({PHASES[phase].lower()})", range=[0, max(1, last)], tick0=0,
        dtick=max(1, math.ceil(last / MOST_TICKS)), tickformat="d",
    )  # fmt: skip


def set_values(chart: go.Figure, what: str, values: Sequence[float | None]) -> None:
    """An axis of accuracies from 0 to 100 %; of losses or rates from 0 to a little above them."""
    if what == "accuracy":
        chart.update_yaxes(range=[0, 1], tickformat=".0%")
        return
    known = [value for value in values if value is not None and math.isfinite(value)]
    most = max(known, default=0.0) or 1.0
    chart.update_yaxes(range=[0, 1.08 * most], tickformat=".2~g" if what == "rate" else None)


def rate_by_epoch(epochs: Sequence[EpochEnded]) -> go.Figure:
    """Learning rate at the end of each epoch of the last phase."""
    chart = figure("Learning rate by epoch", 240)
    chosen = [e for e in epochs if e.phase == epochs[-1].phase]
    rates = [e.learning_rate for e in chosen]
    add_course(chart, [e.epoch for e in chosen], rates)
    set_epochs(chart, chosen)
    set_values(chart, "rate", rates)
    return chart


def by_step(steps: Sequence[Step], what: str) -> go.Figure:
    """Loss, accuracy of the batch, or learning rate by training step, of the last phase."""
    titles = {
        "loss": "Training loss by step",
        "accuracy": "Training accuracy by step",
        "rate": "Learning rate by step",
    }
    chart = figure(titles[what])
    if steps:
        chosen = thinned([s for s in steps if s.phase == steps[-1].phase])
        x, y = [s.step for s in chosen], [getattr(s, what) for s in chosen]
        add_course(chart, x, y, what)
        set_values(chart, what, y)
        # Whole steps; at a training's start they would be told in fractions.
        steps_between = {"dtick": 1} if x[-1] <= MOST_TICKS else {}
        chart.update_xaxes(range=[0, max(1, x[-1])], tickformat=",d", **steps_between)
    chart.update_xaxes(title="step")
    return chart


def range_test(steps: Sequence[Step], chosen: float | None) -> go.Figure:
    """Training loss against the learning rate, which grew from step to step; the chosen one."""
    chart = figure("Range test: loss by learning rate", 280)
    finite = [s for s in steps if s.loss is not None and s.rate]
    chart.add_scatter(x=[s.rate for s in finite], y=[s.loss for s in finite], mode="lines+markers",
                      marker={"size": 4}, name="loss")  # fmt: skip
    if finite:
        # Far above its start the loss says no more than that: its end would hide its course.
        most = RANGE_TEST_CUT * finite[0].loss
        chart.update_yaxes(range=[0, max(most, 1e-3)])
    if chosen:
        chart.add_vline(x=chosen, line_dash="dot", annotation_text=f"chosen: {chosen:.2g}")
    chart.update_xaxes(type="log", title="learning rate", tickformat=".0e")
    return chart


def thinned(steps: list[Step], most: int = 2000) -> list[Step]:
    """At most about `most` of the steps, evenly: a screen shows no more."""
    return steps[:: max(1, len(steps) // most)]


def curves(kind: str, found: Sequence[Curve]) -> go.Figure:
    """Curves of a kind with their areas; that of all classes thick, those of each class thin."""
    axes = AXES[kind]
    chart = figure(f"{kind} curves", 460)
    for curve in found:
        chart.add_scatter(
            x=curve.x, y=curve.y, mode="lines",
            name=f"{shown(curve.title)} (area {curve.area:.3f})",
            line={"width": 3, "dash": "dash"} if curve.average else {"width": 1.5},
            showlegend=curve.average or len(found) <= MOST_IN_LEGEND,
            hovertemplate=f"{shown(curve.title)}<br>"
            f"{axes.x} %{{x:.1%}}, {axes.y} %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    if axes.guessing:
        chart.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "width": 1, "color": "gray"},
            name="guessing", showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    chart.update_xaxes(title=axes.x, range=[-0.01, 1.01], tickformat=".0%")
    chart.update_yaxes(title=axes.y, range=[-0.01, 1.02], tickformat=".0%")
    return chart


def probabilities(classes: Sequence[str], values: Sequence[float], most: int = 10) -> go.Figure:
    """The most probable classes as bars, the first on top."""
    names, shares = [shown(name) for name in classes[:most]], list(values[:most])
    chart = figure("", ROW_HEIGHT * len(names) + 70)
    chart.add_bar(
        x=shares, y=list(range(len(names))), orientation="h",
        text=[f"{share:.1%}" for share in shares], textposition="auto", hoverinfo="skip",
    )  # fmt: skip
    chart.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, autorange="reversed", automargin=True
    )
    chart.update_xaxes(range=[0, 1], tickformat=".0%")
    chart.update_layout(margin={**MARGIN, "t": 8})
    return chart


def embedding(points: pd.DataFrame) -> go.Figure:
    """Images as points, those alike near each other; one color and symbol for each `kind`.

    points: `name` of the image, `x`, `y`, and `kind` (text). Each point carries its image's name
    as the first of its custom data.
    """
    chart = figure("", 560)
    kinds = sorted(points["kind"].unique())
    for number, kind in enumerate(kinds):
        rows = points[points["kind"] == kind]
        chart.add_scattergl(
            x=rows["x"], y=rows["y"], mode="markers", name=shown(kind),
            customdata=[[name, shown(name.rpartition("/")[2])] for name in rows["name"]],
            marker={"size": 7, "opacity": 0.85, "symbol": SYMBOLS[number // 10 % len(SYMBOLS)]},
            unselected={"marker": {"opacity": 0.2}},
            hovertemplate="%{customdata[1]}<extra>" + shown(kind) + "</extra>",
        )  # fmt: skip
    chart.update_layout(
        showlegend=len(kinds) <= MOST_IN_LEGEND, dragmode="lasso",
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0, "xanchor": "left"},
    )  # fmt: skip
    # Only what lies near what means anything: neither axis has a unit.
    chart.update_xaxes(visible=False)
    chart.update_yaxes(visible=False, scaleanchor="x")
    return chart
