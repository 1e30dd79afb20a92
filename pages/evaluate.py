"""See how often a classifier is right, where it is wrong, and what it looked at."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core.evaluation import baseline, charts, confusions, metrics, report
from core.evaluation.report import Evaluation
from core.runs import run as runs
from core.runs import scored
from core.runs.run import Run
from core.runs.scored import Scored
from pages import (
    averaging,
    calibration,
    explaining,
    grid,
    operating,
    run_map,
    taking,
    trying,
    widgets,
)  # fmt: skip

FEW_IMAGES = 30
# More than fit on a screen as a table.
MANY_CLASSES = 20
PART_NAMES = {"test": "Test", "val": "Validation", "train": "Training"}
CURVES = {
    "ROC": "Each point is a threshold: how many images of the class are found, against how many of "
    "the others are taken for it. The area (AUC) is 1 for perfect, 0.5 for guessing.",
    "Precision and recall": "Each point is a threshold: how many images of the class are found, "
    "against how many of those chosen are of it. The area is the average precision.",
}
ORDERS = {"sure": "surest first", "loss": "highest loss first", "pair": "by pair of classes"}
FIRST = ("accuracy", "balanced_accuracy", "macro_f1", "auc")
INTERVALS = ("recall", "precision", "f1", "auc", "average_precision")


def overview(found: Evaluation) -> None:
    """The figures, each with its interval, and those of each class."""
    for column, name in zip(st.columns(len(FIRST)), FIRST, strict=True):
        kind, figure = metrics.KINDS[name], found.figures[name]
        with column.container(border=True):
            st.metric(kind.title, kind.written(figure.value), help=kind.help)
            st.caption(f"95 % interval {kind.interval(figure)}, n = {figure.n:,}")
    said = widgets.plain(baseline.sentence(found.beside_baseline))
    if baseline.is_beaten(found.beside_baseline):
        st.caption(said)
    else:
        st.warning(said, icon=":material/warning:")
    rare = found.per_class[found.per_class["images"] < FEW_IMAGES]
    if len(rare):
        st.warning(
            f"{len(rare)} of {len(found.classes)} classes have under {FEW_IMAGES} images here: "
            "their figures are rough. The intervals say how rough.",
            icon=":material/info:",
        )
    with st.expander("All figures", icon=":material/format_list_numbered:"):
        st.dataframe(
            metrics.table(found.figures), hide_index=True, alt="All figures with their intervals"
        )
    classes(found)


def classes(found: Evaluation) -> None:
    """The figures of each class, the weakest on top."""
    st.subheader("Classes")
    shown = {name: st.column_config.NumberColumn(format="%.3f") for name in INTERVALS}
    for name in INTERVALS:
        for end, words in (("low", "from"), ("high", "to (95 %)")):
            shown[f"{name}_{end}"] = st.column_config.NumberColumn(
                f"{name.replace('_', ' ')} {words}", format="%.3f"
            )
    share = st.column_config.ProgressColumn(format="%.3f", min_value=0, max_value=1)
    st.dataframe(
        found.per_class.sort_values("recall", na_position="last"), hide_index=True,
        alt="Figures of each class, the weakest first", column_config={**shown, "recall": share},
    )  # fmt: skip
    st.caption("Choose the head of a column to sort by it. An empty cell: there is no such image.")


def confusion(run: Run, images: Scored, found: Evaluation, part: str) -> None:
    """Which classes are taken for which; a cell, a row, a column or a pair shows its images."""
    if len(found.classes) > MANY_CLASSES:
        if pair(run, images, found, part):
            return
        st.subheader("All cells")
    matrix(run, images, found, part)


def pair(run: Run, images: Scored, found: Evaluation, part: str) -> bool:
    """All classes as a picture, and the pairs confused most; whether one of those was chosen."""
    order = confusions.by_likeness(found.confusion)
    st.plotly_chart(
        confusions.picture(found.confusion, found.classes, order), key="map", alt="Confusion map"
    )
    st.caption(
        "Classes that are confused stand beside each other. Below are the pairs that are confused "
        "most: choose one to see its images."
    )
    pairs = confusions.pairs(found.confusion, found.classes)
    row = st.dataframe(
        pairs, on_select="rerun", selection_mode="single-row", hide_index=True, height=250,
        key=f"pairs {run.id} {images.key} {part}", alt="Pairs of classes confused most",
        column_config={"share": st.column_config.NumberColumn(format="percent")},
    ).selection.rows  # fmt: skip
    if row:
        cell(run, images, found, part, *pairs.iloc[row[0]][["true class", "classified as"]])
    return bool(row)


def matrix(run: Run, images: Scored, found: Evaluation, part: str) -> None:
    """The confusion matrix as a table whose cells, rows and columns can be chosen."""
    with st.container(horizontal=True):
        kind = st.segmented_control(
            "Show", confusions.KINDS, default=confusions.COUNTS, key="kind", required=True
        )
        by = st.segmented_control(
            "Order", list(confusions.ORDERS), default="by name", key="order", required=True,
            help="By likeness, classes that are confused with each other stand side by side.",
        )  # fmt: skip
    st.caption(
        "Rows are true classes, columns what the classifier said. Choose a cell to see its images, "
        "or the box before a row or the head of a column to see all of it."
    )
    order = confusions.ORDERS[by](found.confusion)
    table = confusions.table(found.confusion, found.classes, kind, order)
    chosen = st.dataframe(
        confusions.styled(table, kind), on_select="rerun",
        selection_mode=["single-cell", "single-row", "single-column"],
        key=f"confusion {run.id} {images.key} {part} {kind} {by}", alt="Confusion matrix",
        height=min(38 + 35 * len(found.classes), 640),
    ).selection  # fmt: skip
    if chosen.cells:
        cell(run, images, found, part, table.index[chosen.cells[0][0]], chosen.cells[0][1])
    elif chosen.rows:
        cell(run, images, found, part, table.index[chosen.rows[0]], None)
    elif chosen.columns:
        cell(run, images, found, part, None, chosen.columns[0])


def cell(
    run: Run, images: Scored, found: Evaluation, part: str, true: str | None, predicted: str | None
) -> None:
    """The images of one true class (None for any) that were classified as one class (or any)."""
    words = [
        f"{said} **{widgets.plain(name)}**"
        for said, name in (("true class", true), ("classified as", predicted))
        if name is not None
    ]
    st.markdown(f"Images with {' and '.join(words)}")
    query = {"split": part, "true": true, "predicted": predicted, "on": images.key or None}
    empty = "No image is in this cell."
    name = grid.images(f"/api/runs/{run.id}/images", query, "cell", empty, 340)
    explaining.view(run, images, found, name, "cell")


def curves(found: Evaluation) -> None:
    """How well each class is told from the rest, at every threshold."""
    kind = st.segmented_control("Curve", list(CURVES), default="ROC", key="curve", required=True)
    st.caption(CURVES[kind])
    left, right = st.columns([3, 2])
    names = st.session_state.get("curve classes", [])
    every = not names and len(found.classes) <= MANY_CLASSES
    chosen = [c for c in found.curves[kind] if every or c.average or c.title in names]
    left.plotly_chart(charts.curves(kind, chosen), key=f"curves {kind}", alt=f"{kind} curves")
    with right:
        st.multiselect("Show classes", found.classes, key="curve classes", placeholder="all")
        areas = [{"curve": c.title, "area": c.area} for c in found.curves[kind]]
        st.dataframe(
            areas, hide_index=True, alt="Areas under the curves", height=380,
            column_config={"area": st.column_config.NumberColumn(format="%.4f")},
        )  # fmt: skip


def calibrated(run: Run, images: Scored, found: Evaluation, part: str) -> None:
    """Whether its probabilities mean what they say, and whether several views better them."""
    calibration.view(run, found)
    averaging.view(run)


def mistakes(run: Run, images: Scored, found: Evaluation, part: str) -> None:
    """The images it got wrong, and why."""
    order = st.segmented_control(
        "Order", list(ORDERS), default="sure", key="mistakes order", required=True,
        format_func=ORDERS.__getitem__,
    )  # fmt: skip
    st.caption(
        "True class → what the classifier said: a wrong label is often among them. Choose one to "
        "see what it looked at, and which training images are like it."
    )
    query = {"split": part, "order": order, "on": images.key or None}
    empty = "No mistakes here."
    name = grid.images(f"/api/runs/{run.id}/images", query, "mistakes", empty, 360)
    explaining.view(run, images, found, name, "mistakes")
    explaining.sheet(run, images, found, part)


View = Callable[[Run, Scored, Evaluation, str], None]
VIEWS: dict[str, View] = {
    "Figures": lambda run, images, found, part: overview(found),
    "Confusion": confusion,
    "Curves": lambda run, images, found, part: curves(found),
    "Operating point": lambda run, images, found, part: operating.view(run, found),
    "Calibration": calibrated,
    "Mistakes": mistakes,
    "Map": run_map.view,
    "Take along": taking.view,
}
st.title("Evaluate")
st.caption(
    "How often it is right, where it is wrong, and what it looked at. "
    "Every figure has its n and its interval."
)
finished = [run for run in runs.listed() if run.predictions.exists()]
current = widgets.pick_run(finished, "No run has finished yet. Train one first.")
widgets.data_of(current)
tried = {one.key: one for one in scored.others(current)}
if trying.SHOWN_NEXT in st.session_state:
    st.session_state["images"] = st.session_state.pop(trying.SHOWN_NEXT)
if st.session_state.get("images") not in {*PART_NAMES, *tried}:
    st.session_state.pop("images", None)
choice = st.segmented_control(
    "Images", [*PART_NAMES, *tried], default="test", key="images", required=True,
    format_func=lambda key: PART_NAMES.get(key) or f"Other: {tried[key].name}",
    help="Test images were never seen in training; training images only show how much was learned "
    "by heart. Others are of datasets that it was tried on.",
)  # fmt: skip
chosen = tried.get(choice) or scored.own(current)
part = scored.NEW if chosen.key else choice
evaluation = report.evaluate(chosen.predictions, current.classes, part)
trying.view(current)
if evaluation is None:
    st.info("This run has no such images. Choose another part.")
else:
    for tab, show in zip(
        st.tabs(list(VIEWS), key="evaluate view", on_change="rerun"), VIEWS.values(), strict=True
    ):
        if tab.open:
            with tab:
                show(current, chosen, evaluation, part)
