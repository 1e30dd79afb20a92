"""The advisor on the Recipe page: what it measured, what it proposes, and why."""

from __future__ import annotations

import streamlit as st

from core import recipe as recipes
from core.data.dataset import Dataset
from core.models import advisor
from core.models.advisor import Advice
from core.models.catalog import licensed
from core.models.ranking import Ranked
from core.training import estimate as estimating
from pages import widgets

COLUMNS = ("Backbone", "Accuracy", "Speed", "Memory", "LogME", "License", "")
WIDTHS = (4, 4, 2, 2, 2, 2, 3)
RANKING_HELP = (
    "Accuracy: a linear classifier on the backbone's features, each image judged by one that has "
    "not learned from it (five-fold), with its 95 % interval. Those that differ by no more than "
    "luck (McNemar's test) are ordered by speed. Speed is measured here, in batches; memory is "
    "computed from the layers. LogME (You et al. 2021) guesses from the features how well tuning "
    "will do; higher is better, and it is one hint among others. Test images are not looked at."
)

KEPT = "Features that were computed for this advice are kept, so that it need not wait for them."


def view(dataset: Dataset) -> None:
    """A button, and below it what the advisor last said of this dataset."""
    key = f"advice {dataset.id} {dataset.revision}"
    with st.container(border=True):
        text, button = st.columns([4, 1], vertical_alignment="center")
        text.markdown(
            "**Not sure where to start?** The advisor looks at your photos, tries the backbones "
            "on this machine and proposes a recipe. It takes about a minute and changes nothing."
        )
        if button.button("Advise me", icon=":material/lightbulb:", key="advise"):
            st.session_state[key] = widgets.refused(lambda: followed(dataset))
        advice: Advice | None = st.session_state.get(key)
        if advice:
            shown(advice)


def followed(dataset: Dataset) -> Advice | None:
    """The advice, its progress shown until it is there."""
    bar = st.progress(0.0, text="Looking at the photos")
    advice = None
    for step in estimating.advise(dataset):
        if isinstance(step, Advice):
            advice = step
        else:
            bar.progress(min(1.0, step.share), text=widgets.plain(step.text))
    bar.empty()
    return advice


def shown(advice: Advice) -> None:
    """The data in words, the backbones in their order, the recipe and what it takes."""
    st.markdown(f"**{widgets.plain(advice.summary)}**")
    low, middle, high = advice.per_class
    alike = advice.likeness
    st.caption(
        f"{advice.images:,} images; {low:,} to {high:,} a class, {middle:,} in the middle one. "
        f"Likeness {alike.score:.2f} of 1: confidence {alike.confidence:.2f}, distance "
        f"{alike.distance:.2f}.",
        help=widgets.plain(advice.method),
    )
    ranking(advice.backbones)
    if advice.untried:
        st.caption(widgets.plain(advisor.not_tried(advice)))
    proposal(advice)


def ranking(backbones: tuple[Ranked, ...]) -> None:
    """The backbones on this machine, one row each, with a button to take it."""
    st.markdown("**Backbones on this machine, on your photos**", help=RANKING_HELP)
    for column, title in zip(st.columns(WIDTHS), COLUMNS, strict=True):
        column.caption(title)
    for one in backbones:
        row(one)


def row(one: Ranked) -> None:
    """One backbone: how good, how fast, how large, under which license."""
    cells = st.columns(WIDTHS, vertical_alignment="center")
    name = widgets.plain(one.name)
    cells[0].markdown(f"**{name}** :material/recommend:" if one.recommended else name)
    cells[1].markdown(f"{one.accuracy:.1%} ({one.low:.1%} to {one.high:.1%}, n = {one.n:,})")
    cells[2].markdown(f"{one.ms_per_image:.1f} ms an image")
    cells[3].markdown(f"{one.memory_mb:,.0f} MB")
    cells[4].markdown(f"{one.logme:.3f}")
    cells[5].markdown(widgets.plain(licensed(one.license, one.commercial)))
    cells[6].button(
        "Take this backbone", key=f"take {one.name}", on_click=take_backbone, args=(one.name,)
    )


def proposal(advice: Advice) -> None:
    """Each proposed value with its reason and source, what a training takes, and the button."""
    st.markdown(f"**Proposed recipe**, laid over the preset {advice.preset}")
    for one in advice.reasons:
        st.markdown(
            f"- **{widgets.plain(widgets.label_of(one.field))}: {widgets.plain(one.value)}.** "
            f"{widgets.plain(one.reason)} :gray[({widgets.plain(one.source)})]"
        )
    st.button(
        "Take this recipe", type="primary", icon=":material/check:", key="take recipe",
        on_click=take, args=(recipes.to_yaml(advice.recipe),),
    )  # fmt: skip
    st.caption(
        f"A training takes about {widgets.duration(advice.estimate.seconds)} and "
        f"{advice.estimate.memory_mb / 1000:.1f} GB of memory here, if nothing else runs. "
        + KEPT
        * ("image.size" not in {one.field for one in advice.reasons})
    )


def take(text: str) -> None:
    """Let the fields below start from a recipe."""
    st.session_state["loaded_yaml"] = text


def take_backbone(name: str) -> None:
    """The recipe that the fields start from now, with another backbone."""
    loaded = st.session_state.get("loaded_yaml", "")
    preset = st.session_state.get("preset") or "balanced"
    base = recipes.from_yaml(loaded) if loaded else recipes.preset(preset)
    take(recipes.to_yaml(recipes.changed(base, {"backbone": {"name": name}})))
