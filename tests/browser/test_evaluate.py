"""The Evaluate page in a real browser: a cell, an operating point, an image and its neighbors."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.data import dataset as datasets
from core.data import importing
from core.evaluation import thresholds
from core.runs import run as runs
from core.runs.worker import work
from tests.browser.looking import no_error_box

SMALL = ["image.size=32", "schedule.epochs=3", "data.split=[0.5, 0.2, 0.3]"]


@pytest.fixture
def run(class_photos, make_folder, home):
    dataset = importing.import_all(make_folder(class_photos("ants", "bees", each=20)), "insects")
    made = runs.create(dataset, recipes.with_settings(recipes.preset("quick"), SMALL), "quick")
    list(work(made))
    return made


def shown(page, server, tab: str) -> None:
    page.goto(f"{server}/evaluate")
    page.get_by_role("tab", name=tab, exact=True).click()


def choose_cell(page) -> None:
    """Bees that were classified as bees: the last column's second row below the head."""
    table = page.get_by_role("region", name="Confusion matrix")
    table.wait_for()
    page.wait_for_timeout(1500)  # It is drawn on a canvas, which tells nothing of itself.
    box = table.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 40, box["y"] + 2.5 * 35)
    page.get_by_text("Images with true class bees and classified as bees").wait_for()
    page.get_by_text("6 images", exact=True).wait_for()


def test_a_cell_of_the_confusion_matrix_shows_its_images(page, server, run):
    shown(page, server, "Confusion")
    choose_cell(page)
    no_error_box(page)
    page.locator(".tile").first.click()
    page.get_by_text("The five training images that are most like it").wait_for()
    page.get_by_text("5 images", exact=True).wait_for()
    no_error_box(page)


def test_an_operating_point_is_moved_chosen_by_cost_and_kept(page, server, run):
    shown(page, server, "Operating point")
    slider = page.get_by_role("slider")
    slider.wait_for()
    slider.focus()
    for _ in range(3):
        slider.press("PageUp")
    slider.press("End")
    page.get_by_text("No image is given another class").wait_for(state="hidden")
    page.get_by_label("An image of the class is missed").fill("5")
    page.get_by_role("button", name="Choose on validation images").click()
    page.get_by_text("No image is given another class").wait_for()
    page.get_by_role("button", name="Keep this threshold").click()
    page.get_by_role("button", name="Remove it", disabled=False).wait_for()
    no_error_box(page)
    (value,) = thresholds.kept(run.model).values()
    assert thresholds.LEAST <= value <= thresholds.MOST


def test_a_training_image_is_excluded_from_where_its_neighbor_is_looked_at(page, server, run):
    shown(page, server, "Confusion")
    choose_cell(page)
    page.locator(".tile").first.click()
    page.get_by_text("5 images", exact=True).wait_for()
    page.get_by_role("button", name="Exclude").first.wait_for()
    near = page.locator(".tile:visible").nth(6)
    near.click()
    page.get_by_role("button", name="Exclude").first.click()
    page.get_by_text("Revision 2.").wait_for()
    no_error_box(page)
    assert len(datasets.load(run.dataset).table) == 39
