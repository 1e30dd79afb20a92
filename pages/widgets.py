"""Pieces that several pages draw: pickers, uploads, overlays, fields, refusals."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from core import damage
from core.damage import DamagedItem
from core.data import dataset as datasets
from core.data.dataset import Dataset
from core.errors import HeadstartError
from core.evaluation import baseline
from core.recipe import choices, fields, number_or_yaml, value_of
from core.reference import label_of
from core.runs import run as runs
from core.runs.run import Run, State
from core.runs.status import Status
from core.schema import Recipe
from core.text import markdown
from core.training.events import PHASES, Event
from core.training.progress import STEPS

PARTS = Path(__file__).parent / "components"


def part(name: str) -> str:
    """The text of a component's file."""
    return (PARTS / name).read_text(encoding="utf-8")


_UPLOAD = st.components.v2.component(
    "headstart_upload", html=part("upload.html"), css=part("upload.css"), js=part("upload.js")
)
_OVERLAY = st.components.v2.component(
    "headstart_overlay", html=part("overlay.html"), css=part("overlay.css"), js=part("overlay.js")
)

ICONS: dict[State, str] = {
    "created": ":material/radio_button_unchecked:",
    "queued": ":material/hourglass_empty:",
    "starting": ":material/hourglass_top:",
    "running": ":material/play_circle:",
    "stopping": ":material/pause_circle:",
    "interrupted": ":material/warning:",
    "finished": ":material/check_circle:",
    "stopped": ":material/stop_circle:",
    "failed": ":material/error:",
}


def plain(text: object) -> str:
    """Text that Markdown shows literally: names come from files and may hold anything."""
    return markdown(text)


def refusal(error: HeadstartError) -> None:
    """What is wrong, and what to do."""
    st.error(f"{plain(error.what)}\n\n{plain(error.remedy)}", icon=":material/block:")


def guarded(draw: Callable[..., None], *given: Any) -> None:
    """Draw something; a refusal, or what a disk raises, is shown in its place."""
    try:
        with damage.disk_errors():
            draw(*given)
    except HeadstartError as error:
        refusal(error)


def fragment(draw: Callable[..., None], run_every: float | None = None) -> Callable[..., None]:
    """A part of a page that is drawn again by itself; it shows its own refusals."""

    @wraps(draw)
    def part(*given: Any) -> None:
        guarded(draw, *given)

    found: Callable[..., None] = st.fragment(part, run_every=run_every)
    return found


def damaged_items(found: list[DamagedItem], delete: Callable[[str], None]) -> None:
    """What cannot be read, each with its reason and a button that removes it."""
    for one in found:
        with st.container(border=True, key=f"damaged {one.kind} {one.id}"):
            st.warning(f"{plain(one.what)}\n\n{plain(one.remedy)}", icon=":material/broken_image:")
            label = f"Delete this damaged {one.kind}"
            if st.button(label, icon=":material/delete:", key=f"delete damaged {one.id}"):
                refused(lambda one=one: delete(one.id))  # type: ignore[misc]
                st.rerun()


def refused(action: Callable[[], Any]) -> Any:
    """The result of an action; None, with the refusal shown, if it is refused."""
    try:
        return action()
    except HeadstartError as error:
        refusal(error)
        return None


def dataset_label(dataset_id: str, name: str) -> str:
    """A dataset in pickers and addresses: its name and id."""
    return f"{' '.join(name.split())[:60]} · {dataset_id}"


def run_label(run: Run) -> str:
    """A run in pickers and addresses: its name and id."""
    return run.label


def id_of(label: str) -> str:
    """The id at the end of a label."""
    return label.rpartition(" · ")[2]


# With each look at a running job the browser sends all that it shows; so it may name the former
# dataset some time after another one was chosen here.
SECONDS_UNTIL_THE_BROWSER_KNOWS = 2.0


def choose_dataset(label: str) -> None:
    """Choose a dataset; to be called in a callback, or before the picker is drawn."""
    former = st.session_state.get("dataset")
    st.session_state["dataset_chosen"] = (label, former, time.monotonic())
    st.session_state["dataset"] = label


def stand_by_choice() -> None:
    """Choose again what `choose_dataset` chose, if the browser has not heard of it yet."""
    label, former, since = st.session_state.get("dataset_chosen", ("", None, 0.0))
    late = time.monotonic() - since > SECONDS_UNTIL_THE_BROWSER_KNOWS
    if label and not late and st.session_state.get("dataset") == former:
        st.session_state["dataset"] = label


def pick_dataset() -> Dataset:
    """The dataset that the user works on; without any, the page ends with what to do."""
    found = datasets.summaries()
    if not found:
        st.info("There is no dataset yet. Begin with your photos, or try the sample.")
        st.page_link("data.py", label="Add a dataset", icon=":material/add_photo_alternate:")
        st.stop()
    labels = [dataset_label(d["id"], d["name"]) for d in found]
    tell_if_missing("dataset", labels)
    stand_by_choice()
    chosen = st.selectbox("Dataset", labels, key="dataset", bind="query-params")
    return datasets.load(id_of(chosen or labels[0]))


def pick_run(candidates: list[Run], empty: str) -> Run:
    """The run that the user looks at; without any, the page ends with what to do."""
    if not candidates:
        st.info(empty)
        st.page_link("recipe.py", label="Start a training", icon=":material/tune:")
        st.stop()
    labels = [run_label(run) for run in candidates]
    tell_if_missing("run", labels)
    chosen = st.selectbox("Run", labels, key="run", bind="query-params")
    return runs.load(id_of(chosen or labels[0]))


