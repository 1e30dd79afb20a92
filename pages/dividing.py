"""A part of the Data page: how the images are divided, and another way to divide them."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core.data import grouping, journal, split
from core.data.dataset import Dataset
from core.evaluation import charts
from core.schema import Recipe
from pages import corrections, widgets

FOLDER, PATTERN = "a folder", "a pattern in the name"
GROUP_HELP = (
    "Photos of one patient, one animal, one film or one place look alike. If some of them are "
    "learned from and others are used for the test, the test is too easy. Near-duplicates stay "
    "together in any case."
)
PATTERN_HELP = (
    "A regular expression; its one pair of parentheses says what the group is. For example "
    r"`^(patient\d+)_` takes patient12 from patient12_left.jpg."
)


def view(dataset: Dataset) -> None:
    """The split as it is, then a form that changes it."""
    usual = Recipe()
    parts = widgets.refused(lambda: split.split(dataset, usual.data.split, usual.seed))
    if parts is not None:
        drawn(dataset, parts, "counts")
        st.caption(
            f"{split.how(dataset, usual.seed)} Recipes with other shares or another seed divide "
            "otherwise, unless the split is saved with the data below."
        )
    closed = st.expander(
        "Change the split", key="dividing", icon=":material/call_split:", on_change="rerun"
    )
    if closed.open:
        with closed:
            change(dataset)


def drawn(dataset: Dataset, parts: np.ndarray, key: str) -> None:
    """Images of each class and part, the shares had, and which classes are too small for them."""
    table = split.per_class(dataset, parts)
    st.plotly_chart(charts.class_counts(table), key=key, alt="Images of each class and part")
    totals = table.sum()
    had = ", ".join(
        f"{totals[part]:,} {title} ({totals[part] / totals.sum():.1%})"
        for part, title in charts.PART_TITLES.items()
    )
    st.markdown(f"**Split:** {had}.")
    lacking = split.too_small(dataset, parts)
    if lacking:
        shown = "\n".join(f"- {widgets.plain(sentence)}" for sentence in lacking[:10])
        more = f"\n- and {len(lacking) - 10:,} more" if len(lacking) > 10 else ""
        st.warning(f"Some classes are too small for every part:\n{shown}{more}")


def change(dataset: Dataset) -> None:
    """Shares and groups, what they would give, and the button that saves it as a revision."""
    st.caption(journal.ACTIONS["split"].help)
    shares, seed, group_by = asked()
    made = widgets.refused(lambda: journal.proposed(dataset, shares, seed, group_by))
    if made is None:
        return
    parts, groups = made
    st.caption(grouping.told(groups))
    drawn(dataset, parts, "counts_proposed")
    if st.button("Save this split", type="primary", icon=":material/save:", key="save_split"):
        values = {"shares": list(shares), "seed": seed, "group_by": group_by}
        corrections.save(dataset, {"action": "split", **values})


def asked() -> tuple[tuple[float, float, float], int, str]:
    """Shares, seed and grouping as the user wants them."""
    left, right = st.columns([3, 1])
    first, second = left.slider(
        "Shares of training, validation and test", 5, 99, (70, 85), format="%d %%", key="shares",
        help="Training goes up to the first mark, validation from there to the second; the rest is "
        "for the test.",
    )  # fmt: skip
    seed = right.number_input("Seed", 0, 10**6, 0, key="seed", help="Another one draws others.")
    shares = (first / 100, (second - first) / 100, (100 - second) / 100)
    return shares, seed, grouped()


def grouped() -> str:
    """Which images are to stay together, as `grouping.named` takes it."""
    titles = {key: one.title for key, one in grouping.GROUPINGS.items()}
    left, right = st.columns(2)
    chosen = left.selectbox(
        "Keep together", [*titles, FOLDER, PATTERN], key="group_by", help=GROUP_HELP,
        format_func=lambda key: titles.get(key, f"By {key}"),
    )  # fmt: skip
    if chosen == FOLDER:
        level = right.number_input("Folder, counted from the outermost", 1, 99, 1, key="level")
        return f"{grouping.FOLDER}{level}"
    if chosen == PATTERN:
        text = right.text_input("Pattern", r"^(.+)_", key="pattern", help=PATTERN_HELP)
        return f"{grouping.PATTERN}{text}"
    right.caption(grouping.GROUPINGS[chosen].help)
    return str(chosen)
