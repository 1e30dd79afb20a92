"""Choose how to train: preset, backbone, technique, augmentation; see what they do; start."""

from __future__ import annotations

import hashlib
from typing import Any

import streamlit as st

from core import recipe as recipes
from core.data.dataset import Dataset
from core.models import catalog, weights
from core.recipe import PRESET_HELP, PRESETS
from core.runs import run as runs
from core.schema import Recipe
from core.training import estimate as estimating
from pages import advice, architecture, grid, widgets

SHOWN_FIRST = ("technique.name", "head.kind", "schedule.epochs", "image.size", "image.fit")
PER_ROW = 3


def base_recipe() -> tuple[Recipe, str, str]:
    """The recipe that the fields start from, the scope of their keys, and the preset's name."""
    loaded = st.session_state.get("loaded_yaml", "")
    if loaded:
        st.info("The fields show the recipe that was loaded.", icon=":material/upload_file:")
        if st.button("Back to the presets", key="forget"):
            st.session_state["loaded_yaml"] = ""
            st.rerun()
        return recipes.from_yaml(loaded), hashlib.sha256(loaded.encode()).hexdigest()[:8], ""
    preset = st.segmented_control(
        "Preset", list(PRESETS), default="balanced", key="preset", format_func=str.capitalize,
        help="\n\n".join(f"**{name}**: {text}" for name, text in PRESET_HELP.items()),
        persist_state="session", required=True,
    )  # fmt: skip
    st.caption(PRESET_HELP[preset])
    return recipes.preset(preset), preset, preset


def backbone_field(base: Recipe, scope: str) -> str:
    """Cards of the catalog, and a field for any other timm name; the chosen name."""
    key = f"backbone {scope}"
    st.session_state.setdefault(key, base.backbone.name)
    groups = ["usable now", "small", "medium", "large"]
    group = st.segmented_control(
        "Backbone", groups, default="usable now", key="group", required=True,
        help=widgets.FIELDS["backbone.name"].description,
    )  # fmt: skip
    shown = [b for b in catalog.backbones() if in_group(b, group)]
    with st.container(height=340 if len(shown) > PER_ROW else "content", border=False):
        for start in range(0, len(shown), PER_ROW):
            for column, one in zip(
                st.columns(PER_ROW), shown[start : start + PER_ROW], strict=False
            ):
                with column:
                    card(one, key)
    typed = st.text_input(
        "Chosen backbone (any name of timm)", key=key,
        help="A card's name, or any other network of the timm library.",
    )  # fmt: skip
    return typed.strip()


def in_group(one: catalog.Backbone, group: str) -> bool:
    """Whether a card belongs to the chosen group."""
    return weights.usable_now(one.name) if group == "usable now" else one.tier == group


def card(one: catalog.Backbone, key: str) -> None:
    """One backbone: what it is, what it costs, whether it can be used now."""
    with st.container(border=True, height="stretch"):
        here = weights.usable_now(one.name)
        st.markdown(f"**{widgets.plain(one.title)}**")
        st.caption(widgets.plain(one.good_for))
        accuracy = (
            f"{one.imagenet_top1:.1f} % on ImageNet" if one.imagenet_top1 else "no ImageNet figure"
        )
        st.caption(
            f"{one.parameters_m:g} M parameters · {one.gmacs:g} GMACs · {one.input_size} px · "
            f"{accuracy}  \nlicense {widgets.plain(catalog.licensed(one.license, one.commercial))}"
        )
        st.badge(
            "usable now" if here else "needs the hub",
            icon=":material/check:" if here else ":material/cloud_download:",
            color="green" if here else "gray",
        )
        st.button(
            "Use", key=f"use {one.name}", on_click=use, args=(key, one.architecture),
            help=f"Take {one.architecture}",
        )  # fmt: skip


def use(key: str, name: str) -> None:
    """Take a card's backbone."""
    st.session_state[key] = name


def chosen_recipe(base: Recipe, scope: str, dataset: Dataset) -> Recipe | None:
    """The recipe that the widgets describe; None, with the refusal shown, if it is none."""
    values: dict[str, Any] = {"backbone.name": backbone_field(base, scope)}
    for column, name in zip(st.columns(len(SHOWN_FIRST)), SHOWN_FIRST, strict=True):
        with column:
            values[name] = field_if_it_counts(name, base, scope, values)
    st.subheader("Augmentation")
    left, right = st.columns([2, 3])
    with left:
        augmentation(base, scope, values)
    st.subheader("Everything else")
    everything_else(base, scope, values)
    made = widgets.refused(lambda: recipes.made(values))
    with right:
        if made:
            preview(dataset, made)
    return made