def data_of(run: Run) -> None:
    """Which dataset and revision a run learned from, and whether that is still the newest."""
    newest = next((d["revision"] for d in datasets.summaries() if d["id"] == run.dataset), None)
    since = f" It is at revision {newest} now." if newest not in (None, run.revision) else ""
    st.caption(f"Learned from {plain(run.dataset_name)}, revision {run.revision}.{since}")


def tell_if_missing(key: str, labels: list[str]) -> None:
    """Say so when the address names something that is not in the list, before another is shown."""
    asked = st.query_params.get(key)
    if asked and asked not in labels:
        st.warning(f"The {key} {plain(asked)} cannot be shown here; below is another one.")


def go(page: str, **parameters: str) -> None:
    """Go to another page with a dataset or run chosen."""
    st.switch_page(page, query_params=parameters)


def upload(key: str) -> dict[str, str] | None:
    """A file that has just arrived in full: its upload id and its name; else None."""
    result = _UPLOAD(key=key, on_arrived_change=lambda: None)
    arrived: dict[str, str] | None = result.arrived
    return arrived


def overlay(picture: str, heat: str, alt: str, note: str, key: str) -> None:
    """A picture with a heat map over it and a slider for its strength; both by URL."""
    _OVERLAY(data={"picture": picture, "heat": heat, "alt": alt, "note": note}, key=key)


def share_with_interval(figures: dict[str, Any], name: str = "accuracy") -> str:
    """A figure with its 95 % interval and n, as text."""
    if not figures.get("n"):
        return "no test images"
    low, high = figures[f"{name}_low"], figures[f"{name}_high"]
    return f"{figures[name]:.1%} (95 %: {low:.1%} to {high:.1%}, n = {figures['n']:,})"


def verdict(figures: dict[str, Any], text: str) -> None:
    """Words on a result, beside its baseline: green, or amber where it is not above that."""
    said = f"{text} {plain(baseline.sentence(figures))}".strip()
    if baseline.is_beaten(figures):
        st.success(said, icon=":material/flag:")
    else:
        st.warning(said, icon=":material/warning:")


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


FIELDS = dict(fields())


def field(name: str, recipe: Recipe, scope: str) -> Any:
    """The widget of a recipe field, chosen by its type; help is the field's own description.

    scope: fields of another preset are other widgets, so that each keeps its own draft.
    """
    info, value = FIELDS[name], value_of(recipe, name)
    label, key = label_of(name), f"{scope} {name}"
    about: dict[str, Any] = {"help": info.description, "key": key, "persist_state": "session"}
    options = choices(info)
    low, high = bounds(info)
    if options:
        return st.selectbox(label, options, index=options.index(value), **about)
    if isinstance(value, bool):
        return st.toggle(label, value, **about)
    if "auto" not in str(info.annotation):
        if isinstance(value, float) and None not in (low, high) and name not in TYPED:
            step = (high - low) / 100
            return st.slider(label, float(low), float(high), value, step=step, **about)
        if isinstance(value, float):
            return st.number_input(label, value=value, step=0.01, format="%g", **about)
        if isinstance(value, int):
            return st.number_input(label, low, high, value, **about)
    if info.annotation is str:
        return st.text_input(label, value, **about).strip()
    shown = str(list(value)) if isinstance(value, tuple) else f"{value}"
    # Numbers that may also be auto are typed.
    return number_or_yaml(st.text_input(label, shown, **about))


# Fields whose useful values are too small for a slider.
TYPED = ("optimizer.weight_decay", "optimizer.l1", "stopping.min_delta", "head.c")


def bounds(info: Any) -> tuple[Any, Any]:
    """The least and the largest value that a field allows, None where there is none."""
    least = [rule.ge for rule in info.metadata if getattr(rule, "ge", None) is not None]
    most = [rule.le for rule in info.metadata if getattr(rule, "le", None) is not None]
    return (least or [None])[0], (most or [None])[0]


def query(**parameters: str) -> str:
    """Parameters as the end of an address."""
    return urlencode(parameters)


def training_progress(status: Status) -> None:
    """One bar and one time left for a whole training, and its steps with the present one."""
    progress = status.progress
    done = progress.steps.index(progress.step)
    names = [
        f":material/check: {STEPS[name]}" if place < done
        else f"**{STEPS[name]}**" if place == done
        else STEPS[name]
        for place, name in enumerate(progress.steps)
    ]  # fmt: skip
    text = f"{progress.share:.0%} of the training"
    if progress.seconds_left is not None:
        text += f", at most {duration(progress.seconds_left)} left"
    st.progress(min(1.0, progress.share), text=text)
    st.caption(" · ".join(names))


def phase(status: Status) -> str:
    """What a running training does now, in words."""
    text = PHASES[status.phase]
    if status.epochs and status.phase in ("head", "tune"):
        text += f", epoch {status.epoch} of {status.epochs}"
    return f"{text}, {status.images_per_second:,.0f} images a second"


def ending(run: Run, events: list[Event]) -> None:
    """Why a run has no figures: what happened and what to do."""
    state, last = runs.state_of(run, events), runs.ended(events)
    if last and last.what:
        st.error(f"{plain(last.what)}\n\n{plain(last.remedy)}", icon=":material/error:")
    else:
        st.warning(runs.STATES[state], icon=ICONS[state])
