"""What the parts of the Studies page share: picking a study, its head, watching it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from core import recipe as recipes
from core.data.dataset import Dataset
from core.errors import HeadstartError
from core.recipe import PRESET_HELP, PRESETS
from core.runs import run as runs
from core.runs.run import Run
from core.schema import Recipe
from core.studies import study as studies
from core.studies.study import Kind, State, Study
from pages import widgets

SECONDS_BETWEEN_LOOKS = 1.5
ICONS: dict[State, str] = {
    "running": ":material/play_circle:",
    "pausing": ":material/pause_circle:",
    "paused": ":material/pause_circle:",
    "stopping": ":material/stop_circle:",
    "interrupted": ":material/warning:",
    "finished": ":material/check_circle:",
    "stopped": ":material/stop_circle:",
    "failed": ":material/error:",
}


def label(study: Study) -> str:
    """A study in pickers and addresses: its name and id."""
    return f"{' '.join(study.name.split())[:60]} · {study.id}"


def pick(kind: Kind, dataset: Dataset, key: str) -> Study | None:
    """The study of a kind that the user looks at; None where there is none on the dataset."""
    found = [study for study in studies.all_studies(kind) if study.dataset == dataset.id]
    if not found:
        return None
    labels = [label(study) for study in found]
    if f"begun {key}" in st.session_state:
        st.session_state[key] = st.session_state.pop(f"begun {key}")
    widgets.tell_if_missing(key, labels)
    chosen = st.selectbox(
        key.capitalize(), labels, key=key, bind="query-params", label_visibility="collapsed"
    )
    return studies.load(widgets.id_of(chosen or labels[0]))


def base_recipe(title: str, key: str, about: str) -> Recipe | None:
    """The recipe of a new study: a preset, or the one that was loaded on Recipe."""
    loaded = st.session_state.get("loaded_yaml", "")
    options = [*PRESETS, *(["the recipe loaded on Recipe"] if loaded else [])]
    chosen = st.segmented_control(
        title, options, default="quick", key=f"{key} preset", required=True,
        help=f"{about}\n\n" + "\n\n".join(f"**{k}**: {text}" for k, text in PRESET_HELP.items()),
    )  # fmt: skip
    if chosen in PRESETS:
        return recipes.preset(chosen)
    return widgets.refused(lambda: recipes.from_yaml(loaded))


def begin(
    key: str,
    title: str,
    start: Callable[[], Study],
    expect: Callable[[], tuple[int, float]],
) -> None:
    """The button that begins a study, and one that says how long it will take."""
    with st.container(horizontal=True):
        start_now = st.button(
            title, type="primary", key=f"start {key}", icon=":material/play_arrow:", width="content"
        )
        say_how_long = st.button(
            "Estimate time", key=f"expect {key}", icon=":material/timer:", width="content"
        )
    if start_now and (study := widgets.refused(start)):
        show(key, study)
    if say_how_long:
        with st.spinner("Measuring a few steps on this machine…"):
            found = widgets.refused(expect)
        if found:
            n, seconds = found
            st.write(
                f"About {widgets.duration(seconds)} for {n:,} trainings one after the other, if "
                "nothing else runs here."
            )


def show(key: str, study: Study) -> None:
    """Draw the page again with a study that was just begun."""
    st.session_state[f"begun {key}"] = label(study)
    st.rerun()


def watched(study: Study, watch: Callable[[Study], None]) -> None:
    """Draw a study, again and again while it goes on."""
    going = studies.state_of(study) in studies.LIVE

    def look() -> None:
        if going and studies.state_of(study) not in studies.LIVE:
            st.rerun()  # It is over: draw once more, without the timer.
        studies.attend(study)
        watch(study)

    widgets.fragment(look, run_every=SECONDS_BETWEEN_LOOKS if going else None)()


def head(study: Study) -> None:
    """State, and what can be done about it."""
    state = studies.state_of(study)
    left, right = st.columns([3, 2], vertical_alignment="center")
    with left:
        st.subheader(widgets.plain(study.name))
        st.markdown(f"{ICONS[state]} **{state}** — {studies.STATES[state]}")
        recipe = study.recipe
        st.caption(
            f"On {widgets.plain(study.dataset_name)}, revision {study.revision}: "
            f"{recipe.technique.name}, {widgets.plain(recipe.backbone.name)}."
        )
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        for name, icon, fits, action, words in ACTIONS:
            if state in fits and st.button(
                name, icon=icon, key=f"{name} {study.id}", help=words, width="content"
            ):
                act(lambda action=action: action(study))
    if state == "failed":
        result = study.result
        st.error(
            f"{widgets.plain(result['what'])}\n\n{widgets.plain(result['remedy'])}",
            icon=":material/error:",
        )


ACTIONS: Sequence[tuple[str, str, frozenset[State], Callable[[Study], None], str]] = (
    (
        "Pause", ":material/pause:", frozenset(("running", "interrupted")), studies.pause,
        "What is being trained comes to its end; nothing new is begun.",
    ),
    (
        "Resume", ":material/play_arrow:", frozenset(("paused", "pausing")), studies.resume,
        "Goes on where it was.",
    ),
    (
        "Stop", ":material/stop:", frozenset(("running", "pausing", "paused", "interrupted")),
        studies.stop, "Ends it; what was found so far is kept.",
    ),
    (
        "Delete", ":material/delete:", studies.OVER | {"paused"}, studies.delete,
        "Removes it with its trials or folds and the predictions of all folds. A winner that was "
        "trained stays.",
    ),
)  # fmt: skip


def act(action: Callable[[], Any]) -> None:
    """Do something to a study and draw the page again, or show why it was refused."""
    try:
        action()
    except HeadstartError as error:
        words = f"{widgets.plain(error.what)} {widgets.plain(error.remedy)}"
        st.toast(words, icon=":material/block:")
    else:
        st.rerun()


def run_links(run: Run) -> None:
    """Where to look at a run of a study, or that it is still being trained."""
    figures = runs.result_of(run.events()).get("test", {})
    address = {"run": widgets.run_label(run)}
    if figures.get("n") and run.kind == "training":
        text = f"Its test accuracy, looked at once: {widgets.share_with_interval(figures)}."
        widgets.verdict(figures, text)
    columns = st.columns(4)
    if not figures:
        columns[0].page_link(
            "train.py", label="Watch its training", icon=":material/monitoring:",
            query_params=address,
        )  # fmt: skip
        return
    for column, (page, name, icon) in zip(columns, LINKS, strict=False):
        column.page_link(page, label=name, icon=icon, query_params=address)


LINKS = (
    ("evaluate.py", "Evaluate", ":material/fact_check:"),
    ("predict.py", "Predict", ":material/image_search:"),
)
