"""A part of the Studies page: put several classifiers together, and see whether it pays."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.data.dataset import Dataset
from core.evaluation import diagrams
from core.runs import leaderboard
from core.runs import run as runs
from core.runs.run import Run
from core.studies.weighing import SOUP, SOUP_HELP, SOUP_TITLE, WAYS
from pages import studying, widgets, working

TITLES = {**{name: way.title for name, way in WAYS.items()}, SOUP: SOUP_TITLE}
HELP = "\n\n".join(
    [*(f"**{way.title}**: {way.help}" for way in WAYS.values()), f"**{SOUP_TITLE}**: {SOUP_HELP}"]
)


def view(dataset: Dataset) -> None:
    """Put runs together, or look at what was put together."""
    st.caption(
        "Several classifiers are often right where each alone is wrong. Their probabilities are "
        "averaged; the price is the time of all of them. Runs with other backbones, augmentations "
        "or folds bring most."
    )
    scored = [run for run in leaderboard.scored_runs(dataset.id) if run.is_listed]
    single = [run for run in scored if run.kind == "training"]
    made = [run for run in scored if run.kind != "training"]
    combined = [run for run in made if run.kind != "crossval"]
    with st.expander("New ensemble", icon=":material/add:", expanded=not combined):
        ask(dataset, single)
    if made:
        show(pick(made))


def ask(dataset: Dataset, candidates: list[Run]) -> None:
    """Which runs, and how they are averaged."""
    if len(candidates) < 2:
        st.info(
            "Train two or more classifiers on this dataset first, with other backbones, heads or "
            "augmentations. Another seed divides the images anew too, unless a division is kept on "
            "Data."
        )
        return
    labels = {widgets.run_label(run): run for run in candidates}
    names = st.multiselect(
        "Runs", list(labels), key="combined runs", placeholder="Choose two or more",
        help="On one revision of the dataset.",
    )  # fmt: skip
    method = st.segmented_control(
        "Averaged", list(TITLES), default="mean", key="combined how", format_func=TITLES.get,
        required=True, help=HELP,
    )  # fmt: skip
    job = next(iter(jobs.of("combine", dataset=dataset.id)), None)
    if job is not None and job.state in jobs.LIVE:
        working.follow(job)
        return
    if job is not None and working.just_done(job):
        st.session_state["begun ensemble"] = widgets.run_label(
            runs.load((job.latest().result or {})["run"])
        )
        st.rerun()
    if job is not None and job.id in working.awaited():
        working.failure(job)
    if st.button(
        "Combine", type="primary", key="combine", icon=":material/merge:", disabled=len(names) < 2
    ):
        values = {"runs": [labels[name].id for name in names], "method": method,
                  "dataset": dataset.id}  # fmt: skip
        widgets.refused(lambda: jobs.start("combine", values, "Combining classifiers"))
        st.rerun()


def pick(made: list[Run]) -> Run:
    """The ensemble that the user looks at."""
    labels = [widgets.run_label(run) for run in made]
    if "begun ensemble" in st.session_state:
        st.session_state["ensemble"] = st.session_state.pop("begun ensemble")
    widgets.tell_if_missing("ensemble", labels)
    chosen = st.selectbox(
        "Ensemble", labels, key="ensemble", bind="query-params", label_visibility="collapsed"
    )
    return runs.load(widgets.id_of(chosen or labels[0]))


def show(run: Run) -> None:
    """An ensemble: its members, what it gains, what it costs."""
    with st.spinner("Comparing the ensemble with its members"):
        from core.studies import ensemble as ensembles
    st.subheader(widgets.plain(run.name))
    for note in ensembles.notes_of(run):
        st.info(widgets.plain(note))
    studying.run_links(run)
    if not run.members:  # A soup is one network.
        result = runs.result_of(run.events())
        figures = widgets.share_with_interval(result["test"]) if result["test"]["n"] else "unknown"
        text = f"Test accuracy {figures}, {result['milliseconds']:.1f} ms an image."
        widgets.verdict(result["test"], text)
        return
    gain = widgets.refused(lambda: ensembles.gain(run))
    if gain is not None:
        st.markdown("\n\n".join(map(widgets.plain, ensembles.told(gain))))
    else:
        st.caption("Its members have no test images in common, so that its gain is not known.")
    rows = ensembles.table(run)
    st.dataframe(
        rows, hide_index=True, alt="The ensemble and its members",
        column_config={
            "name": st.column_config.TextColumn(width=150),
            "weight": st.column_config.NumberColumn(format="%.2f"),
            "accuracy": st.column_config.NumberColumn(format="percent"),
            "low": st.column_config.NumberColumn("95 % from", format="percent"),
            "high": st.column_config.NumberColumn("to", format="percent"),
            "ms an image": st.column_config.NumberColumn(format="%.1f"),
        },
    )  # fmt: skip
    timed = [row for row in rows if row["ms an image"] and row["accuracy"]]
    if timed:
        st.plotly_chart(
            diagrams.accuracy_by_time(
                [f"{row['name'][:22]} · {row['run']}" for row in timed],
                [row["ms an image"] for row in timed],
                [ensembles.figure_of(row) for row in timed],
            ),
            key="ensemble by time", alt="Accuracy against milliseconds for one image",
        )  # fmt: skip
