"""The part of the Evaluate page that explains an image and a class, on the real core."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount
from streamlit.testing.v1 import AppTest

from core.evaluation import scores as scoring
from core.evaluation.methods import METHODS
from core.runs.run import Run
from core.serving.api import api
from tests.pages.opening import texts


def shown(run_id: str, name: str) -> None:
    from core.evaluation import report
    from core.runs import run as runs
    from core.runs import scored
    from pages import explaining

    run = runs.load(run_id)
    images = scored.own(run)
    found = report.evaluate(run.predictions, run.classes, "test")
    assert found is not None
    explaining.view(run, images, found, name, "mistakes")
    explaining.sheet(run, images, found, "test")


@pytest.fixture
def app(finished: Run) -> AppTest:
    name = str(scoring.load(finished.predictions).part("test").images[0])
    app = AppTest.from_function(shown, default_timeout=120, args=(finished.id, name)).run()
    assert not app.exception, app.exception
    return app


def addresses(app: AppTest, kind: str) -> list[str]:
    """What the page's own components load."""
    found = [str(one.proto) for one in app.get("bidi_component")]
    texts_of = [piece for one in found for piece in one.split('"')]
    return [piece.rstrip("\\") for piece in texts_of if f"/{kind}?" in piece]


def select(app: AppTest, label: str, value: str) -> None:
    next(one for one in app.selectbox if one.label == label).select(value).run()
    assert not app.exception, app.exception


def asked(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def test_both_classes_are_explained_side_by_side_by_any_method_at_any_layer(app: AppTest):
    client = TestClient(Starlette(routes=[Mount("/api", app=api)]))
    assert {asked(one)["class"] for one in addresses(app, "maps/heat")} == {"ants", "bees"}
    select(app, "Method", "layercam")
    layers = next(one for one in app.selectbox if one.label == "Layer")
    assert layers.options[-1].startswith("stage 1 of")
    select(app, "Layer", layers.options[-1])
    for address in addresses(app, "maps/heat"):
        assert (asked(address)["method"], asked(address)["layer"]) == ("layercam", "0")
        assert client.get(address).headers["content-type"] == "image/png"


def test_a_map_that_depends_on_no_class_is_shown_once_and_claims_no_class(app: AppTest):
    assert "What speaks for" in texts(app)
    select(app, "Method", "eigencam")
    assert len(addresses(app, "maps/heat")) == 1
    assert "whatever the class" in texts(app)
    assert "speaks for" not in texts(app)


def test_the_check_tells_its_number(app: AppTest):
    select(app, "Method", "eigencam")
    next(one for one in app.button if one.label == "Check this map").click().run()
    assert not app.exception, app.exception
    assert "stays much the same (rank correlation 1.00)" in texts(app)


def test_a_contact_sheet_is_loaded_by_its_address_and_stays(app: AppTest):
    client = TestClient(Starlette(routes=[Mount("/api", app=api)]))
    assert not addresses(app, "sheet")
    next(one for one in app.button if one.label == "Draw it").click().run()
    select(app, "Method", next(iter(METHODS)))
    (address,) = addresses(app, "sheet")
    assert asked(address)["class"] == "ants"
    assert client.get(address).headers["content-type"] == "image/png"
