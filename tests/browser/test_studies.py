"""The Studies page in a real browser: a search that is watched, a cross-validation, an ensemble."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.data import importing
from core.runs import run as runs
from core.runs.worker import work
from core.studies import study as studies
from core.studies.trials import records_of
from pages import widgets
from tests.browser.looking import choose, no_error_box

SMALL = ["image.size=32", "schedule.epochs=3", "schedule.min_steps=0"]


@pytest.fixture
def dataset(class_photos, make_folder, home):
    return importing.import_all(make_folder(class_photos("ants", "bees", each=20)), "insects")


def test_a_search_is_started_watched_and_its_winner_looked_at(page, server, dataset):
    page.goto(f"{server}/studies")
    page.get_by_label("Trials", exact=True).fill("2")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start the search").click()
    page.get_by_text("All trials were made.").wait_for()
    page.get_by_text("Its test accuracy, looked at once").wait_for()
    no_error_box(page)
    (study,) = studies.all_studies("search")
    assert len(records_of(study)) == 2
    page.get_by_role("link", name="Evaluate").last.click()
    page.get_by_role("heading", name="Evaluate").wait_for()
    page.get_by_text("How often it is right").wait_for()
    no_error_box(page)


def test_folds_and_an_ensemble_are_made_on_the_page(page, server, dataset):
    for change in ([], ["head.kind=mlp"]):
        recipe = recipes.with_settings(recipes.preset("quick"), [*SMALL, *change])
        list(work(runs.create(dataset, recipe, "quick")))
    page.goto(f"{server}/studies")
    page.get_by_role("tab", name="Cross-validation").click()
    page.get_by_label("Folds", exact=True).fill("3")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("Out-of-fold accuracy").wait_for()
    no_error_box(page)
    page.get_by_role("tab", name="Ensembles").click()
    for run in [run for run in runs.listed() if run.kind == "training"]:
        choose(page, "Runs", run.id)
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Combine").click()
    page.get_by_text("its members in").first.wait_for()
    page.get_by_text("Accuracy against time for one image").wait_for()
    no_error_box(page)
    made = next(run for run in runs.listed() if run.kind == "mean")
    page.goto(f"{server}/predict?{widgets.query(run=widgets.run_label(made))}")
    page.get_by_role("heading", name="Predict").wait_for()
    page.wait_for_timeout(2000)
    no_error_box(page)
