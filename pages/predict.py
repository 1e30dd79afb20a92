"""Classify one photo: the classes as bars, what the network looked at, and how long it took."""

from __future__ import annotations

import streamlit as st

from core.errors import HeadstartError
from core.evaluation import charts
from core.evaluation.methods import HELP, METHODS
from core.models.classifier import Prediction
from core.runs import run as runs
from core.runs.run import Run
from core.serving import predictor
from pages import widgets


def photo() -> bytes:
    """A photo from a file or the camera, else nothing."""
    source = st.segmented_control(
        "Photo from", ["a file", "the camera"], default="a file", key="source", required=True
    )
    if source == "the camera":
        taken = st.camera_input("Take a photo", key="camera")
    else:
        taken = st.file_uploader(
            "Choose a photo", key="photo", help="JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF."
        )
    return taken.getvalue() if taken else b""


def answer(run: Run, content: bytes) -> None:
    """The prediction beside its explanation."""
    with st.spinner("Looking at it… (the first photo after a start takes some seconds more)"):
        found = predictor.predict(run.model, content)
    left, right = st.columns(2)
    with right:
        share = dict(zip(found.classes, found.probabilities, strict=True))[found.given]
        st.metric(
            "By the thresholds" if found.decision else "Most probable",
            widgets.plain(found.given), f"{share:.1%}", delta_arrow="off",
        )  # fmt: skip
        familiar(found)
        st.plotly_chart(
            charts.probabilities(found.classes, found.probabilities), key="bars",
            alt="Probabilities of the classes",
        )  # fmt: skip
        st.caption(f"Read, prepared and classified in {found.milliseconds:.0f} ms.")
        shown = st.selectbox("Explain the class", found.classes, key="explained class")
        method = st.selectbox(
            "Method", list(METHODS), key="explained by", help=HELP,
            format_func=lambda key: METHODS[key].title,
        )  # fmt: skip
    with left:
        picture, heat = predictor.maps(run.model, content, shown or found.classes[0], method)
        shows = METHODS[method].shows(shown or found.classes[0])
        widgets.overlay(
            picture, heat, "What the network saw",
            f"Bright: {shows} ({METHODS[method].title}), on what the network saw.", "overlay",
        )  # fmt: skip


def familiar(found: Prediction) -> None:
    """Whether the photo is like those that the classifier learned from."""
    if found.rarer_than is None:
        return
    share = f"{found.rarer_than:.0%} of the validation images are more like those it learned from."
    if found.stranger:
        st.warning(
            f"**Unlike anything in training.** {share} Do not rely on the class.",
            icon=":material/help:",
        )
    else:
        st.caption(f"Familiar: {share}")


st.title("Predict")
st.caption(
    "Classify a photo that it has never seen. It is prepared exactly as the validation images were."
)
trained = [run for run in runs.listed() if run.model.exists()]
current = widgets.pick_run(trained, "There is no trained classifier yet. Train one first.")
given = photo()
if given:
    try:
        answer(current, given)
    except HeadstartError as error:
        widgets.refusal(error)
