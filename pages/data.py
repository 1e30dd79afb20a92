"""Bring photos in, look at them, find what is wrong with them, and put it right."""

from __future__ import annotations

import streamlit as st

from core.data import dataset as datasets
from pages import (
    arrivals,
    browsing,
    corrections,
    embedding,
    findings,
    history,
    importing,
    overview,
    widgets,
)

VIEWS = {
    "Overview": overview.view,
    "Findings": findings.view,
    "Images": browsing.view,
    "Map": embedding.view,
    "History": history.view,
}

st.title("Data")
st.caption("Bring labelled photos, find what is wrong with them, put it right, and train.")
widgets.damaged_items(datasets.damaged(), datasets.delete)
importing.view(expanded=not datasets.summaries())
if not datasets.summaries():
    st.info(
        "There is no dataset yet. Drop a zip with one folder for each class, for example "
        "photos/ants/… and photos/bees/…, or try the sample."
    )
else:
    current = widgets.pick_dataset()
    with st.container():  # What is below stays in its place while these come and go.
        arrivals.notices(current)
        corrections.last_change(current)
        findings.progress(current)
    for tab, view in zip(
        st.tabs(list(VIEWS), key="view", bind="query-params"), VIEWS.values(), strict=True
    ):
        if tab.open:
            with tab:
                view(current)
