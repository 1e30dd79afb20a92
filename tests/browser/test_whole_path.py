"""A stranger's first minutes, in a real browser on the real server: sample to prediction."""

from __future__ import annotations

from pathlib import Path

from tests.browser.looking import go, no_error_box


def test_from_the_sample_to_a_prediction(page, server, tmp_path):
    page.goto(f"{server}/train")  # The first visit, deep: the frame and what to do.
    page.get_by_text("No training has been started yet").wait_for()
    go(page, "Data")
    page.get_by_role("button", name="Try the sample").click()
    page.get_by_role("button", name="Train a first model").click()
    page.get_by_text("Test accuracy of the first model").wait_for()
    no_error_box(page)
    page.get_by_role("tab", name="Images").click()
    page.locator(".tile").first.wait_for()
    assert page.locator(".tile").count() >= 10
    page.get_by_role("tab", name="Overview").click()

    page.get_by_role("link", name="See its mistakes").click()
    page.get_by_text("95 % interval").first.wait_for()
    page.get_by_role("tab", name="Mistakes").click()
    page.locator(".tile:visible").first.click()
    page.get_by_text("Bright: what speaks for").first.wait_for()
    no_error_box(page)

    go(page, "Recipe")
    page.get_by_role("button", name="Start training").wait_for()
    page.get_by_role("button", name="Other versions").wait_for()
    no_error_box(page)

    go(page, "Train")
    page.get_by_text("Loss by epoch").first.wait_for()
    no_error_box(page)

    go(page, "Predict")
    page.locator("input[type=file]").set_input_files(digit(tmp_path))
    page.get_by_text("Most probable").wait_for()
    page.get_by_text("Bright: what speaks for").first.wait_for()
    no_error_box(page)


def test_a_zip_dropped_on_the_page_becomes_a_dataset_and_a_bad_one_a_sentence(
    page, server, class_photos, make_zip
):
    page.goto(f"{server}/data")
    upload = page.locator("input[type=file]")
    upload.set_input_files(make_zip({"readme.txt": b"no photos"}, "empty.zip"))
    page.get_by_text("There are no images in it").wait_for()
    upload.set_input_files(make_zip(class_photos("ants", "<b>bees</b>", each=12), "insects.zip"))
    page.get_by_role("button", name="Train a first model").wait_for()
    page.get_by_test_id("stAlertContentError").wait_for(state="detached")
    no_error_box(page)
    page.get_by_role("tab", name="Images").click()
    page.get_by_text("24 images", exact=True).wait_for()


def digit(folder: Path) -> Path:
    from PIL import Image
    from sklearn.datasets import load_digits

    path = folder / "digit.png"
    pixels = (load_digits().images[0] * 15).astype("uint8")
    Image.fromarray(pixels).resize((64, 64)).save(path)
    return path
