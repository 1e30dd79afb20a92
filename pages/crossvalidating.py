"""A part of the Studies page: cross-validate a recipe, and see how its figures vary."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.data.dataset import Dataset
from core.runs import run as runs
from core.runs.run import Run
from core.studies import crossval as crossvals
from core.studies import expected
from core.studies.crossval import Plan
from core.studies.study import Study
from pages import studying, widgets

STRATIFIED, BY_GROUP = "folds", "each group left out"


def view(dataset: Dataset) -> None:
    """Begin a cross-validation, or look at one."""
    st.caption(
        "The images are divided into folds; each fold is judged by a model that learned from the "
        "others. Every image is judged once, so that a small dataset gives a figure that is worth "
        "more. Groups and near-duplicates stay together. Where groups are left out, images in no "
        "group are learned from, and not judged."
    )
    study = studying.pick("crossval", dataset, "crossval")
    with st.expander("New cross-validation", icon=":material/add:", expanded=study is None):
        ask(dataset)
    if study is not None:
        studying.watched(study, watch)


def ask(dataset: Dataset) -> None:
    """Which recipe, and which folds."""
    recipe = studying.base_recipe("Recipe", "crossval", "Each fold is trained with it.")
    if recipe is None:
        return
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    kind = left.segmented_control(
        "Divided into", [STRATIFIED, BY_GROUP], default=STRATIFIED, key="crossval kind",
        required=True,
        help="Folds: classes evenly. Groups: one fold for each group of the dataset (a patient, a "
        "place, a day), which shows how it will do on a new one. Groups are made on Data.",
    )  # fmt: skip
    by_group = kind == BY_GROUP
    folds = middle.number_input("Folds", 2, 50, 5, key="crossval folds", disabled=by_group)
    repeats = right.number_input(
        "Repeats", 1, 20, 1, key="crossval repeats", disabled=by_group,
        help="Drawn anew so many times: more trainings, a steadier mean.",
    )  # fmt: skip
    keep_test = st.toggle(
        "Keep test images out of all folds", key="crossval keep",
        help="Then an ensemble of the folds' models can still be judged by images that none of "
        "them has seen. Test images that the dataset brought stay out always.",
    )  # fmt: skip
    plan = Plan(0 if by_group else int(folds), 1 if by_group else int(repeats), keep_test)
    studying.begin(
        "crossval", "Start", lambda: crossvals.start(dataset, recipe, plan),
        lambda: expected.of_crossval(dataset, recipe, plan),
    )  # fmt: skip


def watch(study: Study) -> None:
    """Everything about a cross-validation that changes while it goes on."""
    studying.head(study)
    rows = crossvals.rows(study)
    done = sum(row["accuracy"] is not None for row in rows)
    if not study.result:
        st.progress(done / len(rows), text=f"{done} of {len(rows)} folds are trained")
    result = study.result
    if result.get("metrics"):
        figures = result["metrics"]
        widgets.verdict(figures, f"Out-of-fold accuracy {widgets.share_with_interval(figures)}.")
        for text in crossvals.notes(study):
            st.info(widgets.plain(text), icon=":material/lightbulb:")
        run = widgets.refused(lambda: runs.load(result["run"])) if result.get("run") else None
        if run is not None:
            outcome(study, run)
        st.dataframe(
            crossvals.table(study), hide_index=True, alt="Figures of all folds",
            column_config={
                "all folds together": st.column_config.TextColumn(
                    help="Every image judged by the model that had not seen it. Of repeats, those "
                    "of the first drawing: several models' mean would be better than the recipe is."
                ),
                "mean of the folds": st.column_config.TextColumn(
                    help="With what another training on other images may come to: wider, since "
                    "models differ too."
                ),
            },
        )  # fmt: skip
    st.dataframe(
        rows, hide_index=True, alt="Folds",
        column_config={
            name: st.column_config.NumberColumn(title, format="percent")
            for name, title in (("accuracy", "accuracy"), ("low", "95 % from"), ("high", "to"))
        },
    )  # fmt: skip


def outcome(study: Study, run: Run) -> None:
    """What to do with the predictions of all folds, and with the models' mean."""
    st.caption(
        "Each image was judged by the model that had not seen it: Evaluate shows them all as test "
        "images. Predict uses the mean of all models."
    )
    studying.run_links(run)
    with st.spinner("Comparing the models with their mean"):
        from core.studies import ensemble

        gain = widgets.refused(lambda: ensemble.gain(run))
    if gain is not None:
        st.markdown("**On the test images that were kept out of all folds**")
        st.markdown("\n\n".join(map(widgets.plain, ensemble.told(gain))))
    if st.button(
        "Look for wrong labels by these predictions",
        key=f"doubt {study.id}",
        icon=":material/search:",
        help="The audit's findings on Data, its labels judged by this cross-validation instead of "
        "a quick probe.",
    ):
        values = {"dataset": study.dataset, "revision": study.revision, "run": run.id}
        if widgets.refused(lambda: jobs.start("audit", values, "Looking for problems")):
            label = widgets.dataset_label(study.dataset, study.dataset_name)
            widgets.go("data.py", dataset=label, view="Findings")
