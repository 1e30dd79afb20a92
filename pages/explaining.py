"""A part of the Evaluate page: what the network looked at in one image, or in many of a class."""

from __future__ import annotations

import streamlit as st

from core.data.dataset import Dataset
from core.evaluation import charts, mistakes, sheets
from core.evaluation import explain as explaining
from core.evaluation.report import Evaluation, Said
from core.runs.run import Run
from core.runs.scored import Scored
from pages import neighbors, widgets

LAST = "the last one"
STRENGTH = 0.6
# Below this a map is another one when the head is shuffled; the paper asks no number.
CHANGED = 0.5
SANE = (
    "With the head's weights shuffled the map is another one (rank correlation {0:.2f}): it "
    "depends on what was learned (Adebayo et al. 2018)."
)
DOUBTFUL = (
    "With the head's weights shuffled the map stays much the same (rank correlation {0:.2f}): it "
    "shows what is in the picture rather than why the classifier says so (Adebayo et al. 2018)."
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
        if other != said.classes[0]:
            overlay(run, images, name, other, method, layer, f"{scope} other")
    with left:
        st.markdown(f"What speaks for **{widgets.plain(said.classes[0])}**")
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
    left, right = st.columns(2)
    method = left.selectbox(
        "Method", list(explaining.METHODS), key=f"method {scope}",
        format_func=lambda key: explaining.METHODS[key].title,
        help="\n".join(f"- {one.title}: {one.help}" for one in explaining.METHODS.values()),
    )  # fmt: skip
    names = explaining.layer_names(run.model) if explaining.METHODS[method].cam else []
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
    title = explaining.METHODS[method].title
    widgets.overlay(
        f"{base}/picture?{query}", f"{base}/heat?{query}", f"{title} of {name} for {class_name}",
        f"Bright: what speaks for {class_name} ({title}), on what the network saw.",
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
    with st.spinner("Computing both maps…"):
        content = content_of(images.data(), name)
        alike = explaining.sanity(run.model, content, class_name, method, layer)
    if alike < CHANGED:
        st.success(SANE.format(alike))
    else:
        st.warning(DOUBTFUL.format(alike))


def content_of(dataset: Dataset, name: str) -> bytes:
    """The bytes of an image by its name."""
    return dataset.path_of(mistakes.digest_of(dataset, name)).read_bytes()


def sheet(run: Run, images: Scored, found: Evaluation) -> None:
    """The maps of up to 24 images of a class at once."""
    st.subheader("Contact sheet of a class")
    with st.form("sheet"):
        left, middle, right = st.columns(3)
        name = left.selectbox("Class", found.classes, key=f"sheet class {run.id}")
        kind = middle.selectbox(
            "Images", list(sheets.KINDS), format_func=sheets.KINDS.__getitem__, key="sheet kind"
        )
        method = right.selectbox(
            "Method", list(explaining.METHODS), key="sheet method",
            format_func=lambda key: explaining.METHODS[key].title,
        )  # fmt: skip
        pressed = st.form_submit_button("Draw it", icon=":material/grid_on:")
    if not pressed:
        return
    chosen = sheets.names(found.scores, found.classes, name, kind)
    with st.spinner(f"Computing {len(chosen)} maps…"):
        png = widgets.refused(
            lambda: sheets.sheet(run.model, images.data(), chosen, name, method, STRENGTH)
        )
    if png is not None:
        st.image(png, caption=f"What speaks for {name} in {len(chosen)} images of it")
