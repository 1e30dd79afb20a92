"""The real server in a process of its own, and a real Chromium that looks at it."""

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

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# Streamlit asks for these below a deep link first, is told 404, and asks again at the root.
EXPECTED = re.compile(r"_stcore/(health|host-config)")


@pytest.fixture
def server(home):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
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
def errors() -> list[str]:
    """What the browser complains of; a test that provokes something removes it."""
    return []


@pytest.fixture
def page(server, errors):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(240_000)
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
