"""A part of the Data page: what the dataset holds, how it is divided, and a first model."""

from __future__ import annotations

import streamlit as st

from core import recipe as recipes
from core.data.dataset import Dataset
from core.runs import run as runs
from core.runs.run import Run
from core.runs.status import status_of
from pages import dividing, findings, widgets


def view(dataset: Dataset) -> None:
    """What to look at, the first model, then counts, sizes, the split and what was skipped."""
    findings.hint(dataset)
    first_model(dataset)
    figures(dataset)
    dividing.view(dataset)
    problems(dataset)


def figures(dataset: Dataset) -> None:
    """Counts and sizes."""
    sides = dataset.table[["width", "height"]]
    row = st.columns(4)
    row[0].metric("Images", f"{len(dataset.table):,}", border=True)
    row[1].metric("Classes", len(dataset.classes), border=True)
    row[2].metric(
        "Typical size, pixels",
        f"{int(sides['width'].median())} × {int(sides['height'].median())}",
        help=f"Median width and height. Smallest side {sides.min(axis=None)}, "
        f"largest {sides.max(axis=None)}.",
        border=True,
    )
    row[3].metric("Files skipped", len(dataset.skipped), border=True)


def problems(dataset: Dataset) -> None:
    """What was skipped and why, and what was taken with a remark."""
    for note in dataset.notes:
        st.info(widgets.plain(note), icon=":material/info:")
    if dataset.skipped:
        with st.expander(f"{len(dataset.skipped):,} files were skipped", icon=":material/warning:"):
            st.dataframe(list(dataset.skipped), hide_index=True, alt="Skipped files and why")
    odd = dataset.table.loc[dataset.table["remarks"] != "", ["name", "label", "remarks"]]
    if len(odd):
        with st.expander(f"{len(odd):,} images were taken with a remark", icon=":material/info:"):
            st.dataframe(odd, hide_index=True, alt="Images with remarks")


def first_model(dataset: Dataset) -> None:
    """One click to the accuracy that everything else must beat."""
    st.subheader("First model")
    st.caption(
        "A frozen network looks at every image once and a small head learns your classes: seconds. "
        "Its accuracy is the bar that everything else must beat."
    )
    past = [r for r in runs.listed() if r.dataset == dataset.id and r.preset == "quick"]
    if st.button("Train a first model", type="primary", icon=":material/bolt:", key="first"):
        run = runs.start(dataset, recipes.preset("quick"), "quick")
        past = [run, *(r for r in past if r.id != run.id)]
    if past:
        live = runs.state_of(past[0]) in runs.LIVE
        widgets.fragment(first_result, run_every=0.5 if live else None)(past[0])


def first_result(run: Run) -> None:
    """The state of the first model, then its accuracy."""
    events = run.events()
    status = status_of(run, events)
    if status.state in runs.LIVE:
        if status.state == "running":
            widgets.training_progress(status)
        else:
            st.progress(0.0, text=runs.STATES[status.state])
        st.session_state["first_live"] = run.id
        return
    if st.session_state.pop("first_live", None) == run.id:
        st.rerun()  # The run is over: draw once more, without the timer.
    result = runs.result_of(events)
    if result.get("test", {}).get("n"):
        st.metric(
            "Test accuracy of the first model",
            f"{result['test']['accuracy']:.1%}",
            border=True,
            help="Share of the test images, never seen in training, that it classifies correctly.",
        )
        widgets.verdict(
            result["test"],
            f"{widgets.share_with_interval(result['test'])}; "
            f"trained in {widgets.duration(result['seconds'])}.",
        )
        label = widgets.run_label(run)
        links = st.columns(3)
        links[0].page_link(
            "evaluate.py", label="See its mistakes", icon=":material/fact_check:",
            query_params={"run": label},
        )  # fmt: skip
        links[1].page_link(
            "predict.py", label="Classify a photo", icon=":material/image_search:",
            query_params={"run": label},
        )  # fmt: skip
        links[2].page_link(
            "recipe.py", label="Beat it", icon=":material/tune:",
            query_params={"dataset": widgets.dataset_label(run.dataset, run.dataset_name)},
        )  # fmt: skip
    else:
        widgets.ending(run, events)
