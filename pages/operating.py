"""A part of the Evaluate page: how sure the classifier must be of a class before it says so."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core.evaluation import confusions, curves, diagrams, metrics, mistakes, thresholds
from core.evaluation.intervals import Figure
from core.evaluation.report import Evaluation
from core.evaluation.thresholds import Point
from core.runs.run import Run
from pages import widgets


def view(run: Run, found: Evaluation) -> None:
    """A class's operating point: move it, see what changes, keep it."""
    kept = thresholds.kept(run.model)
    st.caption(
        "Usually an image is given its most probable class. With a threshold of its own, a class "
        "is given as soon as its probability reaches that: lower to miss fewer, higher for fewer "
        "false alarms. Choose on validation images, then look at what it does on test images."
    )
    left, right = st.columns([2, 3])
    with left:
        name = st.selectbox(
            "Class", found.classes, index=weakest(found), key=f"operating class {run.id}",
            format_func=lambda one: f"{one} (kept: {kept[one]:g})" if one in kept else one,
        )  # fmt: skip
        by_cost(run, found, name)
    with right:
        limit = chosen(run, kept, name)
        number = found.classes.index(name)
        limits = {**kept, name: limit}
        given = thresholds.decided(found.scores.probabilities, found.classes, limits)
        point = thresholds.point(found.scores.labels, given, number)
        told(point, thresholds.point(found.scores.labels, found.scores.predicted, number))
        keeping(run, kept, name, limit)
    drawn(found, number, point)
    changes(found, given)


def weakest(found: Evaluation) -> int:
    """The number of the class whose images are missed most."""
    recall = [1.0 if value is None else float(value) for value in found.per_class["recall"]]
    return recall.index(min(recall))


def chosen(run: Run, kept: dict[str, float], name: str) -> float:
    """The threshold that is looked at."""
    key = f"threshold {run.id} {name}"
    # Set by choosing by cost; a widget's own value may not be set while it is drawn.
    if (asked := st.session_state.pop(f"asked {key}", None)) is not None:
        st.session_state[key] = asked
    st.session_state.setdefault(key, kept.get(name, 0.5))
    return float(
        st.slider(
            f"Threshold of {name}", thresholds.LEAST, thresholds.MOST, step=0.001, key=key,
            format="%.3f",
        )
    )  # fmt: skip


def told(point: Point, before: Point) -> None:
    """What the point means, beside the rule of the most probable class."""
    titles = {
        "Recall": (point.recall, before.recall, "Of the class's images, the share that is found."),
        "Precision": (
            point.precision, before.precision, "Of those given the class, the share that is of it.",
        ),
        "False alarms": (
            point.false_alarms, before.false_alarms,
            "Of a hundred images of other classes, how many are given this one.",
        ),
    }  # fmt: skip
    for column, (title, (now, then, help_)) in zip(st.columns(3), titles.items(), strict=True):
        alarms = title.startswith("False")
        with column.container(border=True):
            st.metric(
                title, written(now), help=help_, delta=difference(now, then),
                delta_color="inverse" if alarms else "normal",
            )  # fmt: skip
            if now.value is not None and now.low is not None and now.high is not None:
                st.caption(f"95 %: {now.low:.1%} to {now.high:.1%}, n = {now.n:,}")


def written(figure: Figure) -> str:
    """A share as a percentage: so many of a hundred."""
    return "not defined" if figure.value is None else f"{figure.value:.1%}"


def difference(now: Figure, then: Figure) -> str | None:
    """By how many points of a hundred a share differs from the usual rule's."""
    if now.value is None or then.value is None:
        return None
    change = round(100 * (now.value - then.value), 1)
    return f"{change:+}" if change else None


def by_cost(run: Run, found: Evaluation, name: str) -> None:
    """Choose the threshold that costs least on validation images."""
    with st.form("costs"):
        st.markdown("**Or by what an error costs**")
        miss = st.number_input("An image of the class is missed", 0.0, value=1.0, key="miss cost")
        alarm = st.number_input("Another one is taken for it", 0.0, value=1.0, key="alarm cost")
        pressed = st.form_submit_button(
            "Choose on validation images", icon=":material/savings:",
            help="Only the ratio of both counts.",
        )  # fmt: skip
    if not pressed:
        return
    held_out = mistakes.stored(run.predictions).part("val")
    best = widgets.refused(lambda: thresholds.by_cost(held_out, found.classes, name, miss, alarm))
    if best is not None:
        st.session_state[f"asked threshold {run.id} {name}"] = best
        st.rerun()


def keeping(run: Run, kept: dict[str, float], name: str, limit: float) -> None:
    """Keep the threshold with the classifier, or take it away."""
    with st.container(horizontal=True):
        keep = st.button(
            "Keep this threshold", type="primary", icon=":material/save:", key="keep threshold",
            disabled=kept.get(name) == limit,
            help="Predict, the shell and exports of this classifier decide by it from then on.",
        )  # fmt: skip
        drop = st.button(
            "Remove it", icon=":material/delete:", key="drop threshold", disabled=name not in kept
        )
    if keep or drop:
        others = {one: value for one, value in kept.items() if one != name}
        now = {**others, name: limit} if keep else others
        widgets.refused(lambda: thresholds.keep(run.model, run.classes, now))
        st.rerun()


def drawn(found: Evaluation, number: int, point: Point) -> None:
    """The class's curves with the point on them."""
    truth = found.scores.labels == number
    ranks = curves.ranked(truth, found.scores.probabilities[:, number])
    recall, alarms = point.recall.value, point.false_alarms.value
    if ranks is None or recall is None or alarms is None:
        st.info("A curve needs images of this class and of others.")
        return
    places = {"ROC": (alarms, recall), "Precision and recall": (recall, point.precision.value)}
    for column, (kind, (x, y)) in zip(st.columns(2), places.items(), strict=True):
        curve = curves.thinned(curves.CURVES[kind](ranks, found.classes[number]))
        chart = diagrams.operating(kind, curve, x, 0.0 if y is None else y)
        column.plotly_chart(chart, key=f"operating {kind}", alt=f"{kind} curve with the point")


def changes(found: Evaluation, given: np.ndarray) -> None:
    """What the threshold changes in the confusion matrix, cell by cell."""
    after = metrics.confusion(found.scores.labels, given, len(found.classes))
    rows = confusions.changes(found.confusion, after, found.classes)
    st.subheader("What changes")
    if not len(rows):
        st.caption("No image is given another class than the most probable one.")
        return
    st.dataframe(rows, hide_index=True, alt="Cells of the matrix that change")
