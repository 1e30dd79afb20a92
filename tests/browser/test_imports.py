"""Zips one after the other on the Data page: what is new is opened and said, in the right tab."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest

from core import jobs, storage
from core.data import dataset as datasets
from core.data import importing
from core.data.dataset import Dataset
from core.runs import run as runs
from core.settings import settings
from tests.browser.looking import choose, go, no_error_box

# The run itself takes seconds; beside all other tests of a small machine it may take minutes.
SECONDS_TO_TRAIN = 600
ANNOUNCED = "insects is imported: 24 images in 2 classes."


@pytest.fixture
def audits_wait(monkeypatch, home):
    """As for users an audit follows each import; here it waits and is followed, at no cost."""
    monkeypatch.setenv("HEADSTART_AUDIT_AFTER_IMPORT", "1")
    settings().jobs.mkdir(parents=True)
    with storage.held(settings().jobs / "heavy.lock", 5):
        yield
        for job in jobs.of("audit"):
            job.cancel()


@pytest.fixture
def pets(class_photos, make_folder, home) -> Dataset:
    return importing.import_all(make_folder(class_photos("cats", "dogs", each=10)), "pets")


@pytest.fixture
def insects_zip(class_photos, make_zip):
    return make_zip(class_photos("ants", "bees", each=12, first=50), "insects.zip")


def drop(page, path) -> None:
    page.locator("input[type=file]").set_input_files(path)


def label(name: str) -> str:
    found = datasets.find(name)
    return f"{name} · {found.id}"


def is_open(page, chosen: str) -> None:
    """Wait for a dataset to be the chosen one, its page drawn to the end."""
    from playwright.sync_api import expect

    app, first = (
        page.get_by_test_id("stApp"),
        page.get_by_role("button", name="Train a first model"),
    )
    expect(picker(page)).to_have_value(chosen, timeout=240_000)
    expect(first).to_have_count(1, timeout=240_000)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=240_000)


def picker(page):
    return page.get_by_role("combobox", name="Dataset", exact=True)


def shows(page, images: int) -> None:
    page.get_by_test_id("stMetric").filter(has_text="Images").get_by_text(f"{images}").wait_for()


def test_a_second_zip_is_opened_announced_and_trained(
    audits_wait, page, server, class_photos, make_zip, insects_zip
):
    page.goto(f"{server}/data")
    drop(page, make_zip(class_photos("cats", "dogs", each=10), "pets.zip"))
    page.get_by_text("Waiting for other work").wait_for()
    is_open(page, label("pets"))
    drop(page, insects_zip)
    page.get_by_text(ANNOUNCED).first.wait_for()
    is_open(page, label("insects"))
    shows(page, 24)
    no_error_box(page)

    page.get_by_role("button", name="Train a first model").click()
    (run,) = waited(runs.all_runs)
    assert run.dataset == datasets.find("insects").id
    waited(lambda: runs.state_of(run) == "finished")


def test_photos_that_are_here_already_are_named_with_a_way_to_them(
    audits_wait, pets, page, server, class_photos, make_folder, insects_zip
):
    importing.import_all(insects_zip, "six-legged")
    page.goto(f"{server}/data")
    choose(page, "Dataset", "pets")
    is_open(page, label("pets"))
    drop(page, insects_zip)
    page.get_by_text("You already have these photos as six-legged.").wait_for()
    is_open(page, label("pets"))
    page.get_by_role("button", name="Open it").click()
    is_open(page, label("six-legged"))
    shows(page, 24)
    page.get_by_text("You already have these photos").wait_for(state="detached")
    assert len(datasets.summaries()) == 2
    no_error_box(page)


def test_an_import_opens_its_dataset_only_in_the_tab_that_started_it(
    audits_wait, pets, page, server, insects_zip
):
    page.goto(f"{server}/data")
    is_open(page, label("pets"))
    with storage.held(settings().home / "placing.lock", 5):  # It cannot end before both look.
        drop(page, insects_zip)
        page.get_by_text("insects.zip: ").wait_for()
        other = page.context.browser.new_page()
        other.set_default_timeout(240_000)
        other.goto(f"{server}/data?dataset={quote(label('pets'))}")
        other.get_by_text("insects.zip: ").wait_for()
    is_open(page, label("insects"))
    other.get_by_text(ANNOUNCED).first.wait_for()
    is_open(other, label("pets"))
    other.get_by_role("button", name="Open it").click()
    is_open(other, label("insects"))


def test_a_dataset_that_arrived_while_the_page_was_left_is_open_on_the_way_back(
    audits_wait, pets, page, server, insects_zip
):
    page.goto(f"{server}/data")
    is_open(page, label("pets"))
    with storage.held(settings().home / "placing.lock", 5):
        drop(page, insects_zip)
        page.get_by_text("insects.zip: ").wait_for()
        go(page, "Train")
        page.get_by_text("No training has been started yet").wait_for()
    waited(lambda: jobs.of("import")[0].state == "done")
    go(page, "Data")
    page.get_by_text(ANNOUNCED).first.wait_for()
    is_open(page, label("insects"))


def waited(found):
    """What comes at last."""
    end = time.monotonic() + SECONDS_TO_TRAIN
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.5)
    return value
