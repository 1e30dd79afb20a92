"""The grid of images that several pages show; on some, images are selected and acted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from pages.widgets import part

SCRIPTS = ("rows.js", "source.js", "tile.js", "large.js", "grid.js")

_GRID = st.components.v2.component(
    "headstart_grid",
    html=part("grid.html"),
    css=part("grid.css"),
    js="\n".join(part(name) for name in SCRIPTS),
)


@dataclass(frozen=True)
class Action:
    """What can be done with selected images: by button, or by the letter `key`.

    asks: what the user is asked for before it is done; "" for nothing.
    """

    name: str
    title: str
    key: str
    help: str
    asks: str = ""


@dataclass(frozen=True)
class Done:
    """What the user did: an action's name, the images' names, and the answer if it asked.

    revision: that of the dataset as the user saw it.
    """

    action: str
    names: list[str]
    label: str
    revision: int


def address(source: str, query: dict[str, Any]) -> str:
    """A route with its parameters; those that are None are left out."""
    parameters = urlencode({k: v for k, v in query.items() if v is not None}, doseq=True)
    return f"{source}?{parameters}" if parameters else source


def images(source: str, query: dict[str, Any], key: str, empty: str, height: int = 420) -> str:
    """Images from a route of the API, any number; the one that was just clicked, else ""."""
    data = {
        "source": address(source, query), "place": key, "height": height, "empty": empty,
        "actions": [],
    }  # fmt: skip
    result = _GRID(data=data, key=key, on_chosen_change=lambda: None)
    return str(result.chosen or "")


def selectable(
    source: str,
    key: str,
    actions: Sequence[Action],
    classes: Sequence[str],
    revision: int,
    *,
    place: str = "",
    names: Sequence[str] | None = None,
    empty: str = "No images.",
    height: int = 520,
) -> Done | None:
    """Images that can be selected; what the user just did with some of them, else None.

    source: a route that lists them, or with `names` one that takes some of those by POST.
    classes: proposed where an action asks for one. place: as long as it is the same, the list
    does not jump to its top when it changes.
    """
    data = {
        "source": source, "place": place or key, "height": height, "empty": empty,
        "actions": [asdict(one) for one in actions], "classes": list(classes),
        "names": None if names is None else list(names),
        "revision": revision, "turn": st.session_state.get(f"{key} turn", 0),
    }  # fmt: skip
    done = _GRID(data=data, key=key, on_done_change=lambda: turn(key)).done
    if not done:
        return None
    names = [str(name) for name in done["names"]]
    return Done(str(done["action"]), names, str(done["label"]), int(done["revision"]))


def turn(key: str) -> None:
    """Let a grid know that its last action has been heard."""
    st.session_state[f"{key} turn"] = st.session_state.get(f"{key} turn", 0) + 1
