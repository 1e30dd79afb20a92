"""A part of the Evaluate page: what the network looked at in one image, or in many of a class."""

from __future__ import annotations

import streamlit as st

from core.evaluation import charts, mistakes, sheets
from core.evaluation.methods import HELP, METHODS
from core.evaluation.report import Evaluation, Said
from core.runs.run import Run
from core.runs.scored import Scored
from pages import neighbors, widgets

LAST = "the last one"
# Below this a map is another one when the head is shuffled; the paper asks no number.
CHANGED = 0.5
SANE = (
    "With the head's weights shuffled the map for **{1}** is another one (rank correlation "
    "{0:.2f}): it depends on what was learned (Adebayo et al. 2018)."
)
DOUBTFUL = (
    "With the head's weights shuffled the map for **{1}** stays much the same (rank correlation "
    "{0:.2f}): it shows what is in the picture rather than why the classifier says so (Adebayo et "
    "al. 2018)."
)

_SHEET = st.components.v2.component(
    "headstart_sheet",
    html=widgets.part("sheet.html"),
    css=widgets.part("sheet.css"),
    js=widgets.part("sheet.js"),
)


def view(run: Run, images: Scored, found: Evaluation, clicked: str, scope: str) -> None:
    """The image that was clicked last: its maps, its probabilities, and what is like it."""
    key = f"explained {run.id} {images.key} {scope}"
    if clicked:
        st.session_state[key] = clicked
    name = st.session_state.get(key, "")
    if not name or not found.has(name):
        return
    said = found.said_of(name)
    st.text(name)
    st.markdown(
        f"True class **{widgets.plain(said.true)}**, "
        f"classified as **{widgets.plain(said.classes[0])}**"
    )
    method, layer = how(run, scope)
    left, right = st.columns(2)
    with right:
        other = st.selectbox(
            "Explain", [*said.classes], key=f"class {scope} {name}", index=first_other(said),
            format_func=lambda one: f"{one} (true class)" if one == said.true else one,
        )  # fmt: skip
        if other != said.classes[0] and METHODS[method].of_class:
            overlay(run, images, name, other, method, layer, f"{scope} other")
    with left:
        shows = METHODS[method].shows(f"**{widgets.plain(said.classes[0])}**")
        st.markdown(shows[0].upper() + shows[1:])
        overlay(run, images, name, said.classes[0], method, layer, scope)
    check(run, images, name, other, method, layer, scope)
    st.plotly_chart(
        charts.probabilities(said.classes, said.probabilities), key=f"bars {scope}",
        alt="Probabilities of the classes",
    )  # fmt: skip
    neighbors.view(run, images, name, scope)


def first_other(said: Said) -> int:
    """The true class where it is not what was said, else the next likeliest."""
    position = said.classes.index(said.true)
    return position if position else min(1, len(said.classes) - 1)


def how(run: Run, scope: str) -> tuple[str, int | None]:
    """The method and the layer that the user chose."""
    from core.evaluation import explain as explaining

    left, right = st.columns(2)
    method = left.selectbox(
        "Method", list(METHODS), key=f"method {scope}", help=HELP,
        format_func=lambda key: METHODS[key].title,
    )  # fmt: skip
    names = explaining.layer_names(run.model) if METHODS[method].cam else []
    chosen = right.selectbox(
        "Layer", [LAST, *names[-2::-1]], key=f"layer {run.id} {scope}", disabled=not names,
        help="Earlier layers see finer and simpler things.",
    )  # fmt: skip
    return method, names.index(chosen) if chosen in names else None


def overlay(
    run: Run, images: Scored, name: str, class_name: str, method: str, layer: int | None, key: str
) -> None:
    """A map over what the network saw."""
    base = f"/api/runs/{run.id}/maps"
    parameters = {"image": name, "on": images.key, "class": class_name, "method": method}
    if layer is not None:
        parameters["layer"] = str(layer)
    query = widgets.query(**parameters)
    title = METHODS[method].title
    widgets.overlay(
        f"{base}/picture?{query}", f"{base}/heat?{query}", f"{title} of {name} for {class_name}",
        f"Bright: {METHODS[method].shows(class_name)} ({title}), on what the network saw.",
        f"overlay {key}",
    )  # fmt: skip


def check(
    run: Run, images: Scored, name: str, class_name: str, method: str, layer: int | None, scope: str
) -> None:
    """A button that shuffles the head's weights, and what the map does then."""
    pressed = st.button(
        "Check this map", icon=":material/rule:", key=f"check {scope}",
        help="Shuffles the weights of the head, on a copy, and compares the maps: a map that stays "
        "the same says nothing about the class.",
    )  # fmt: skip
    if not pressed:
        return
    from core.evaluation import explain as explaining

    with st.spinner("Computing four maps…"):
        content = mistakes.content_of(images.data(), name)
        alike = explaining.sanity(run.model, content, class_name, method, layer)
    if alike < CHANGED:
        st.success(SANE.format(alike, widgets.plain(class_name)))
    else:
        st.warning(DOUBTFUL.format(alike, widgets.plain(class_name)))


def sheet(run: Run, images: Scored, found: Evaluation, part: str) -> None:
    """The maps of up to 24 images of a class at once."""
    st.subheader("Contact sheet of a class")
    with st.form("sheet"):
        left, middle, right = st.columns(3)
        name = left.selectbox("Class", found.classes, key=f"sheet class {run.id}")
        kind = middle.selectbox(
            "Images", list(sheets.KINDS), format_func=sheets.KINDS.__getitem__, key="sheet kind"
        )
        method = right.selectbox(
            "Method", list(METHODS), key="sheet method", help=HELP,
            format_func=lambda key: METHODS[key].title,
        )  # fmt: skip
        pressed = st.form_submit_button("Draw it", icon=":material/grid_on:")
    key = f"sheet {run.id} {images.key} {part}"
    if pressed:
        st.session_state[key] = (name, kind, method)
    if key in st.session_state:
        drawn(run, images, found, part, *st.session_state[key])


def drawn(
    run: Run, images: Scored, found: Evaluation, part: str, name: str, kind: str, method: str
) -> None:
    """The contact sheet that was asked for, or why there is none."""
    count = len(sheets.names(found.scores, found.classes, name, kind))
    if not count:
        st.info("No image of this class is among them.", icon=":material/info:")
        return
    parameters = {"class": name, "kind": kind, "method": method, "part": part, "on": images.key}
    address = f"/api/runs/{run.id}/sheet?{widgets.query(**parameters)}"
    shows = METHODS[method].shows(name)
    note = f"Bright: {shows} ({METHODS[method].title}), in {count} images of {name}."
    _SHEET(data={"source": address, "note": note, "count": count}, key="sheet")
