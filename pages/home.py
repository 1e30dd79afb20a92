"""What Headstart does, how far this user has come, and the next step."""

import streamlit as st

from core.data import dataset as datasets
from core.runs import damaged
from core.runs import run as runs
from pages import widgets

STEPS = (
    (
        "data.py", ":material/photo_library:", "1. Data",
        "Bring labelled photos: one folder for each class, in a zip. Or try the sample.",
    ),
    (
        "recipe.py", ":material/tune:", "2. Recipe",
        "Choose a preset, or every detail. A pretrained network gives the head start.",
    ),
    (
        "train.py", ":material/monitoring:", "3. Train",
        "Watch it learn. It goes on when you close this page.",
    ),
    (
        "evaluate.py", ":material/fact_check:", "4. Evaluate",
        "See how often it is right, where it is wrong, and what it looked at.",
    ),
    (
        "compare.py", ":material/compare_arrows:", "5. Compare",
        "See which of several classifiers is better, and whether that is more than chance.",
    ),
    (
        "predict.py", ":material/image_search:", "6. Predict",
        "Classify photos that it has never seen.",
    ),
)  # fmt: skip

st.title("Headstart")
st.write(
    "From a zip of labelled photos to a trained, explained image classifier, by transfer learning: "
    "a network that has already learned to see gives the head start, and a few hundred photos of "
    "yours teach it what you know."
)
for column, (page, icon, title, text) in zip(st.columns(len(STEPS)), STEPS, strict=True):
    with column.container(border=True, height="stretch"):
        st.page_link(page, label=title, icon=icon)
        st.caption(text)

widgets.damaged_items(datasets.damaged(), datasets.delete)
widgets.damaged_items(damaged.damaged(), damaged.remove)
n_datasets, all_runs = len(datasets.summaries()), runs.listed()
live = [run for run in all_runs if runs.state_of(run) in runs.LIVE]
if not n_datasets:
    st.subheader("Begin here")
    st.write("There is no data yet. Bring a zip of photos, or try the sample: it needs no network.")
    st.page_link("data.py", label="Add a dataset", icon=":material/add_photo_alternate:")
else:
    counts = st.columns(3)
    counts[0].metric("Datasets", n_datasets, border=True)
    counts[1].metric("Runs", len(all_runs), border=True)
    counts[2].metric("Training or waiting now", len(live), border=True)
