"""A part of the Data page: datasets that imports made are opened, or told of with a way to them."""

from __future__ import annotations

import streamlit as st

from core.data import dataset as datasets
from core.data.dataset import Dataset
from core.jobs import Job
from core.storage import Json
from pages import widgets


def own_imports() -> set[str]:
    """The imports that this session started: only these may open another dataset here."""
    found: set[str] = st.session_state.setdefault("imports_started", set())
    return found


def pending() -> dict[str, bool]:
    """Datasets that arrived and may not be open: by id, whether their photos were here before."""
    found: dict[str, bool] = st.session_state.setdefault("arrivals", {})
    return found


def announce(job: Job) -> None:
    """Say what an import came to; open what is new, if this session asked for it.

    To be called before the picker of datasets is drawn.
    """
    result = job.result or {}
    facts = facts_of(result.get("dataset", ""))
    if facts is None:
        return
    known = bool(result.get("known"))
    pending()[facts["id"]] = known
    if known:
        return
    st.toast(words(facts, known=False), icon=":material/check_circle:", duration="long")
    if job.id in own_imports():
        widgets.choose_dataset(widgets.dataset_label(facts["id"], facts["name"]))


def facts_of(dataset_id: str) -> Json | None:
    """The summary of a dataset; None if it is gone."""
    return next((facts for facts in datasets.summaries() if facts["id"] == dataset_id), None)


def words(facts: Json, *, known: bool) -> str:
    """What an import came to, as Markdown."""
    name = widgets.plain(facts["name"].strip())
    if known:
        return f"You already have these photos as *{name}*."
    holds = f"{facts['images']:,} images in {len(facts['classes']):,} classes"
    if facts["revision"] == 1:
        return f"{name} is imported: {holds}."
    return f"{name} is at revision {facts['revision']} now: {holds}."


def notices(current: Dataset) -> None:
    """What arrived and is not open, with a button that opens it; photos that were here before."""
    if not pending().get(current.id, True):
        del pending()[current.id]
    for dataset_id, known in list(pending().items()):
        facts = facts_of(dataset_id)
        if facts is None:
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(words(facts, known=known), icon=":material/photo_library:")
            if dataset_id != current.id:
                st.button("Open it", key=f"open {dataset_id}", on_click=show, args=[facts])
            st.button(
                "Close", key=f"close {dataset_id}", on_click=pending().pop, args=[dataset_id, None]
            )


def show(facts: Json) -> None:
    """Open a dataset that a notice tells of."""
    pending().pop(facts["id"], None)
    widgets.choose_dataset(widgets.dataset_label(facts["id"], facts["name"]))
