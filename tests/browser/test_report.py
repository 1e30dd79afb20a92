"""A run's report, taken along from the Evaluate page and opened on its own, in a real browser."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.data import importing
from core.documents import document
from core.runs import run as runs
from core.runs.run import Run
from core.runs.worker import work
from tests.browser.looking import no_error_box

SMALL = ["image.size=32", "schedule.epochs=3"]


@pytest.fixture
def finished(class_photos, make_folder, home) -> Run:
    photos = class_photos("ants", "<b>bees</b>", each=20)
    dataset = importing.import_all(make_folder(photos), "insects")
    run = runs.create(dataset, recipes.with_settings(recipes.preset("quick"), SMALL), "quick")
    list(work(run))
    return run


def test_the_report_is_downloaded_and_opens_without_a_server(finished, page, server, tmp_path):
    page.goto(f"{server}/evaluate")
    page.get_by_role("tab", name="Take along").click()
    path = tmp_path / "report.html"
    with page.expect_download() as started:
        page.get_by_role("link", name="Report (HTML)").click()
    started.value.save_as(path)
    no_error_box(page)
    assert started.value.suggested_filename.endswith("report.html")
    assert path.read_text(encoding="utf-8") == document.html(finished)
    for form in ("SVG", "PNG", "CSV"):
        with page.expect_download() as started:
            page.get_by_role("link", name=form, exact=True).first.click()
        assert started.value.suggested_filename.endswith(f"test confusion.{form.lower()}")

    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.get_by_role("heading", name="What it cannot do").wait_for()
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.images.length") >= 6
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
