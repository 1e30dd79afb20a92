"""A part of the Evaluate page: whether the probabilities mean what they say."""

from __future__ import annotations

import streamlit as st

from core.evaluation import diagrams
from core.evaluation.reliability import Reliability, reliability
from core.evaluation.report import Evaluation
from core.runs.run import Run

HELP = (
    "How far confidence and accuracy lie apart, on average (expected calibration error, 15 bins): "
    "0 is perfect. Of 100 predictions that are 90 % sure, 90 should be right."
)


def view(run: Run, found: Evaluation) -> None:
    """The reliability diagram and its error, before and after temperature scaling."""
    temperature = run.temperature
    raw = reliability(found.scores, temperature)
    if temperature == 1:
        told(raw, "Calibration error")
        st.plotly_chart(diagrams.reliability({"as it is": raw}), key="reliability", alt="Diagram")
        st.caption(
            "Its probabilities are as the network says them: no temperature was told to be better "
            "by its validation images, or its recipe wants none."
        )
        return
    scaled = reliability(found.scores)
    left, right = st.columns(2)
    with left.container(border=True):
        told(raw, "Calibration error before")
    with right.container(border=True):
        told(scaled, "Calibration error after temperature scaling")
    both = {"before": raw, "after temperature scaling": scaled}
    st.plotly_chart(
        diagrams.reliability(both), key="reliability",
        alt="Share of right predictions by confidence",
    )  # fmt: skip
    sure = "less sure" if temperature > 1 else "surer"
    st.caption(
        "Points above the line: it is right more often than it says; below: it is too sure. "
        f"Its temperature of {temperature:.2f}, found on validation images (Guo et al. 2017), "
        f"makes it {sure}; which class it names does not change."
    )


def told(found: Reliability, title: str) -> None:
    """A calibration error with its interval, and what chance alone would show."""
    error = found.error
    st.metric(title, f"{error.value:.3f}", help=HELP)
    st.caption(
        f"95 % interval {error.low:.3f} to {error.high:.3f}, n = {error.n:,}. A perfectly "
        f"calibrated classifier would show about {found.by_chance:.3f} on as many images."
    )
