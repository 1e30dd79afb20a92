"""A part of the Data page: photos brought in by upload, from the server, or as a sample."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.data import dataset as datasets
from core.data import importing
from core.settings import settings
from pages import widgets, working


def view(*, expanded: bool) -> None:
    """The three ways in, and how far the imports are that were started, here or elsewhere."""
    with st.expander("Add a dataset", expanded=expanded, icon=":material/add_photo_alternate:"):
        left, right = st.columns([3, 2])
        with left:
            arrived = widgets.upload("upload")
        with right:
            sample = st.button("Try the sample", icon=":material/draw:", key="sample")
            st.caption("1,797 handwritten digits, no network needed.")
            folder = from_server()
        if arrived and arrived["id"] not in [job.values.get("upload") for job in known()]:
            begin({"upload": arrived["id"], "name": arrived["name"]}, arrived["name"])
        if sample:
            begin({"sample": True}, "The sample")
        if folder:
            begin({"server": folder}, folder)
    imports()


def known() -> list[jobs.Job]:
    """The imports of the last day, the newest first."""
    return jobs.of("import")


def begin(values: dict[str, object], name: str) -> None:
    """Start an import that goes on when this page is left."""
    job = widgets.refused(lambda: jobs.start("import", values, name))
    if job is not None:
        working.awaited().add(job.id)
        st.rerun()


def imports() -> None:
    """Imports that are at work; the newest one, if it failed; the dataset of one that is done."""
    found = known()
    for job in found:
        if working.just_done(job) and job.result:
            dataset = datasets.load(job.result["dataset"])
            widgets.go("data.py", dataset=widgets.dataset_label(dataset.id, dataset.name))
    for job in found:
        if job.state in jobs.LIVE:
            working.follow(job)
    if found:
        working.failure(found[0])


def from_server() -> str:
    """A folder or archive below the allowed root that the user asked to import, else ""."""
    if settings().import_root is None:
        return ""
    found = importing.import_root_entries()
    chosen = st.selectbox("A folder or archive on the server", found, index=None, key="server_path")
    pressed = st.button("Import it", key="import_server", disabled=chosen is None)
    return chosen if pressed and chosen else ""
