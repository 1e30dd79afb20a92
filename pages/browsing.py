"""A part of the Data page: all images by class and part, and the classes themselves."""

from __future__ import annotations

import streamlit as st

from core.data import journal
from core.data.dataset import Dataset
from core.evaluation.charts import PART_TITLES
from pages import corrections

SHOWN = {"": "all", **PART_TITLES, "excluded": "excluded"}


def view(dataset: Dataset) -> None:
    """The images, to be looked at and corrected."""
    left, right = st.columns([3, 2])
    chosen = left.multiselect("Classes", dataset.classes, key="classes", placeholder="all")
    part = right.segmented_control(
        "Images", list(SHOWN), default="", required=True, key="shown_part",
        format_func=SHOWN.__getitem__,
        help="Training, validation and test as a recipe with the usual shares and seed divides "
        "them. Excluded images are left out of everything; here they can be taken back.",
    )  # fmt: skip
    kinds = ("include",) if part == "excluded" else ("relabel", "exclude")
    corrections.images(
        dataset, "images", corrections.offered(*kinds),
        query={"label": chosen, "part": part or None}, place=f"{chosen} {part}",
        empty="No images are excluded." if part == "excluded" else "No such images.",
    )  # fmt: skip
    classes(dataset)


def classes(dataset: Dataset) -> None:
    """Forms that rename a class, or make one of several."""
    left, right = st.columns(2)
    with left.form("rename"):
        st.markdown("**Rename a class**", help=journal.ACTIONS["rename"].help)
        former = st.selectbox("Class", dataset.classes, key="rename_from")
        to = st.text_input("New name", key="rename_to")
        renames = st.form_submit_button("Rename", icon=":material/edit:")
    with right.form("merge"):
        st.markdown("**Merge classes**", help=journal.ACTIONS["merge"].help)
        several = st.multiselect("Classes to merge", dataset.classes, key="merge_from")
        into = st.selectbox(
            "Into", dataset.classes, index=None, accept_new_options=True, key="merge_to",
            placeholder="one of them, or a new name",
        )  # fmt: skip
        merges = st.form_submit_button("Merge", icon=":material/merge:")
    if renames:
        corrections.save(dataset, {"action": "rename", "from": former, "to": to})
    if merges:
        corrections.save(dataset, {"action": "merge", "from": several, "to": into or ""})
