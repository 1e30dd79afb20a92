"""A part of the Data page: what the audit found, each with its images and what to do about it."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.auditing import findings as audits
from core.auditing.findings import Finding, Findings
from core.auditing.kinds import KINDS, SEVERITIES
from core.data.dataset import Dataset
from core.jobs import Job
from core.serving import listing
from core.settings import settings
from pages import corrections, widgets, working

ICONS = {"error": ":material/error:", "warning": ":material/warning:", "hint": ":material/info:"}
ACTIONS = ("keep", "relabel", "exclude")


def progress(dataset: Dataset) -> None:
    """How far the audit is, or why it came to nothing; begins it where there was none yet."""
    job = newest(dataset)
    if settings().audit_after_import and job is None and not audits.audited(dataset):
        begin(dataset)
        job = newest(dataset)
    if job is not None and job.state in jobs.LIVE:
        working.follow(job)
    elif job is not None:
        working.failure(job)


def view(dataset: Dataset) -> None:
    """The findings, the most severe first."""
    job = newest(dataset)
    live = job is not None and job.state in jobs.LIVE
    found = audits.load(dataset)
    if found is None:
        none_yet(dataset, live=live)
        return
    about(dataset, found, live=live)
    for finding in by_severity(found):
        one(dataset, finding)


def hint(dataset: Dataset) -> None:
    """The most severe findings in a line, with the way to them."""
    found = audits.load(dataset)
    severe = [one for one in by_severity(found) if is_severe(one)] if found else []
    if not severe:
        return
    counted = ", ".join(f"{KINDS[one.kind].title} ({len(one.groups):,})" for one in severe)
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(f":material/troubleshoot: **To look at:** {counted}.", width="stretch")
        st.button("See the findings", key="to_findings", on_click=show_findings)


def is_severe(finding: Finding) -> bool:
    """Whether a finding is more than a hint."""
    return KINDS[finding.kind].severity != "hint"


def show_findings() -> None:
    """Open the tab of the findings."""
    st.session_state["view"] = "Findings"


def newest(dataset: Dataset) -> Job | None:
    """The audit of this dataset that was started last, within a day."""
    return next(iter(jobs.of("audit", dataset=dataset.id)), None)


def begin(dataset: Dataset) -> None:
    """Start an audit, which goes on when this page is left."""
    values = {"dataset": dataset.id, "revision": dataset.revision}
    widgets.refused(lambda: jobs.start("audit", values, "Looking for problems"))


def none_yet(dataset: Dataset, *, live: bool) -> None:
    """What an audit is, before there is one."""
    st.caption(
        "Copies, wrong labels, images that are dark, blurred or out of place, classes with too few "
        "images, and things that give a class away. Nothing is changed: you decide."
    )
    if not live and st.button("Look for problems", icon=":material/search:", key="audit"):
        begin(dataset)
        st.rerun()


def about(dataset: Dataset, found: Findings, *, live: bool) -> None:
    """What was looked at, whether that is still how the data is, and what else is to be said."""
    if not found.findings:
        st.success("Nothing was found that should be put right.", icon=":material/task_alt:")
    st.caption(
        f"{found.images:,} images were looked through in {widgets.duration(found.seconds)} "
        f"(revision {found.revision}). "
        "A finding is a hint: keep what is right, and it will not be listed again."
    )
    if not found.fresh:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                "The data has changed since. What was put right is not listed any more; only "
                "another look finds what is new.",
                width="stretch",
            )
            again = st.button(
                "Look again", icon=":material/search:", key="audit_again", disabled=live
            )
        if again:
            begin(dataset)
            st.rerun()
    for note in found.notes:
        st.caption(widgets.plain(note))


def by_severity(found: Findings) -> list[Finding]:
    """The findings, the most severe first, then as the table of kinds has them."""
    order = list(SEVERITIES)
    kinds = list(KINDS)
    return sorted(
        found.findings,
        key=lambda one: (order.index(KINDS[one.kind].severity), kinds.index(one.kind)),
    )


def one(dataset: Dataset, finding: Finding) -> None:
    """One finding: what it means, what to do, and its images when it is opened."""
    kind = KINDS[finding.kind]
    part = st.expander(
        f"**{kind.title}** · {len(finding.groups):,}", icon=ICONS[kind.severity],
        key=f"finding {finding.kind}", on_change="rerun",
    )  # fmt: skip
    if not part.open:
        return
    with part:
        st.markdown(f"{kind.help} **{kind.remedy}**")
        all_at_once(dataset, finding.kind)
        corrections.images(
            dataset, f"images {finding.kind}", corrections.offered(*ACTIONS),
            query={"finding": finding.kind}, finding=finding.kind, height=460,
        )  # fmt: skip


def all_at_once(dataset: Dataset, kind: str) -> None:
    """Buttons that exclude all that this finding suggests to exclude, or divide the images anew."""
    names = listing.suggested(dataset, kind)
    many = "the image" if len(names) == 1 else f"all {len(names):,} images"
    copies = " (the first of each group stays)" if KINDS[kind].action == "exclude_copies" else ""
    with st.container(horizontal=True):
        if names and st.button(
            f"Exclude {many}{copies}", icon=":material/block:", key=f"all {kind}"
        ):
            corrections.save(dataset, {"action": "exclude", "names": names})
        if kind == "leak" and st.button(
            "Divide all images anew", icon=":material/call_split:", key="divide anew",
            help="70 % for training, 15 % for validation, 15 % for the test; copies stay together. "
            "Other shares and groups: Overview, Change the split.",
        ):  # fmt: skip
            corrections.save(dataset, {"action": "split"})
