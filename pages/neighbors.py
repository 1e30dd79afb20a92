"""A part of the Evaluate page: the training images most like one, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core.data import dataset as datasets
from core.errors import NotFound
from core.evaluation import familiarity, mistakes, seen
from core.runs import scored
from core.runs.run import Run
from core.runs.scored import Scored
from pages import corrections, widgets

ACTIONS = ("relabel", "exclude")


def view(run: Run, images: Scored, name: str, scope: str) -> None:
    """An image and the five training images that the network finds most like it, to be corrected.

    images: those that it is among.
    """
    try:
        alike, names = nearest(run, images, name)
        dataset = datasets.load(run.dataset)
    except NotFound as error:
        st.caption(f"{widgets.plain(error.what)} {widgets.plain(error.remedy)}")
        return
    told = ", ".join(f"{one:.2f}" for one in alike)
    st.markdown("**The five training images that are most like it**")
    st.caption(
        f"By the cosine similarity of what the network saw: {told}. A wrong label or a copy shows "
        "here at a glance. Corrections make a new revision of the data; train again to use it."
    )
    corrections.last_change(dataset)
    corrections.images(
        dataset, f"neighbors {scope} {run.id}", corrections.offered(*ACTIONS), names=names,
        place=f"{scope} {name}", empty="They are no longer in the dataset.", height=230,
    )  # fmt: skip
    if images.key:
        return
    st.markdown("**The image itself**")
    corrections.images(
        dataset, f"itself {scope} {run.id}", corrections.offered(*ACTIONS), names=[name],
        place=f"itself {scope} {name}", empty="It is no longer in the dataset.", height=190,
    )  # fmt: skip


def nearest(run: Run, images: Scored, name: str) -> tuple[list[float], list[str]]:
    """Similarities and names of the training images most like one, the most alike first.

    Raises: NotFound for a run that kept no features.
    """
    trained = scored.own(run)
    known, features = mistakes.stored(trained.predictions), seen.load(trained.features)
    train = np.flatnonzero((known.split == "train") & (known.images != name))
    place = np.flatnonzero(mistakes.stored(images.predictions).images == name)[:1]
    found, alike = familiarity.nearest(seen.load(images.features)[place], features[train])
    return alike[0].tolist(), [str(one) for one in known.images[train[found[0]]]]
