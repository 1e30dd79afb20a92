"""The view of the architecture, by Streamlit's own AppTest."""

from __future__ import annotations

import textwrap

from streamlit.testing.v1 import AppTest


def shown(values: str, *, opened: bool) -> AppTest:
    """A page that holds nothing but the view, for a recipe of these values."""
    script = f"""
    import streamlit as st
    from core import recipe as recipes
    from pages import architecture
    st.session_state.setdefault("architecture", {opened})
    architecture.view(recipes.made({values}))
    """
    app = AppTest.from_string(textwrap.dedent(script), default_timeout=60).run()
    assert not app.exception, app.exception
    return app


def test_nothing_is_looked_at_before_it_is_opened():
    assert not shown("{}", opened=False).dataframe


def test_the_stages_are_shown_with_what_becomes_of_them():
    app = shown('{"technique.name": "last_stages"}', opened=True)
    (table,) = [element.value for element in app.dataframe]
    assert list(table.columns) == ["stage", "output", "parameters", "learns"]
    assert list(table["learns"]) == ["frozen"] * 6 + ["learns"] * 3
    assert table["output"][0] == "112 × 112 × 32"
    assert "2.7 of the backbone" in app.caption[0].value


def test_a_backbone_that_cannot_be_made_is_refused_in_words():
    app = shown('{"backbone.name": "vit_small_patch14_dinov2", "image.size": 225}', opened=True)
    assert not app.dataframe
    assert "225" in app.error[0].value
