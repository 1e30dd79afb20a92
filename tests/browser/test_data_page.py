"""From a large upload over a bad connection to a training on corrected data, in a real browser."""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data import dataset as datasets
from core.data import journal
from core.runs import run as runs
from tests.browser.breaking import BreakingWay
from tests.browser.looking import no_error_box

# A gigabyte takes about a minute more; without a word the suite sends a fifth of it.
MEGABYTES = int(os.environ.get("HEADSTART_BROWSER_UPLOAD_MB", "200"))
SIDE, SMALL = 1000, 250
CLASSES = ("one", "four", "seven")
DIGITS = {"one": 1, "four": 4, "seven": 7}


def large_photo(digit: np.ndarray, noise: np.ndarray, seed: int) -> bytes:
    """Three megabytes: somebody's handwritten digit (8×8 of 0 to 16), large and with grain."""
    small = Image.fromarray((digit * 13).astype("uint8"))
    pixels = np.asarray(small.resize((SMALL, SMALL), Image.Resampling.BICUBIC))
    large = pixels.repeat(SIDE // SMALL, 0).repeat(SIDE // SMALL, 1)[:, :, None]
    shift = np.random.default_rng(seed).integers(0, SIDE, 2)
    grainy = np.minimum(large, 215) + np.roll(noise, shift, (0, 1))
    buffer = io.BytesIO()
    Image.fromarray(grainy).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


@pytest.fixture
def large_zip(tmp_path: Path) -> Path:
    """A zip of so many megabytes, three classes, and two sevens among the ones."""
    from sklearn.datasets import load_digits

    found = load_digits()
    photos = {name: iter(found.images[found.target == one]) for name, one in DIGITS.items()}
    noise = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE, 3), dtype="uint8")
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(MEGABYTES // 3):
            name = CLASSES[number % 3]
            content = large_photo(next(photos[name]), noise, number)
            archive.writestr(f"{name}/{number:04d}.png", content)
        for number in (9001, 9002):
            content = large_photo(next(photos["seven"]), noise, number)
            archive.writestr(f"one/{number}.png", content)
    return path


@pytest.fixture
def way(server):
    """A way to the server that breaks in the middle of the upload."""
    found = BreakingWay(int(server.rpartition(":")[2]), cut_after=MEGABYTES * 400_000)
    yield found
    found.close()


@pytest.fixture
def audits_begin(monkeypatch):
    monkeypatch.setenv("HEADSTART_AUDIT_AFTER_IMPORT", "1")


def test_a_large_upload_survives_a_cut_and_is_corrected_and_learned_from(
    audits_begin, page, way, large_zip, errors
):
    page.goto(f"{way.address}/data")
    page.locator("input[type=file]").set_input_files(large_zip)
    page.get_by_text(re.compile(r"MB/s, .*left")).wait_for()
    page.get_by_role("tab", name="Images").wait_for()
    assert way.was_cut
    no_error_box(page)
    (facts,) = datasets.summaries()
    assert (facts["images"], facts["classes"]) == (MEGABYTES // 3 + 2, sorted(CLASSES))

    # The audit begins by itself; what it finds is put right: one label by one click.
    page.get_by_role("tab", name="Findings").click()
    page.get_by_text("Probably a wrong label").click()
    wrong = page.locator(".heading", has_text="looks like seven").first
    wrong.get_by_role("button", name="Relabel to seven").click()
    page.get_by_text("Revision 2.").first.wait_for()
    page.get_by_role("tab", name="Images").click()
    page.locator(".tile").first.click()
    page.keyboard.press("x")
    page.get_by_text("Revision 3.").first.wait_for()
    dataset = datasets.load(facts["id"])
    relabelled, excluded = journal.lines(dataset.id)
    assert relabelled["names"][0] in ("one/9001.png", "one/9002.png")
    assert (relabelled["to"], len(excluded["names"])) == ("seven", 1)
    assert dataset.revision == 3 and len(dataset.table) == MEGABYTES // 3 + 1

    page.get_by_role("tab", name="Overview").click()
    page.get_by_role("button", name="Train a first model").click()
    page.get_by_text("Test accuracy of the first model").wait_for()
    (run,) = runs.all_runs()
    assert (run.revision, run.digest) == (3, dataset.digest)
    no_error_box(page)
    # The cut itself, and the piece that was sent again.
    errors[:] = [one for one in errors if "ERR_" not in one and "/uploads/" not in one]


@pytest.fixture
def insects(class_photos, make_folder, home):
    from core.data import importing

    return importing.import_all(make_folder(class_photos("ants", "bees", each=20)), "insects")


def selected(page) -> int:
    return page.locator("[role=option][aria-selected=true]").count()


def test_images_are_selected_and_corrected_with_the_mouse_and_with_the_keyboard(
    insects, page, server
):
    page.goto(f"{server}/data?view=Images")
    tiles = page.locator(".tile")
    tiles.nth(1).click()
    tiles.nth(4).click(modifiers=["Shift"])
    page.get_by_text("4 of 40 images selected").wait_for()
    tiles.nth(2).click()  # Once more: not this one.
    page.get_by_text("3 of 40 images selected").wait_for()
    page.get_by_role("button", name="Exclude").click()
    page.get_by_text("37 images", exact=True).wait_for()
    excluded = journal.lines(insects.id)[0]
    names = sorted(insects.table["name"])
    assert (excluded["action"], excluded["names"]) == ("exclude", [names[k] for k in (1, 3, 4)])

    # The keyboard alone: to the second image, and it is a bee.
    page.locator(".frame").focus()
    for key in ("Home", "ArrowRight", "r"):
        page.keyboard.press(key)
    page.keyboard.type("bees")
    page.keyboard.press("Enter")
    page.get_by_text("Revision 3.").first.wait_for()
    assert journal.lines(insects.id)[1]["names"] == [names[2]]

    page.locator(".frame").focus()
    page.keyboard.press("u")
    page.get_by_text("Revision 4.").first.wait_for()
    assert list(datasets.load(insects.id).table["label"]).count("ants") == 17
    no_error_box(page)


def test_an_image_opens_large_with_the_same_actions(insects, page, server):
    page.goto(f"{server}/data?view=Images")
    page.locator(".tile").nth(1).dblclick()
    large = page.get_by_role("dialog", name="Image")
    large.get_by_text("ants/1.jpg").wait_for()
    page.keyboard.press("ArrowRight")
    large.get_by_text("ants/10.jpg").wait_for()
    page.keyboard.press("x")
    page.get_by_text("39 images", exact=True).wait_for()
    assert journal.lines(insects.id)[0]["names"] == ["ants/10.jpg"]
    assert selected(page) == 0


SCRIPTS = ("<script>window.ran = 1<", "<img src=x onerror=window.ran=1>", "*b* [l](javascript:0)")


def test_names_that_are_scripts_are_shown_as_they_stand_and_run_nowhere(
    page, server, class_photos, make_zip, errors
):
    photos = class_photos(*SCRIPTS, each=12)
    named = {f"{name}.svg onload=window.ran=1.jpg": content for name, content in photos.items()}
    page.goto(f"{server}/data")
    page.locator("input[type=file]").set_input_files(make_zip(named, "<b>hostile.zip"))
    page.get_by_role("button", name="Train a first model").click()
    page.get_by_text("Test accuracy of the first model").wait_for()
    views = page.get_by_role("tab").all_inner_texts()
    for view in views:
        page.get_by_role("tab", name=view).click()
        page.wait_for_timeout(700)
        no_error_box(page)
    for address in ("recipe", "train", "evaluate", "predict"):
        page.goto(f"{server}/{address}")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_timeout(3000)
        assert page.evaluate("window.ran") is None
        no_error_box(page)
    page.goto(f"{server}/data")
    page.get_by_text(SCRIPTS[0]).first.wait_for()
    assert page.evaluate("window.ran") is None
    assert page.locator("a[href^=javascript], img[src=x]").count() == 0
