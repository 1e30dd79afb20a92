"""A part of the Evaluate page: whether averaging over views of an image is worth its time."""

from __future__ import annotations

import streamlit as st

from core import jobs
from core.evaluation import averaging
from core.evaluation.intervals import Figure
from core.runs.run import Run
from core.serving import averaged
from core.serving.averaged import Gain
from pages import widgets, working


def view(run: Run) -> None:
    """What test-time augmentation gains and costs on validation images, then a switch for it."""
    st.subheader("Test-time augmentation")
    views = [averaging.VIEWS[one].title for one in averaging.suiting(run.recipe.augmentation)]
    st.caption(
        "A photo is classified several times, as it is and in views that leave its class as it is "
        f"({', '.join(views)}), and the probabilities are averaged. It often helps a little, and "
        "always takes longer: measure it first."
    )
    job = next(iter(jobs.of("views", run=run.id)), None)
    if job is not None and job.state in jobs.LIVE:
        working.follow(job)
        return
    if job is not None and job.id in working.awaited():
        working.failure(job)
    gain = averaged.known(run.folder)
    label = "Measure again" if gain else "Measure it on validation images"
    if st.button(label, icon=":material/timer:", key="measure views"):
        widgets.refused(lambda: jobs.start("views", {"run": run.id}, "Measuring several views"))
        st.rerun()
    if gain is not None:
        told(run, gain)


def told(run: Run, gain: Gain) -> None:
    """The gain and the cost, and the switch."""
    rows = [
        {
            "views": title,
            "accuracy": share(gain.accuracy[k]),
            "log loss": number(gain.log_loss[k]),
            "ms an image": f"{gain.milliseconds[k]:.1f}",
        }
        for k, title in enumerate(("the photo alone", "with its views"))
    ]
    st.dataframe(rows, hide_index=True, alt="Without and with test-time augmentation")
    saved = gain.saved
    low, high = saved.low or 0.0, saved.high or 0.0
    verdict = "helps" if low > 0 else "harms" if high < 0 else "may help or not"
    st.markdown(
        f"It {verdict} here: the log loss falls by {saved.value:.4f} (95 %: {low:.4f} to "
        f"{high:.4f}, n = {saved.n:,}); {gain.gained} images become right, {gain.lost} wrong."
    )
    key = f"views {run.id}"
    # What is kept counts, also where another tab has changed it since.
    st.session_state[key] = bool(averaging.kept(run.model))
    st.toggle(
        "Average over views in Predict", key=key, on_change=switch, args=(run, gain, key),
        help="Kept with the classifier, for everybody who predicts with it.",
    )  # fmt: skip


def switch(run: Run, gain: Gain, key: str) -> None:
    """Keep what the user has just chosen."""
    averaging.keep(run.model, gain.views if st.session_state[key] else ())


def share(figure: Figure) -> str:
    """A share with its interval."""
    return f"{figure.value:.1%} ({figure.low or 0:.1%} to {figure.high or 1:.1%})"


def number(figure: Figure) -> str:
    """A number with its interval."""
    high = "no limit" if figure.high is None else f"{figure.high:.3f}"
    return f"{figure.value:.3f} ({figure.low or 0:.3f} to {high})"
