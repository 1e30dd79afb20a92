"""A part of the Evaluate page: a run's report, model card, model and figures to take along."""

from __future__ import annotations

import streamlit as st

from core.evaluation.plates import FORMS, PLATES
from core.evaluation.report import Evaluation
from core.evaluation.tables import Results
from core.runs.run import Run
from core.runs.scored import Scored
from core.training.events import epochs_of
from pages import widgets


def view(run: Run, images: Scored, found: Evaluation, part: str) -> None:
    """Links to every file; each is made when it is asked for."""
    documents(run)
    figures(run, images, Results(part, found, run.temperature, epochs_of(run.events())))


def documents(run: Run) -> None:
    """The report, the model card and the model."""
    st.caption(
        "The report is one file that needs nothing else: data, recipe, figures with their "
        "intervals, curves, mistakes with pictures, limits. The model card says the same in "
        "Hugging Face's layout. With the model it makes a folder that can be uploaded as it is."
    )
    base = f"/api/runs/{run.id}"
    with st.container(horizontal=True):
        link("Report (HTML)", f"{base}/documents/report", "description")
        link("Model card (Markdown)", f"{base}/documents/card", "article")
        link("Recipe (YAML)", f"{base}/documents/recipe", "tune")
        link("Model with its card (zip)", f"{base}/pack", "folder_zip")


def figures(run: Run, images: Scored, results: Results) -> None:
    """Every figure of the chosen images as a picture and as numbers."""
    st.subheader("Figures")
    st.caption("SVG for papers, PNG for slides, CSV with the numbers; of the images chosen above.")
    for name, plate in PLATES.items():
        with st.container(border=True):
            left, right = st.columns([3, 2], vertical_alignment="center")
            left.markdown(f"**{plate.title}**", help=plate.help)
            if not plate.has_data(results):
                right.caption("These images have no data for it.")
                continue
            with right.container(horizontal=True, horizontal_alignment="right"):
                for form, about in FORMS.items():
                    query = widgets.query(part=results.part, on=images.key)
                    link(about.title, f"/api/runs/{run.id}/plates/{name}.{form}?{query}")


def link(label: str, address: str, icon: str = "download") -> None:
    """A link to a file that the browser keeps."""
    st.link_button(label, address, icon=f":material/{icon}:")
