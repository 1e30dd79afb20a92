"""A part of the Data page: all images as points, alike ones near each other."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core import jobs
from core.auditing import map as maps
from core.data.dataset import Dataset
from core.evaluation import charts
from core.runs import run as runs
from core.runs.run import Run
from core.serving.coloring import COLORINGS
from pages import corrections, widgets, working

HELP = (
    "The bundled network looks at every image; PCA and t-SNE (van der Maaten and Hinton 2008) lay "
    "out what it saw so that alike images lie near each other. Only who is near whom means "
    "anything: neither the axes nor the size of a cluster does."
)
ACTIONS = ("relabel", "exclude")


def view(dataset: Dataset) -> None:
    """The map, or how to have it drawn; the images of the chosen points below it."""
    job = next(iter(jobs.of("map", dataset=dataset.id)), None)
    live = job is not None and job.state in jobs.LIVE
    if job is not None and live:
        working.follow(job)
    elif job is not None:
        working.failure(job)
    points = maps.load(dataset)
    if points is None:
        st.caption(HELP)
        draw(dataset, "Draw the map", live=live)
        return
    if absent := maps.missing(dataset, points):
        st.info(
            f"{absent:,} of {len(dataset.table):,} images are not on this map: they came after it "
            "was drawn.", icon=":material/info:",
        )  # fmt: skip
        draw(dataset, "Draw again", live=live)
    if job is not None and job.result and job.result["note"]:
        st.caption(widgets.plain(job.result["note"]))
    chosen = drawn(dataset, points)
    if not chosen:
        st.caption("Draw around points to see their images; a click takes one.")
        return
    corrections.images(
        dataset, "images of the map", corrections.offered(*ACTIONS), names=chosen, place="map"
    )


def draw(dataset: Dataset, label: str, *, live: bool) -> None:
    """The button that has the map of this revision drawn."""
    if not live and st.button(label, icon=":material/scatter_plot:", key="draw_map"):
        values = {"dataset": dataset.id, "revision": dataset.revision}
        widgets.refused(lambda: jobs.start("map", values, "Drawing the map"))
        st.rerun()


def drawn(dataset: Dataset, points: pd.DataFrame) -> list[str]:
    """The map in colors; the names of the images that the user has chosen in it."""
    left, right = st.columns([3, 2])
    by = left.segmented_control(
        "Color by", list(COLORINGS), default="class", required=True, key="color_by", help=HELP,
        format_func=lambda key: COLORINGS[key].title,
    )  # fmt: skip
    run = None
    if by == "error":
        with right:
            run = pick(dataset)
    scores = run.predictions if run else None
    kinds = widgets.refused(lambda: COLORINGS[by].of(dataset, list(points["name"]), scores))
    if kinds is None:
        return []
    event: Any = st.plotly_chart(
        charts.embedding(points.assign(kind=kinds)), key=f"points {by}", on_select="rerun",
        selection_mode=("points", "box", "lasso"), alt="Images as points, alike ones near together",
    )  # fmt: skip
    return [str(point["customdata"][0]) for point in event.selection.points]


def pick(dataset: Dataset) -> Run | None:
    """The training whose errors are shown."""
    found = {
        widgets.run_label(run): run
        for run in runs.listed()
        if run.dataset == dataset.id and run.predictions.exists()
    }
    chosen = st.selectbox(
        "Training", list(found), key="map_run", placeholder="none has finished yet"
    )
    return found.get(chosen or "")
