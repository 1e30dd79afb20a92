"""Photos added to a dataset on the Data page, in a real browser."""

from __future__ import annotations

import pytest

from core.data import dataset as datasets
from core.data import importing, journal
from tests.browser.looking import choose, no_error_box


@pytest.fixture
def insects(class_photos, make_folder, home):
    return importing.import_all(make_folder(class_photos("ants", "bees", each=20)), "insects")


@pytest.fixture
def send(page, make_zip, insects):
    """Upload photos, on the page as it is, to be added to the insects."""

    def send_them(photos: dict[str, bytes], name: str) -> None:
        choose(page, "Add them to", "insects")
        page.locator("input[type=file]").set_input_files(make_zip(photos, name))

    return send_them


def shows(page, images: int) -> None:
    page.get_by_test_id("stMetric").filter(has_text="Images").get_by_text(f"{images}").wait_for()


def test_photos_of_known_and_of_new_classes_make_revisions(
    page, server, send, class_photos, insects
):
    page.goto(f"{server}/data")
    page.get_by_role("tab", name="Images").wait_for()
    page.get_by_text("Add photos").click()
    send(class_photos("ants", each=5, first=20), "more.zip")
    shows(page, 45)
    no_error_box(page)

    send(class_photos("wasps", each=6, first=25), "wasps.zip")
    page.get_by_text("What is the class of a photo?").wait_for()
    page.get_by_role("button", name="Import", exact=True).click()
    shows(page, 51)
    page.wait_for_timeout(2000)
    no_error_box(page)
    dataset = datasets.load(insects.id)
    assert (dataset.revision, dataset.classes) == (3, ("ants", "bees", "wasps"))
    assert [line["action"] for line in journal.lines(insects.id)] == ["add", "add"]
