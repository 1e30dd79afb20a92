"""A part of the Evaluate page: the classifier tried on another labelled dataset."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.data import dataset as datasets
from core.runs.run import Run
from core.storage import Json
from pages import widgets, working

# What the page is to show when it is drawn again: its own choice may not be set once it is drawn.
SHOWN_NEXT = "tried now"


def view(run: Run) -> None:
    """Try the classifier on a zip, or on a dataset that is here; how far that is."""
    job = next(iter(jobs.of("score", run=run.id)), None)
    live = job is not None and job.state in jobs.LIVE
    if job is not None and working.just_done(job):
        st.session_state[SHOWN_NEXT] = (job.result or {})["on"]
        st.rerun()
    if job is not None and live:
        working.follow(job)
    elif job is not None and job.id in working.awaited():
        working.failure(job)
    with st.expander("Try it on other labelled photos", icon=":material/fact_check:"):
        st.caption(
            "How good is it on next month's photos, or on another camera's? Folders are named as "
            "in training; every image counts as a test image."
        )
        left, right = st.columns(2)
        with left:
            arrived = widgets.upload(f"try {run.id}")
        with right:
            here = [
                widgets.dataset_label(one["id"], one["name"])
                for one in datasets.summaries()
                if (one["id"], one["revision"]) != (run.dataset, run.revision)
            ]
            chosen = st.selectbox("Or a dataset that is here", here, index=None, key="try dataset")
            pressed = st.button("Try it", key="try", disabled=chosen is None or live)
        if arrived:
            begin(run, {"upload": arrived["id"], "name": arrived["name"]})
        if pressed and chosen:
            begin(run, {"dataset": widgets.id_of(chosen)})


def begin(run: Run, values: Json) -> None:
    """Start the job."""
    job = widgets.refused(
        lambda: jobs.start("score", {"run": run.id, **values}, "Trying it on other photos")
    )
    if job is not None:
        working.awaited().add(job.id)
        st.rerun()
