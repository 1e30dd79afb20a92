"""The server: `streamlit run app.py`. Pages, HTTP routes and the guard on one port."""

from contextlib import suppress
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Mount

from core import damage, jobs
from core.errors import HeadstartError
from core.machine import share_cores
from core.serving.api import Guard, api

share_cores()  # Predictions beside a training leave it its cores.
with suppress(HeadstartError), damage.disk_errors():
    jobs.clean_up()  # What an import left that died with the machine.

app = st.App(
    Path(__file__).parent / "pages" / "frame.py",
    routes=[Mount("/api", app=api)],
    middleware=[Middleware(Guard)],
)
