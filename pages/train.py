"""Watch trainings live, stop and resume them, and see all runs."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core.errors import HeadstartError
from core.evaluation import charts
from core.runs import leaderboard
from core.runs import run as runs
from core.runs.run import Run
from core.runs.status import Status, status_of, table
from core.training.events import Event, Note, epochs_of, steps_of
from core.training.remedies import in_words
from pages import widgets

SECONDS_BETWEEN_LOOKS = 1.0
STOP_HELP = "The best epoch so far is scored and kept."
AGAIN = "Train again with this change"
DOCTOR_HELP = "What the curves say, by rules of thumb. A change starts another run; this one stays."
RESUME_HELP = "Goes on from the last checkpoint."


def watch(run: Run) -> None:
    """Everything about one run that may change while it is looked at."""
    events = run.events()
    status = status_of(run, events)
    head(run, status)
    if status.state in runs.LIVE:
        st.session_state["watched"] = run.id
        live(status)
    elif st.session_state.pop("watched", None) == run.id:
        st.rerun()  # The run is over: draw once more, without the timer.
    else:
        over(run, events)
    for note in (e for e in events if isinstance(e, Note) and not e.kind):
        tell(note)
    doctor(run, events)
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
        widgets.data_of(run)
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
        widgets.training_progress(status)
        st.caption(widgets.phase(status))
    columns = st.columns(4)
    epoch = f"{status.epoch} of {status.epochs}" if status.epochs else "–"
    columns[0].metric("Epoch", epoch)
    columns[1].metric("Images a second", f"{status.images_per_second:,.0f}")
    columns[2].metric("Memory", f"{status.memory_mb / 1000:.1f} GB")
    columns[3].metric("Device", status.device or "–")


def over(run: Run, events: list[Event]) -> None:
    """The figures of a run that is over, or why it has none."""
    result = runs.result_of(events)
    if not result:
        widgets.ending(run, events)
        return
    # A head that was solved for at once has no epochs.
    best = f"best epoch {result['best_epoch']} of {result['epochs']}, " if result["epochs"] else ""
    widgets.verdict(
        result["test"],
        f"Test accuracy {widgets.share_with_interval(result['test'])}; {best}"
        f"{widgets.duration(result['seconds'])}, "
        f"{result['peak_memory_mb'] / 1000:.1f} GB.",
    )
    label = widgets.run_label(run)
    columns = st.columns(4)
    columns[0].page_link(
        "evaluate.py", label="Evaluate", icon=":material/fact_check:", query_params={"run": label}
    )
    columns[1].page_link(
        "predict.py", label="Predict", icon=":material/image_search:", query_params={"run": label}
    )


def tell(note: Note) -> None:
    """The words of a note."""
    (st.warning if note.level == "warning" else st.info)(widgets.plain(note.text))


def doctor(run: Run, events: list[Event]) -> None:
    """What the curves mean, each time with a change for the next run that one click makes."""
    # A resumed run may say the same again; the last word of a kind is the one that counts.
    notes = {event.kind: event for event in events if isinstance(event, Note) and event.kind}
    if not notes:
        return
    st.subheader("Doctor", help=DOCTOR_HELP)
    for note in notes.values():
        tell(note)
        if note.change:
            change_button(run, note)


def change_button(run: Run, note: Note) -> None:
    """One click to train again as a note proposes, and what that changes."""
    left, right = st.columns([1, 2], vertical_alignment="center")
    right.caption(" · ".join(map(widgets.plain, in_words(run.recipe, note.change))))
    if left.button(AGAIN, icon=":material/replay:", key=f"again {note.kind}"):
        started = widgets.refused(lambda: runs.again(run, note.change))
        if started:
            # The picker above is drawn already; it can be set only before it is drawn again.
            st.session_state["started"] = widgets.run_label(started)
            st.rerun()


def curves(run: Run, events: list[Event]) -> None:
    """Loss, accuracy and learning rate, by epoch and by step."""
    epochs, every_step = epochs_of(events), steps_of(events)
    found = [s for s in every_step if s.phase == "find"]
    if found:
        st.plotly_chart(
            charts.range_test(found, found_rate(events)), key="range test",
            alt="Range test: loss by learning rate",
        )  # fmt: skip
    steps = [s for s in every_step if s.phase in ("head", "tune")]
    if not epochs:
        return
    # One epoch is no curve yet: until there are two, the steps show the course.
    trained = [e for e in epochs if e.phase == epochs[-1].phase and e.epoch]
    views = ["by epoch", "by step"] if len(trained) > 1 or not steps else ["by step"]
    view = st.segmented_control(
        "Curves", views, default=views[0], required=True, label_visibility="collapsed",
        key="curves" if len(views) > 1 else "steps so far",
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


def found_rate(events: list[Event]) -> float | None:
    """The learning rate that the range test chose, once it has."""
    notes = [e for e in events if isinstance(e, Note) and e.kind == "rate_found"]
    return notes[-1].change.get("optimizer.learning_rate") if notes else None


def details(run: Run) -> None:
    """The recipe, for those who want it."""
    with st.expander("Recipe of this run", icon=":material/tune:"):
        st.code(runs.recipe_text(run), language="yaml", height=300)


def every_run(found: list[Run]) -> None:
    """All runs as a table."""
    st.subheader("All runs")
    st.dataframe(table(found), hide_index=True, alt="All runs", column_config={
        "test accuracy": st.column_config.NumberColumn(format="percent"),
        "low": st.column_config.NumberColumn("95 % from", format="percent"),
        "high": st.column_config.NumberColumn("to", format="percent"),
        "baseline": st.column_config.NumberColumn(
            "always the most common class", format="percent", help=leaderboard.COLUMNS["baseline"]
        ),
        "created": st.column_config.DatetimeColumn(format="distance"),
    })  # fmt: skip


st.title("Train")
st.caption(
    "Trainings go on when you close this page. One runs on each device; the others wait in order."
)
found = runs.listed()
if "started" in st.session_state:
    st.session_state["run"] = st.session_state.pop("started")
current = widgets.pick_run(
    found, "No training has been started yet. Choose a recipe and press Start."
)
is_live = runs.state_of(current) in runs.LIVE
pause = SECONDS_BETWEEN_LOOKS if is_live else None
widgets.fragment(watch, run_every=pause)(current)
details(current)
widgets.fragment(every_run, run_every=pause)(found)
