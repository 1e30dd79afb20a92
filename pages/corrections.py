"""Corrections on the Data page: each one saves a revision, is told, and can be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from core.data import journal
from core.data.dataset import Dataset
from core.settings import settings
from core.storage import Json
from pages import grid, widgets

KEYS = {"keep": "k", "relabel": "r", "exclude": "x", "include": "i"}
ASKS = {"relabel": "New class"}


def offered(*kinds: str) -> list[grid.Action]:
    """Corrections of images as a grid offers them."""
    return [
        grid.Action(
            kind, journal.ACTIONS[kind].title, KEYS[kind], journal.ACTIONS[kind].help,
            ASKS.get(kind, ""),
        )
        for kind in kinds
    ]  # fmt: skip


def images(
    dataset: Dataset,
    key: str,
    actions: Sequence[grid.Action],
    *,
    query: Json | None = None,
    names: Sequence[str] | None = None,
    finding: str = "",
    place: str = "",
    empty: str = "No images.",
    height: int = 520,
) -> None:
    """Images of a dataset by a query or by name, and what the user does with them.

    finding: the kind that lists them, for those that are kept. place: as `grid.selectable`'s.
    """
    source = f"/api/datasets/{dataset.id}/images"
    done = grid.selectable(
        grid.address(source, {"revision": dataset.revision, **(query or {})}),
        key, actions, dataset.classes, dataset.revision,
        names=names, place=place, empty=empty, height=height,
    )  # fmt: skip
    if done:
        values = {"action": done.action, "names": done.names, "to": done.label, "kind": finding}
        save(dataset, values, done.revision)


def save(dataset: Dataset, values: Json, seen: int | None = None) -> None:
    """Make a correction and draw the page again; if it is refused, say so and stay.

    seen: the revision that the user looked at, if that may be an older one.
    """
    revision = dataset.revision if seen is None else seen
    after = widgets.refused(lambda: journal.record(dataset.id, values, who(), revision))
    if after is not None:
        st.session_state["saved"] = after.revision
        st.rerun()


def who() -> str:
    """The name of the user who is logged in, here or at a proxy; "" where there is no login."""
    user: Any = st.user.to_dict()
    header = settings().user_header
    told = (st.context.headers.get(header) if header else "") or ""
    return str(user.get("email") or user.get("name") or told)


def last_change(dataset: Dataset) -> None:
    """The newest correction that counts, with a button that takes it back."""
    rows = journal.listed(dataset.id)
    told = st.session_state.pop("saved", None)
    if told == dataset.revision:
        st.toast(f"Revision {told} is saved. Press u to undo.", icon=":material/save:")
    counting = [row for row in rows if row["action"] != "undo" and not row["undone"]]
    if not counting:
        return
    newest = counting[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Revision {dataset.revision}.** Last change: {widgets.plain(newest['what'])}.",
            width="content",
        )
        pressed = st.button(
            "Undo", icon=":material/undo:", key="undo", shortcut="u",
            help=f"Takes revision {newest['revision']} back; that is a revision too.",
        )  # fmt: skip
    if pressed:
        save(dataset, {"action": "undo", "of": newest["revision"]})
