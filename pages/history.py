"""A part of the Data page: every correction, what differs between revisions, and who used them."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.data import comparing, journal
from core.data.dataset import Dataset
from core.runs import run as runs
from pages import corrections, widgets, working

COLUMNS = {
    "revision": st.column_config.NumberColumn("Revision", width="small"),
    "when": st.column_config.DatetimeColumn("When", format="D MMM YYYY, HH:mm", width="medium"),
    "who": st.column_config.TextColumn("Who", width="small"),
    "what": st.column_config.TextColumn("What", width="large"),
    "undone": st.column_config.CheckboxColumn(
        "Taken back", width="small", help="An undo took this correction back; it does not count."
    ),
    "action": None,
}
USED = {
    "revision": COLUMNS["revision"],
    "run": st.column_config.TextColumn("Training", width="large"),
    "when": COLUMNS["when"],
}
DIFFERENCES = {
    "change": st.column_config.TextColumn("Change", width="small"),
    "image": st.column_config.TextColumn("Image", width="large"),
    "from": st.column_config.TextColumn("From"),
    "to": st.column_config.TextColumn("To"),
}


def view(dataset: Dataset) -> None:
    """The journal, its undo, a comparison, and the runs of each revision."""
    rows = journal.listed(dataset.id)
    if not rows:
        st.info(
            "This is revision 1: the photos as they were imported. Each correction will stand here "
            "with who made it and when, and can be taken back."
        )
    else:
        chosen = st.dataframe(
            rows, column_config=COLUMNS, hide_index=True, key="journal", on_select="rerun",
            selection_mode="single-row", alt="The corrections, the newest first",
        ).selection.rows  # fmt: skip
        take_back(dataset, [rows[place] for place in chosen])
        compare(dataset, rows[0]["revision"])
    used(dataset)
    download(dataset)


def download(dataset: Dataset) -> None:
    """The dataset as it is now, as a zip that a job packs first."""
    st.subheader("Download")
    st.caption(
        f"Revision {dataset.revision} as a zip: the photos by class, a table of their labels, and "
        "the corrections."
    )
    found = jobs.of("pack", dataset=dataset.id, revision=dataset.revision)
    newest = found[0] if found else None
    if newest is not None and newest.state in jobs.LIVE:
        working.follow(newest)
    elif newest is not None and newest.state == "done" and newest.result:
        st.link_button(
            f"Download the zip ({newest.result['bytes'] / 1e6:,.1f} MB)",
            f"/api/datasets/{dataset.id}/pack?revision={dataset.revision}",
            icon=":material/download:",
        )  # fmt: skip
    else:
        if newest is not None:
            working.failure(newest)
        if st.button("Pack it", icon=":material/folder_zip:", key="pack"):
            values = {"dataset": dataset.id, "revision": dataset.revision}
            widgets.refused(lambda: jobs.start("pack", values, f"Packing {dataset.name}"))
            st.rerun()


def take_back(dataset: Dataset, chosen: list[dict[str, object]]) -> None:
    """A button that undoes the chosen correction, wherever it stands in the history."""
    revision = chosen[0]["revision"] if chosen else None
    gone = bool(chosen and chosen[0]["undone"])
    pressed = st.button(
        f"Undo revision {revision}" if chosen else "Choose a line to undo it",
        key="undo_one", icon=":material/undo:", disabled=not chosen or gone,
        help="Only this correction is taken back; later ones stay. That is a revision too.",
    )  # fmt: skip
    if pressed:
        corrections.save(dataset, {"action": "undo", "of": revision})


def compare(dataset: Dataset, newest: int) -> None:
    """What differs between two revisions, in figures and as a list."""
    st.subheader("Compare two revisions")
    left, right = st.columns(2)
    former = left.number_input("From revision", 1, newest, 1, key=f"compare_from {dataset.id}")
    later = right.number_input("To revision", 1, newest, newest, key=f"compare_to {dataset.id}")
    found = widgets.refused(lambda: comparing.compare(dataset.id, former, later))
    if found is None:
        return
    st.markdown(widgets.plain(found.sentence))
    if found.rows:
        st.dataframe(
            list(found.rows), column_config=DIFFERENCES, hide_index=True, key="differences",
            alt="What differs between the two revisions",
        )  # fmt: skip


def used(dataset: Dataset) -> None:
    """The trainings of this dataset, with the revision that each was pinned to."""
    st.subheader("Trainings")
    found = [run for run in runs.listed() if run.dataset == dataset.id]
    if not found:
        st.caption("No training has used this dataset yet.")
        return
    rows = [{"revision": run.revision, "run": run.name, "when": run.created} for run in found]
    st.dataframe(
        rows, column_config=USED, hide_index=True, key="used", alt="Trainings and their revisions"
    )
