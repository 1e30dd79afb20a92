"""What every page stands in: the navigation, and one place where refusals are shown."""

from __future__ import annotations

import streamlit as st

from core.runs import supervisor
from pages import widgets

PAGES = {
    "home.py": ("Home", ":material/home:", "What Headstart does and what to do next."),
    "data.py": ("Data", ":material/photo_library:", "Bring photos in, look at them, first model."),
    "recipe.py": ("Recipe", ":material/tune:", "Choose how to train, and start."),
    "train.py": ("Train", ":material/monitoring:", "Watch trainings; stop and resume them."),
    "studies.py": (
        "Studies",
        ":material/science:",
        "Search for the best recipe, cross-validate, combine classifiers.",
    ),
    "evaluate.py": (
        "Evaluate",
        ":material/fact_check:",
        "See where a classifier is right and wrong.",
    ),
    "compare.py": ("Compare", ":material/compare_arrows:", "Choose between trained classifiers."),
    "predict.py": ("Predict", ":material/image_search:", "Classify a photo of your own."),
}

st.set_page_config("Headstart", widgets.PARTS / "icon.png", layout="wide")
page = st.navigation(
    [
        st.Page(f"{file}", title=title, icon=icon, help=text, default=file == "home.py")
        for file, (title, icon, text) in PAGES.items()
    ]
)
# After a restart of the machine, those who wait are served again.
widgets.guarded(supervisor.ensure)
widgets.guarded(page.run)
