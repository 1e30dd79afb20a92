"""Uploads in a real browser: how far they are, and how they are given up."""

from __future__ import annotations

import os
import re
import time

SLOW = {"offline": False, "latency": 5, "downloadThroughput": -1, "uploadThroughput": 3_000_000}


def test_an_upload_tells_how_far_it_is_and_leaves_nothing_when_cancelled(
    page, server, home, make_zip
):
    network = page.context.new_cdp_session(page)
    network.send("Network.emulateNetworkConditions", SLOW)
    page.goto(f"{server}/data")
    big = make_zip({"ants/1.jpg": os.urandom(40_000_000)}, "big.zip")
    page.locator("input[type=file]").first.set_input_files(big)
    note = page.get_by_role("status").filter(has_text=" of 40.0 MB")
    note.wait_for()
    assert re.search(r"MB/s, about \d+ (s|min) left", note.inner_text())
    assert list((home / "uploads").glob("*.part"))
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("The upload was cancelled.").wait_for()
    end = time.monotonic() + 30
    while list((home / "uploads").glob("*.part")):
        assert time.monotonic() < end, "the upload was kept"
        time.sleep(0.2)


def test_an_upload_goes_on_where_it_was_when_the_page_was_left(
    page, server, home, make_zip, class_photos, errors
):
    network = page.context.new_cdp_session(page)
    network.send("Network.emulateNetworkConditions", {**SLOW, "uploadThroughput": 8_000_000})
    ballast = {"notes.bin": os.urandom(40_000_000)}
    big = make_zip(class_photos("ants", "bees") | ballast, "big.zip")
    page.goto(f"{server}/data")
    page.locator("input[type=file]").first.set_input_files(big)
    page.get_by_role("status").filter(has_text=" of 40.").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())  # Whether one really wants to leave.
    page.reload()
    note = page.get_by_role("status").filter(has_text="big.zip was sent in part")
    note.wait_for()
    (part,) = (home / "uploads").glob("*.part")
    arrived = part.stat().st_size
    assert 0 < arrived < big.stat().st_size

    sent: list[int] = []
    page.on("request", lambda one: sent.append(offset_of(one.url)) if one.method == "PUT" else None)
    page.locator("input[type=file]").first.set_input_files(big)
    page.get_by_role("tab", name="Images").wait_for()
    assert sent[0] == arrived
    assert not list((home / "uploads").glob("*.part"))
    errors[:] = [one for one in errors if "ERR_" not in one]


def offset_of(url: str) -> int:
    return int(re.search(r"offset=(\d+)", url).group(1))
