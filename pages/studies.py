"""Several trainings that answer one question: a search, a cross-validation, an ensemble."""

from __future__ import annotations

import streamlit as st

from pages import crossvalidating, ensembling, searching, widgets

VIEWS = {
    "Search": searching.view,
    "Cross-validation": crossvalidating.view,
    "Ensembles": ensembling.view,
}
st.title("Studies")
st.caption(
    "Several trainings that answer one question: which recipe is best, how sure a figure is, what "
    "several models say together. They go on when you close this page."
)
dataset = widgets.pick_dataset()
for tab, show in zip(
    st.tabs(list(VIEWS), key="study view", on_change="rerun"), VIEWS.values(), strict=True
):
    if tab.open:
        with tab:
            show(dataset)
