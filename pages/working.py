"""Work in the background as pages show it: how far it is, how long it takes, how to stop it."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.jobs import Job
from pages import widgets

SECONDS_BETWEEN_LOOKS = 0.5


def follow(job: Job) -> None:
    """A bar that moves while a job is alive; once it is over, the page is drawn again."""
    awaited().add(job.id)
    widgets.fragment(bar, run_every=SECONDS_BETWEEN_LOOKS)(job)


def bar(job: Job) -> None:
    """How far a job is now."""
    if job.state not in jobs.LIVE:
        st.rerun()
    step = job.latest()
    share = step.done / step.total if step.total else 0.0
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(min(1.0, share), text=widgets.plain(words(job)))
    stopping = job.stop_file.exists()
    label = "Stopping" if stopping else "Cancel"
    if right.button(label, key=f"cancel {job.id}", icon=":material/close:", disabled=stopping):
        job.cancel()
        st.rerun(scope="fragment")


def words(job: Job) -> str:
    """What a job does, how far it is, and how long it will take."""
    step = job.latest()
    if not step.text:
        return f"{job.name}: starting"
    counted = f", {step.done:,} of {step.total:,}" if step.total else ""
    left = step.seconds_left
    time = f", about {widgets.duration(left)} left" if left is not None else ""
    return f"{job.name}: {step.text}{counted}{time}"


def awaited() -> set[str]:
    """The jobs that this session has seen at work, and whose end it wants to know."""
    found: set[str] = st.session_state.setdefault("awaited", set())
    return found


def just_done(job: Job) -> bool:
    """Whether a job that this session waited for is done; told once."""
    if job.id in awaited() and job.state == "done":
        awaited().discard(job.id)
        return True
    return False


def read() -> set[str]:
    """The jobs whose failure this session has read about."""
    found: set[str] = st.session_state.setdefault("read", set())
    return found


def failure(job: Job) -> None:
    """Why a job came to nothing, until the user has read it."""
    if job.id in read():
        return
    if job.refusal is not None:
        what, remedy = job.refusal
        with st.container(horizontal=True, vertical_alignment="center"):
            st.error(f"{widgets.plain(what)}\n\n{widgets.plain(remedy)}", icon=":material/block:")
            closed = st.button("Close", key=f"read {job.id}", width="content")
        if closed:
            read().add(job.id)
            st.rerun()
