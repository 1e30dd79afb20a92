"""Watch trainings live, stop and resume them, and see all runs."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core.errors import HeadstartError
from core.evaluation import charts
from core.runs import run as runs
from core.runs.run import Run, Status
from core.training.events import Event, Note, epochs_of, steps_of
from pages import widgets

SECONDS_BETWEEN_LOOKS = 1.0
STOP_HELP = "The best epoch so far is scored and kept."
RESUME_HELP = "Goes on from the last checkpoint."


def watch(run: Run) -> None:
    """Everything about one run that may change while it is looked at."""
    events = run.events()
    status = runs.status(run, events)
    head(run, status)
    if status.state in runs.LIVE:
        st.session_state["watched"] = run.id
        live(status)
    elif st.session_state.pop("watched", None) == run.id:
        st.rerun()  # The run is over: draw once more, without the timer.
    else:
        over(run, events)
    for note in (e for e in events if isinstance(e, Note)):
        (st.warning if note.level == "warning" else st.info)(widgets.plain(note.text))
    curves(run, events)
    with st.expander("Log", icon=":material/article:"):
        st.code(runs.log_of(run) or "Nothing was logged.", language=None, height=300)


def head(run: Run, status: Status) -> None:
    """State, and what can be done about it."""
    left, middle, right = st.columns([4, 1, 1], vertical_alignment="center")
    with left:
        st.subheader(widgets.plain(run.name))
        place = f" Place {status.place} in the queue." if status.place else ""
        st.markdown(
            f"{widgets.ICONS[status.state]} **{status.state}** — {runs.STATES[status.state]}{place}"
        )
    stoppable = status.state in ("queued", "starting", "running")
    resumable = status.state in ("interrupted", "stopped", "failed", "created")
    with middle:
        if stoppable and st.button("Stop", icon=":material/stop:", key="stop", help=STOP_HELP):
            act(lambda: runs.ask_to_stop(run))
        if resumable and st.button(
            "Resume", icon=":material/play_arrow:", key="resume", help=RESUME_HELP
        ):
            act(lambda: runs.enqueue(run))
    if right.button("Refresh", icon=":material/refresh:", key="refresh", type="tertiary"):
        st.rerun()


def act(action: Callable[[], None]) -> None:
    """Do something to a run and draw the page again, or show why it was refused."""
    try:
        action()
    except HeadstartError as error:
        # A toast outlives the next look at the run, which draws everything else anew.
        st.toast(
            f"{widgets.plain(error.what)} {widgets.plain(error.remedy)}", icon=":material/block:"
        )
    else:
        st.rerun()


def live(status: Status) -> None:
    """Progress in numbers."""
    if status.state == "running":
        st.progress(min(1.0, status.share), text=widgets.phase(status))
    columns = st.columns(5)
    columns[0].metric("Epoch", f"{status.epoch} of {status.epochs}")
    columns[1].metric("Time left", widgets.duration(status.seconds_left))
    columns[2].metric("Images a second", f"{status.images_per_second:,.0f}")
    columns[3].metric("Memory", f"{status.memory_mb / 1000:.1f} GB")
    columns[4].metric("Device", status.device or "–")


def over(run: Run, events: list[Event]) -> None:
    """The figures of a run that is over, or why it has none."""
    result = runs.result_of(events)
    if not result:
        widgets.ending(run, events)
        return
    st.success(
        f"Test accuracy {widgets.share_with_interval(result['test'])}; best epoch "
        f"{result['best_epoch']} of {result['epochs']}, {widgets.duration(result['seconds'])}, "
        f"{result['peak_memory_mb'] / 1000:.1f} GB.",
        icon=":material/flag:",
    )
    label = widgets.run_label(run)
    columns = st.columns(4)
    columns[0].page_link(
        "evaluate.py", label="Evaluate", icon=":material/fact_check:", query_params={"run": label}
    )
    columns[1].page_link(
        "predict.py", label="Predict", icon=":material/image_search:", query_params={"run": label}
    )


def curves(run: Run, events: list[Event]) -> None:
    """Loss, accuracy and learning rate, by epoch and by step."""
    epochs, steps = epochs_of(events), steps_of(events)
    if not epochs:
        return
    view = st.segmented_control(
        "Curves", ["by epoch", "by step"], default="by epoch", key="curves", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    left, right = st.columns(2)
    if view == "by epoch":
        left.plotly_chart(charts.by_epoch(epochs, "loss"), key="loss", alt="Loss by epoch")
        right.plotly_chart(
            charts.by_epoch(epochs, "accuracy"), key="accuracy", alt="Accuracy by epoch"
        )
        st.plotly_chart(
            charts.rate_by_epoch(epochs), key="epoch rate", alt="Learning rate by epoch"
        )
    else:
        left.plotly_chart(
            charts.by_step(steps, "loss"), key="step loss", alt="Training loss by step"
        )
        right.plotly_chart(
            charts.by_step(steps, "accuracy"), key="step accuracy", alt="Training accuracy by step"
        )
        st.plotly_chart(charts.by_step(steps, "rate"), key="step rate", alt="Learning rate by step")


def details(run: Run) -> None:
    """The recipe, for those who want it."""
    with st.expander("Recipe of this run", icon=":material/tune:"):
        st.code(runs.recipe_text(run), language="yaml", height=300)


def every_run(found: list[Run]) -> None:
    """All runs as a table."""
    st.subheader("All runs")
    st.dataframe(runs.table(found), hide_index=True, alt="All runs", column_config={
        "test accuracy": st.column_config.NumberColumn(format="percent"),
        "low": st.column_config.NumberColumn("95 % from", format="percent"),
        "high": st.column_config.NumberColumn("to", format="percent"),
        "created": st.column_config.DatetimeColumn(format="distance"),
    })  # fmt: skip


st.title("Train")
st.caption(
    "Trainings go on when you close this page. One runs on each device; the others wait in order."
)
found = runs.all_runs()
current = widgets.pick_run(
    found, "No training has been started yet. Choose a recipe and press Start."
)
is_live = runs.state_of(current) in runs.LIVE
pause = SECONDS_BETWEEN_LOOKS if is_live else None
st.fragment(watch, run_every=pause)(current)
details(current)
st.fragment(every_run, run_every=pause)(found)
