"""A part of the Evaluate page: the images of a part as points, by what the network saw of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from core import jobs
from core.data import dataset as datasets
from core.evaluation import charts, run_map
from core.evaluation.report import Evaluation
from core.runs.run import Run
from core.runs.scored import Scored
from pages import corrections, widgets, working

HELP = (
    "PCA and t-SNE (van der Maaten and Hinton 2008) of the features before the head. Only who is "
    "near whom means anything: neither the axes nor the size of a cluster does."
)


def view(run: Run, images: Scored, found: Evaluation, part: str) -> None:
    """The map, or how to have it drawn; the images of the chosen points below it."""
    job = next(iter(jobs.of("run_map", run=run.id, part=part, on=images.key)), None)
    if job is not None and job.state in jobs.LIVE:
        working.follow(job)
        return
    if job is not None and job.id in working.awaited():
        working.failure(job)
    points = run_map.load(images, part)
    if points is None:
        st.caption(HELP)
        if st.button("Draw the map", icon=":material/scatter_plot:", key="draw run map"):
            values = {"run": run.id, "part": part, "on": images.key}
            widgets.refused(lambda: jobs.start("run_map", values, "Drawing the map"))
            st.rerun()
        return
    kinds = {
        "right or wrong": np.where(points["true"] == points["said"], "right", "wrong"),
        "true class": [found.classes[k] for k in points["true"]],
        "what it said": [found.classes[k] for k in points["said"]],
    }  # fmt: skip
    by = st.segmented_control(
        "Color by", list(kinds), default="right or wrong", required=True, key="run map color",
        help=HELP,
    )  # fmt: skip
    event: Any = st.plotly_chart(
        charts.embedding(points.assign(kind=kinds[by])), key=f"run points {by} {part}",
        on_select="rerun", selection_mode=("points", "box", "lasso"),
        alt="Images as points, alike ones near together",
    )  # fmt: skip
    chosen = [str(point["customdata"][0]) for point in event.selection.points]
    if not chosen:
        st.caption("Draw around points to see their images; a click takes one.")
        return
    dataset = widgets.refused(lambda: datasets.load(images.dataset))
    if dataset is None:
        return
    corrections.images(
        dataset, f"run map {run.id}",
        corrections.offered("relabel", "exclude"), names=chosen, place="run map",
    )  # fmt: skip
