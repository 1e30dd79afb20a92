"""A part of the Data page: photos brought in by upload, from the server, or as a sample."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.data import dataset as datasets
from core.data import importing
from core.data.layout import Reading, unsure
from core.jobs import Job
from core.serving import uploads
from core.settings import settings
from core.storage import Json
from pages import arrivals, widgets, working
from pages.corrections import who

NEW = "a new dataset"
INTO_HELP = (
    "Photos added to a dataset make a new revision of it: classes of the same name become one, and "
    "exact copies of what it has already are left out."
)


def view(*, expanded: bool) -> None:
    """The three ways in, and how far the imports are that were started, here or elsewhere."""
    asked: Json | None = st.session_state.get("asked")
    with st.expander(
        "Add photos", expanded=expanded or bool(asked), icon=":material/add_photo_alternate:"
    ):
        if asked:
            ask(asked)
        else:
            ways_in()
    with st.container():  # What is below stays in its place while bars come and go.
        imports()


def ways_in() -> None:
    """An upload, a folder on the server, or the sample."""
    left, right = st.columns([3, 2])
    with left:
        arrived = widgets.upload("upload")
    with right:
        into = target()
        sample = st.button("Try the sample", icon=":material/draw:", key="sample")
        st.caption("1,797 handwritten digits, no network needed.")
        folder = from_server()
    if arrived:
        found = widgets.refused(lambda: uploads.readings(arrived["id"], arrived["name"], into))
        propose({"upload": arrived["id"], "name": arrived["name"], "into": into}, found)
    if folder:
        found = widgets.refused(lambda: uploads.server_readings(folder, into))
        propose({"server": folder, "into": into}, found)
    if sample:
        begin({"sample": True})


def target() -> str:
    """The id of the dataset that the photos are to be added to; "" for a new one."""
    found = [widgets.dataset_label(one["id"], one["name"]) for one in datasets.summaries()]
    if not found:
        return ""
    chosen = st.selectbox("Add them to", [NEW, *found], key="into", help=INTO_HELP)
    return "" if chosen == NEW else widgets.id_of(chosen)


def propose(values: Json, readings: list[Reading] | None) -> None:
    """Import what can be meant in one way only; else ask the user how it is meant."""
    if readings is None:
        return
    known = datasets.load(values["into"]).classes if values.get("into") else ()
    if len(readings) < 2 and not any(unsure(one, known) for one in readings):
        begin(values)
    st.session_state["asked"] = {"values": values, "readings": readings}
    st.rerun()


def ask(asked: Json) -> None:
    """Which of several readings of the folders or tables is meant."""
    readings: list[Reading] = asked["readings"]
    with st.form("reading"):
        if len(readings) == 1:
            name = listed(readings[0].classes)
            st.markdown(f"The dataset has no class {name} yet: to import makes it a new one.")
        chosen = st.radio(
            "What is the class of a photo?", range(len(readings)), key="reading_chosen",
            format_func=lambda k: f"{widgets.plain(readings[k].title)}: "
            f"{listed(readings[k].classes)}",
            captions=[widgets.plain(one.example) for one in readings],
            help="The folders or tables of this upload can be read in more than one way.",
        )  # fmt: skip
        with st.container(horizontal=True):
            goes_on = st.form_submit_button("Import", type="primary", icon=":material/check:")
            given_up = st.form_submit_button("Cancel", icon=":material/close:")
    if goes_on or given_up:
        del st.session_state["asked"]
    if given_up and asked["values"].get("upload"):
        uploads.discard(asked["values"]["upload"])
    if goes_on:
        begin({**asked["values"], "reading": readings[chosen].key})
    if given_up:
        st.rerun()


def listed(classes: tuple[str, ...]) -> str:
    """The only class, or how many there are."""
    return widgets.plain(classes[0]) if len(classes) == 1 else f"{len(classes):,} classes"


def begin(values: Json) -> None:
    """Start an import that goes on when this page is left."""
    name = values.get("name") or values.get("server") or "The sample"
    if values.get("into"):
        values = {**values, "who": who()}
    job = widgets.refused(lambda: jobs.start("import", values, name))
    if job is not None:
        working.read().update(st.session_state.get("failures_shown", ()))
        working.awaited().add(job.id)
        arrivals.own_imports().add(job.id)
        st.rerun()


def imports() -> None:
    """Imports that are at work, what became of those that ended, and why some failed.

    Failures are told of those that this session saw at work, and of the newest one, until the user
    has read it or begins another import.
    """
    found = jobs.of("import")
    for job in reversed(found):  # Of several that are done, the newest stays open.
        if job.state in jobs.LIVE:
            working.follow(job)
        elif working.just_done(job):
            arrivals.announce(job)
    failed = [one for one in found if one is found[0] or one.id in working.awaited()]
    st.session_state["failures_shown"] = {job.id for job in failed if job.refusal}
    for job in failed:
        working.failure(job)
        offer_again(job)


def offer_again(job: Job) -> None:
    """An upload that was refused for a reason that may pass need not be sent again."""
    values = {key: job.values[key] for key in ("upload", "name", "into") if key in job.values}
    if job.refusal is None or job.id in working.read() or not values.get("upload"):
        return
    if not uploads.received(values["upload"]):
        return
    help_ = "The file is still on the server, for a day after it was sent."
    if st.button("Try again", key=f"again {job.id}", icon=":material/replay:", help=help_):
        upload, into = values["upload"], values.get("into", "")
        found = widgets.refused(lambda: uploads.readings(upload, values["name"], into))
        if found is not None:
            working.read().add(job.id)
        propose(values, found)


def from_server() -> str:
    """A folder or archive below the allowed root that the user asked to import, else ""."""
    if settings().import_root is None:
        return ""
    found = importing.import_root_entries()
    chosen = st.selectbox("A folder or archive on the server", found, index=None, key="server_path")
    pressed = st.button("Import it", key="import_server", disabled=chosen is None)
    return chosen if pressed and chosen else ""
