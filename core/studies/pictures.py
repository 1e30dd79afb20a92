"""Charts of a search: what each trial came to, which values go with it, what matters."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10

import plotly.graph_objects as go

from core.evaluation.charts import LEAST_HEIGHT, ROW_HEIGHT, figure, shown
from core.reference import label_of
from core.studies.outcomes import Progress, pareto
from core.studies.trials import COMPLETE, PRUNED

STATES = {COMPLETE: ("trained to its end", "circle"), PRUNED: ("given up early", "x")}
# From bad to good: dark is good, as everywhere on these pages.
SCALE = "Blues"
# So few trials each have a tick of their own.
FEW = 12
# Ticks of a logarithmic axis that are nearer, in powers of ten, would lie on each other.
NEAR = 0.2


def history(found: Progress) -> go.Figure:
    """The figure of each trial in the order of the trials, the best so far, and the start."""
    title = found.plan.judge.title
    chart = figure(f"{title} by trial", 340)
    for state, (name, symbol) in STATES.items():
        points = [(r["number"], value) for r in found.records
                  if r["state"] == state and (value := last_value(r)) is not None]  # fmt: skip
        if points:
            chart.add_scatter(
                x=[x for x, _ in points], y=[y for _, y in points], mode="markers", name=name,
                marker={"symbol": symbol, "size": 8},
                hovertemplate=f"trial %{{x}}, {title} %{{y:.4f}}<extra></extra>",
            )  # fmt: skip
    steps = best_so_far(found)
    if steps:
        chart.add_scatter(
            x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", line={"shape": "hv"},
            name="best so far", hovertemplate="best so far %{y:.4f}<extra></extra>",
        )  # fmt: skip
    if found.base is not None:
        chart.add_hline(
            y=found.base, line={"dash": "dot", "width": 1, "color": "gray"},
            annotation_text="the recipe as it was", annotation_font_size=11,
        )  # fmt: skip
    chart.update_xaxes(title="trial", rangemode="tozero")
    if len(found.records) < FEW:
        chart.update_xaxes(dtick=1)
    chart.update_yaxes(title=title)
    return chart


def last_value(record: Mapping[str, object]) -> float | None:
    """What a trial came to; of one that was given up, its figure at that epoch."""
    values, epochs = record["values"], record["epochs"]
    if values:
        return float(values[0])  # type: ignore[index]
    return float(epochs[-1][1]) if epochs else None  # type: ignore[index]


def best_so_far(found: Progress) -> list[tuple[int, float]]:
    """The best figure after each trial that was trained to its end."""
    steps: list[tuple[int, float]] = []
    for record in found.records:
        if record["state"] == COMPLETE:
            value = float(record["values"][0])
            if steps and not found.plan.judge.better(value, steps[-1][1]):
                value = steps[-1][1]
            steps.append((int(record["number"]), value))
    if steps:
        steps.append((max(int(record["number"]) for record in found.records), steps[-1][1]))
    return steps


def parallel(found: Progress) -> go.Figure:
    """One line for each trial through its values; the darker, the better."""
    complete = [record for record in found.records if record["state"] == COMPLETE]
    values = [float(record["values"][0]) for record in complete]
    axes = [axis(found, record_values(complete, one.name), one.name) for one in found.plan.space]
    axes.append({"label": shown(found.plan.judge.title), "values": values})
    chart = figure("Values of each trial", 400)
    chart.add_parcoords(
        dimensions=axes,
        line={"color": values, "colorscale": SCALE, "showscale": False,
              "reversescale": not found.plan.judge.larger_is_better},
        labelangle=-20, labelside="top",
    )  # fmt: skip
    chart.update_layout(margin={"l": 60, "r": 60, "t": 130, "b": 40})
    return chart


def record_values(records: list[dict[str, object]], name: str) -> list[object]:
    """The values of one field, trial by trial."""
    return [record["params"][name] for record in records]  # type: ignore[index]


def axis(found: Progress, values: list[object], name: str) -> dict[str, object]:
    """One axis: numbers as they are or by their logarithm, names in their order."""
    (one,) = (parameter for parameter in found.plan.space if parameter.name == name)
    label = shown(label_of(name))
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        numbers = [float(v) for v in values]  # type: ignore[arg-type]
        if not one.log:
            return {"label": label, "values": numbers, "tickformat": ".3g"}
        powers = [log10(v) for v in numbers]
        ticks = [tick for tick in range(-12, 13) if min(powers) <= tick <= max(powers)]
        far = (end for end in (min(powers), max(powers)) if all(abs(end - t) > NEAR for t in ticks))
        ends = list(dict.fromkeys(far))  # An axis is drawn from its first tick to its last.
        return {
            "label": label, "values": powers, "tickvals": [*ticks, *ends],
            "ticktext": [f"{10**tick:.2g}" for tick in (*ticks, *ends)],
        }  # fmt: skip
    names = sorted({str(v) for v in values})
    return {
        "label": label, "values": [names.index(str(v)) for v in values],
        "tickvals": list(range(len(names))), "ticktext": [shown(name) for name in names],
    }  # fmt: skip


def importance(found: Mapping[str, float]) -> go.Figure:
    """How much each field explains, the most on top."""
    chart = figure("What matters", max(LEAST_HEIGHT, ROW_HEIGHT * len(found) + 110))
    chart.add_bar(
        y=[shown(label_of(name)) for name in found], x=[*found.values()], orientation="h",
        hovertemplate="%{y}: %{x:.0%} of the differences<extra></extra>",
    )  # fmt: skip
    chart.update_yaxes(autorange="reversed", automargin=True)
    chart.update_xaxes(title="share explained", tickformat=".0%")
    return chart


def front(found: Progress) -> go.Figure:
    """Figure against time for one image; the line joins those that no other beats in both."""
    title, best = found.plan.judge.title, pareto(found)
    complete = {r["number"]: r["values"] for r in found.records if r["state"] == COMPLETE}
    chart = figure(f"{title} against milliseconds", 340)
    chart.add_scatter(
        x=[v[1] for v in complete.values()], y=[v[0] for v in complete.values()], mode="markers",
        customdata=[*complete], name="trials",
        hovertemplate=f"trial %{{customdata}}: {title} %{{y:.4f}}, %{{x:.1f}} ms<extra></extra>",
    )  # fmt: skip
    chart.add_scatter(
        x=[complete[n][1] for n in best], y=[complete[n][0] for n in best], mode="lines+markers",
        marker={"symbol": "diamond", "size": 10}, name="beaten by none in both", customdata=best,
        hovertemplate="trial %{customdata}<extra></extra>",
    )  # fmt: skip
    chart.update_xaxes(title="milliseconds an image", rangemode="tozero")
    chart.update_yaxes(title=title)
    return chart