def augmentation(base: Recipe, scope: str, values: dict[str, Any]) -> None:
    """The policy, and each of its changes; another policy brings other strengths."""
    name = "augmentation.policy"
    policy = values[name] = widgets.field(name, base, scope)
    if policy != base.augmentation.policy:
        base = recipes.changed(base, {"augmentation": {"policy": policy}})
    several = [n for n in widgets.FIELDS if n.startswith("augmentation.") and n != name]
    with st.container(height=470):
        for one in several:
            values[one] = field_if_it_counts(one, base, f"{scope} {policy}", values)


def field_if_it_counts(name: str, base: Recipe, scope: str, values: dict[str, Any]) -> Any:
    """A field's widget where it says anything beside the others chosen so far; else its value."""
    if recipes.applies(name, values):
        return widgets.field(name, base, scope)
    return recipes.value_of(base, name)


def everything_else(base: Recipe, scope: str, values: dict[str, Any]) -> None:
    """The fields that have no place of their own, section by section."""
    rest = [name for name in widgets.FIELDS if name not in values]
    sections = dict.fromkeys(name.partition(".")[0] for name in rest)
    for tab, section in zip(st.tabs([s.capitalize() for s in sections]), sections, strict=True):
        with tab:
            names = [name for name in rest if name.partition(".")[0] == section]
            section_fields(names, base, scope, values)


def section_fields(names: list[str], base: Recipe, scope: str, values: dict[str, Any]) -> None:
    """The fields of one section that count, four in a row; a choice redraws those after it."""
    columns = st.columns(4)
    shown = 0
    for name in names:
        if recipes.applies(name, values):
            with columns[shown % 4]:
                values[name] = widgets.field(name, base, scope)
            shown += 1
        else:
            values[name] = recipes.value_of(base, name)
    if not shown:
        st.caption("Nothing to choose here with this technique and head.")


@widgets.fragment
def preview(dataset: Dataset, recipe: Recipe) -> None:
    """A dozen of the user's images as training would see them."""
    if recipe.is_frozen:
        st.caption(
            "Feature extraction looks at every image once, as below: augmentation does not apply. "
            "Choose another technique to use it."
        )
    else:
        st.caption(
            "A dozen of your images as one epoch sees them; every epoch sees other versions."
        )
    st.button("Other versions", icon=":material/refresh:", key="again", on_click=count_up)
    seen = {"recipe": recipes.to_yaml(recipe), "seed": st.session_state.get("versions", 0)}
    grid.images(f"/api/datasets/{dataset.id}/previews", seen, "preview", "No images.", 560)


def count_up() -> None:
    """Ask for other random versions."""
    st.session_state["versions"] = st.session_state.get("versions", 0) + 1


def start(dataset: Dataset, recipe: Recipe, preset: str) -> None:
    """What it will take, and the button."""
    left, right = st.columns([1, 2], vertical_alignment="center")
    if left.button("Start training", type="primary", icon=":material/play_arrow:", key="start"):
        run = widgets.refused(lambda: runs.start(dataset, recipe, preset))
        if run:
            widgets.go("train.py", run=widgets.run_label(run))
    with right:
        if st.button("Estimate time and memory", icon=":material/timer:", key="estimate"):
            with st.spinner("Measuring a few steps on this machine…"):
                found = widgets.refused(lambda: estimating.estimate(dataset, recipe))
            if found:
                st.write(
                    f"About {widgets.duration(found.seconds)} and {found.memory_mb / 1000:.1f} GB "
                    "of memory, if nothing else runs here."
                )


def as_yaml(recipe: Recipe) -> None:
    """The recipe as text, to copy, and a place to load one."""
    with st.expander("Recipe as YAML", icon=":material/code:"):
        st.code(recipes.to_yaml(recipe), language="yaml", height=300)
        text = st.text_area("Load another recipe", key="yaml_text", height=120)
        if st.button("Load", key="load_yaml") and widgets.refused(lambda: recipes.from_yaml(text)):
            st.session_state["loaded_yaml"] = text
            st.rerun()


st.title("Recipe")
st.caption(
    "Everything a training depends on. A preset is a good start; "
    "nothing runs before you press Start."
)
dataset = widgets.pick_dataset()
advice.view(dataset)
base, scope, preset = base_recipe()
recipe = chosen_recipe(base, scope, dataset)
if recipe is not None:
    architecture.view(recipe)
    start(dataset, recipe, preset if recipe == base else "")
as_yaml(recipe or base)
