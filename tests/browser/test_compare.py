"""The Compare page in a real browser: two runs chosen, told apart, and their images looked at."""

from __future__ import annotations

from urllib.parse import parse_qs, urlparse

import pytest

from core import recipe as recipes
from core.data import importing
from core.runs import run as runs
from core.runs import versus
from core.runs.run import Run
from core.runs.worker import work
from tests.browser.looking import choose, no_error_box

SMALL = ["image.size=32", "data.split=[0.5, 0.2, 0.3]"]
# One that has a head start, and one that has none and hardly any time.
DIFFERENT = (["schedule.epochs=5"], ["schedule.epochs=1", "technique.name=from_scratch"])


@pytest.fixture
def pair(class_photos, make_folder, home) -> list[Run]:
    photos = make_folder(class_photos("ants", "bees", "wasps", each=20))
    dataset = importing.import_all(photos, "insects")
    found = []
    for change in DIFFERENT:
        recipe = recipes.with_settings(recipes.preset("quick"), [*SMALL, *change])
        found.append(runs.create(dataset, recipe, "quick"))
        list(work(found[-1]))
    return found


def test_two_runs_are_chosen_told_apart_and_their_images_looked_at(page, server, pair):
    good, bad = pair
    found = versus.compared(good, bad)
    assert found.only_first > 0
    page.goto(f"{server}/compare")
    page.get_by_text("Choose two or more runs to see").wait_for()
    page.get_by_text("Accuracy against time for one image").wait_for()
    for run in pair:
        choose(page, "Runs to compare", run.id)
        page.keyboard.press("Escape")
    page.get_by_text("Each on its own test images (A 18, B 18)").wait_for()
    no_error_box(page)
    asked = parse_qs(urlparse(page.url).query)["runs"]
    assert [label.rpartition(" · ")[2] for label in asked] == [good.id, bad.id]

    page.reload()  # What the address says is what is shown.
    page.get_by_role("tab", name="Differences").click()
    page.get_by_text(f"A is right on {found.only_first} where B is wrong").wait_for()
    page.get_by_role("tab", name="Recipes").click()
    page.get_by_text("Only the fields that differ").wait_for()
    page.get_by_role("tab", name="Curves").click()
    page.get_by_text("ROC of all classes as one").wait_for()
    no_error_box(page)

    page.get_by_role("tab", name="Images").click()
    page.locator(".tile:visible").first.click()
    page.get_by_text("What A · quick on insects says").wait_for()
    page.get_by_text("What B · quick on insects says").wait_for()
    no_error_box(page)
