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
from tests.browser.breaking import BreakingWay
from tests.browser.looking import no_error_box

# A gigabyte takes about a minute more; without a word the suite sends a fifth of it.
MEGABYTES = int(os.environ.get("HEADSTART_BROWSER_UPLOAD_MB", "200"))
SIDE, SMALL = 1000, 250
KINDS = {"moss": (40, 150, 60), "rust": (190, 90, 40), "slate": (80, 100, 170)}


def large_photo(seed: int, color: tuple[int, int, int], noise: np.ndarray) -> bytes:
    """Three megabytes: a patch of one color with light and shade of its own, and grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (6, 6)).astype("float32")
    light = np.asarray(Image.fromarray(coarse).resize((SMALL, SMALL), Image.Resampling.BICUBIC))
    pixels = np.clip(np.asarray(color) * (0.8 + 0.25 * light[:, :, None]), 0, 215)
    large = pixels.astype("uint8").repeat(SIDE // SMALL, 0).repeat(SIDE // SMALL, 1)
    large += np.roll(noise, rng.integers(0, SIDE, 2), (0, 1))
    buffer = io.BytesIO()
    Image.fromarray(large).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


@pytest.fixture
def large_zip(tmp_path: Path) -> Path:
    """A zip of so many megabytes, three classes, and two photos among those of another class."""
    noise = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE, 3), dtype="uint8")
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(MEGABYTES // 3):
            label = list(KINDS)[number % 3]
            archive.writestr(f"{label}/{number:04d}.png", large_photo(number, KINDS[label], noise))
        for number in (9001, 9002):
            archive.writestr(f"moss/{number}.png", large_photo(number, KINDS["rust"], noise))
    return path


@pytest.fixture
def way(server):
    """A way to the server that breaks in the middle of the upload."""
    found = BreakingWay(int(server.rpartition(":")[2]), cut_after=MEGABYTES * 400_000)
    yield found
    found.close()


def test_a_large_upload_survives_a_cut_and_is_corrected_and_learned_from(
    page, way, large_zip, errors
):
    page.goto(f"{way.address}/data")
    page.locator("input[type=file]").set_input_files(large_zip)
    page.get_by_text(re.compile(r"MB/s, \d+ s left")).wait_for()
    page.get_by_role("tab", name="Images").wait_for()
    assert way.was_cut
    errors[:] = [one for one in errors if "ERR_" not in one]  # The cut itself.
    no_error_box(page)
    (facts,) = datasets.summaries()
    assert (facts["images"], facts["classes"]) == (MEGABYTES // 3 + 2, sorted(KINDS))

    page.get_by_role("tab", name="Images").click()
    page.locator(".tile").first.wait_for()
    page.get_by_role("option", name="moss, 9001.png").scroll_into_view_if_needed()


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
