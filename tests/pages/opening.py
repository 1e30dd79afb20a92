"""A page opened by Streamlit's own AppTest, and what it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

FRAME = str(Path(__file__).parents[2] / "pages" / "frame.py")


def opened(page: str, **parameters: str) -> AppTest:
    app = AppTest.from_file(FRAME, default_timeout=60)
    for name, value in parameters.items():
        app.query_params[name] = value
    app.run()
    if page != "home":
        app.switch_page(f"{page}.py").run()
    assert not app.exception, app.exception
    return app


def texts(app: AppTest) -> str:
    kinds = (app.title, app.markdown, app.caption, app.info, app.warning, app.error, app.success)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def waited(app: AppTest, ready: Callable[[AppTest], bool], seconds: float = 240) -> AppTest:
    """The page, looked at again until it is ready: what a fragment does by its timer."""
    end = time.monotonic() + seconds
    while not ready(app):
        assert time.monotonic() < end, texts(app)
        time.sleep(0.3)
        app.run()
        assert not app.exception, app.exception
    return app
