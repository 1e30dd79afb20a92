"""A part of the Recipe page: the backbone's stages, and which of them learn."""

from __future__ import annotations

import streamlit as st

from core.models import architecture
from core.schema import Recipe
from pages import widgets

COLUMNS = {
    "stage": st.column_config.TextColumn(
        "Stage", help="Layers that are frozen, or learn, together. Pictures pass them in order."
    ),
    "output": st.column_config.TextColumn(
        "Output", help="Height × width × channels of what the stage makes of one picture."
    ),
    "parameters": st.column_config.NumberColumn(
        "Parameters", format="localized", help="Numbers that training may change."
    ),
    "learns": st.column_config.TextColumn(
        "Under this recipe", help="frozen: the stage stays as it was pretrained."
    ),
}


def view(recipe: Recipe) -> None:
    """The stages of a recipe's backbone, drawn when somebody opens it."""
    closed = st.expander(
        "Architecture", key="architecture", icon=":material/layers:", on_change="rerun"
    )
    if not closed.open:
        return
    with closed, st.spinner("Looking at the network…"):
        table = widgets.refused(lambda: architecture.rows(recipe))
        if table:
            st.caption(architecture.summary(table))
            st.dataframe(
                [vars(row) for row in table], column_config=COLUMNS, hide_index=True, key="stages"
            )
