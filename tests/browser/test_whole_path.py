"""A stranger's first minutes, in a real browser on the real server: sample to prediction."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
# Streamlit asks for these below a deep link first, is told 404, and asks again at the root.
EXPECTED = re.compile(r"_stcore/(health|host-config)")


@pytest.fixture
def server(home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port),
         "--server.headless", "true"],
        cwd=ROOT, env={**os.environ, "HEADSTART_HOME": str(home)},
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for _ in range(150):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
            break
        except OSError:
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait()


@pytest.fixture
def page(server):
    errors: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(120_000)
        page.on(
            "console",
            lambda message: (
                errors.append(f"{message.text} {message.location}")
                if message.type == "error" and not EXPECTED.search(str(message.location))
                else None
            ),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert errors == []


def go(page, name: str) -> None:
    links = page.get_by_test_id("stSidebarNavItems")
    links.get_by_role("link", name=name, exact=True).click()


def no_error_box(page) -> None:
    boxes = page.get_by_test_id("stAlertContentError")
    assert boxes.count() == 0, boxes.all_inner_texts()
    assert page.get_by_test_id("stException").count() == 0


def test_from_the_sample_to_a_prediction(page, server, tmp_path):
    page.goto(f"{server}/train")  # The first visit, deep: the frame and what to do.
    page.get_by_text("No training has been started yet").wait_for()
    go(page, "Data")
    page.get_by_role("button", name="Try the sample").click()
    page.get_by_role("button", name="Train a first model").click()
    page.get_by_text("Test accuracy of the first model").wait_for()
    no_error_box(page)
    grid = page.locator(".tile").first
    grid.scroll_into_view_if_needed()
    assert page.locator(".tile").count() >= 10

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
    page.get_by_text("insects").first.wait_for()
    page.get_by_test_id("stAlertContentError").wait_for(state="detached")
    no_error_box(page)
    page.get_by_text("24 images").wait_for()


def digit(folder: Path) -> Path:
    from PIL import Image
    from sklearn.datasets import load_digits

    path = folder / "digit.png"
    pixels = (load_digits().images[0] * 15).astype("uint8")
    Image.fromarray(pixels).resize((64, 64)).save(path)
    return path
