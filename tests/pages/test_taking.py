"""The part of the Evaluate page that links to what is taken along, on the real core."""

from __future__ import annotations

from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount
from streamlit.testing.v1 import AppTest

from core.evaluation.plates import FORMS, PLATES
from core.runs.run import Run
from core.serving.api import api
from tests.pages.opening import texts


def shown(run_id: str, part: str) -> None:
    from core.evaluation import report
    from core.runs import run as runs
    from core.runs import scored
    from pages import taking

    run = runs.load(run_id)
    found = report.evaluate(run.predictions, run.classes, part)
    assert found is not None
    taking.view(run, scored.own(run), found, part)


def links_of(run: Run, part: str) -> list[str]:
    app = AppTest.from_function(shown, default_timeout=60, args=(run.id, part)).run()
    assert not app.exception, app.exception
    assert not app.error
    assert "needs nothing else" in texts(app)
    return [link.proto.url for link in app.get("link_button")]


def test_every_link_of_the_page_leads_to_a_file(finished: Run):
    client = TestClient(Starlette(routes=[Mount("/api", app=api)]))
    links = links_of(finished, "val")
    assert len(links) == 4 + len(PLATES) * len(FORMS)
    for link in links:
        answer = client.get(link)
        assert answer.status_code == 200, link
        assert "attachment" in answer.headers["content-disposition"]


def test_a_figure_without_data_has_no_links(finished: Run):
    log = finished.folder / "events.jsonl"
    lines = [line for line in log.read_text().splitlines(keepends=True) if "EpochEnd" not in line]
    log.write_text("".join(lines))
    assert not [link for link in links_of(finished, "test") if "course" in link]
