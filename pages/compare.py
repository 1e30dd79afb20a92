"""See which of several classifiers is better, on which images, and whether that is chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import streamlit as st

from core.errors import HeadstartError
from core.evaluation import against, charts, curves, diagrams, report
from core.evaluation.report import Evaluation
from core.runs import leaderboard, versus
from core.runs.leaderboard import Entry
from core.runs.run import Run
from pages import grid, widgets

# As many as the theme has colors that are told apart well.
MOST_RUNS = 8
LETTERS = "ABCDEFGH"
# Of a run's name, where its id stands behind it.
LONGEST_NAME = 22


@dataclass(frozen=True)
class Chosen:
    """The runs to compare, and what is known of their test images, by letter."""

    runs: dict[str, Run]
    found: dict[str, Evaluation]

    def called(self, letter: str) -> str:
        """A run as charts name it."""
        return f"{letter} · {self.runs[letter].name}"


def pick_revision(candidates: list[Run]) -> int:
    """The revision whose runs are listed; asked only where there are several."""
    revisions = sorted({run.revision for run in candidates}, reverse=True)
    if len(revisions) == 1:
        return revisions[0]
    return st.selectbox(
        "Revision", revisions, key="revision",
        help="Corrections make a new revision of a dataset. Runs on different ones have different "
        "images, so that a list holds those of one.",
    )  # fmt: skip


def board(entries: list[Entry]) -> None:
    """All runs of a revision, the best first, and accuracy against time."""
    st.subheader("Leaderboard")
    if not entries:
        st.info("No run on this revision has test images: how good they are is not known.")
        return
    forms = {
        "accuracy": ("accuracy", "percent"), "low": ("from", "percent"),
        "high": ("to (95 %)", "percent"), "n": ("test images", "localized"),
        "baseline": ("always the most common class", "percent"),
        "macro_f1": ("macro-F1", "%.3f"), "milliseconds": ("ms an image", "%.1f"),
        "seconds": ("training, s", "%.1f"), "size_mb": ("size, MB", "%.1f"),
        "parameters_m": ("parameters, M", "%.2f"),
    }  # fmt: skip
    columns = {
        name: st.column_config.NumberColumn(title, format=form, help=leaderboard.COLUMNS[name])
        for name, (title, form) in forms.items()
    }
    # Runs of one preset have one name: what tells them apart stands beside it.
    columns["name"] = st.column_config.TextColumn("name", width=150)
    columns["milliseconds_busy"] = None
    st.dataframe(
        [entry.row() for entry in entries], hide_index=True, alt="Runs, the most accurate first",
        column_config=columns,
    )  # fmt: skip
    timed = [entry for entry in entries if entry.milliseconds is not None]
    if timed:
        st.plotly_chart(
            diagrams.accuracy_by_time(
                [f"{one.run.name[:LONGEST_NAME]} · {one.run.id}" for one in timed],
                [one.milliseconds for one in timed if one.milliseconds is not None],
                [one.accuracy for one in timed],
            ),
            key="accuracy by time", alt="Accuracy against milliseconds for one image",
        )  # fmt: skip
    busy = sum(entry.milliseconds_busy for entry in timed)
    if busy:
        st.caption(
            f"Timed while the machine did other work: {busy} of {len(entries)}. Those take that "
            "long for an image at most."
        )
    untimed = len(entries) - len(timed)
    if untimed:
        st.caption(
            f"Not in the plot: {untimed} of {len(entries)}, trained before the time for one image "
            "was measured."
        )


def pick_runs(candidates: list[Run]) -> list[Run]:
    """The runs to compare, as the address or the user says."""
    labels = {widgets.run_label(run): run for run in candidates}
    for asked in st.query_params.get_all("runs"):
        if asked not in labels:
            st.warning(f"The run {widgets.plain(asked)} cannot be compared here.")
    names = st.multiselect(
        "Runs to compare", list(labels), key="runs", bind="query-params", max_selections=MOST_RUNS,
        placeholder="Choose two or more",
        help="The first one is A, the second B. Runs on other revisions of the dataset may be "
        "among them: they are compared on the test images that they share.",
    )  # fmt: skip
    return [labels[name] for name in names]


def evaluated(picked: list[Run]) -> Chosen:
    """The chosen runs that have test images, each with a letter; the others are told."""
    looked_at = [(run, evaluation(run)) for run in picked]
    with_images = [(run, found) for run, found in looked_at if found is not None]
    lettered = list(zip(LETTERS, with_images, strict=False))
    return Chosen(
        {letter: run for letter, (run, _) in lettered},
        {letter: found for letter, (_, found) in lettered},
    )


def evaluation(run: Run) -> Evaluation | None:
    """What is known of a run's test images; None, and told, where it has none to read."""
    try:
        found = report.evaluate(run.predictions, run.classes, "test")
    except HeadstartError as error:
        st.warning(f"{widgets.plain(run.name)} cannot be compared. {widgets.plain(str(error))}")
        return None
    if found is None:
        st.warning(f"{widgets.plain(run.name)} has no test images: it cannot be compared.")
    return found


def figures(chosen: Chosen) -> None:
    """The figures of each run on its own test images."""
    counts = ", ".join(f"{letter} {len(one.scores):,}" for letter, one in chosen.found.items())
    st.caption(f"Each on its own test images ({counts}), with 95 % intervals.")
    rows = against.side_by_side({letter: one.figures for letter, one in chosen.found.items()})
    st.dataframe(rows, hide_index=True, height=420, alt="Figures side by side")


def pick_pair(chosen: Chosen) -> tuple[str, str]:
    """Two of the chosen runs; asked only where there are more."""
    pairs = {f"{one} and {other}": (one, other) for one, other in combinations(chosen.runs, 2)}
    if len(pairs) == 1:
        return next(iter(pairs.values()))
    name = st.selectbox("Which two", list(pairs), key=f"pair {len(pairs)}")
    st.caption("Each comparison stands for itself: of 20, one seems certain by chance alone.")
    return pairs[name]


def differences(chosen: Chosen) -> None:
    """Whether one of two is better on the images that both were tested on."""
    first, second = pick_pair(chosen)
    found = versus.compared(chosen.runs[first], chosen.runs[second])
    st.markdown(against.in_words(found, first, second))
    if found.n:
        st.dataframe(
            against.table(found, first, second), hide_index=True,
            alt=f"Differences of {first} and {second}",
        )  # fmt: skip
        st.caption(
            "Both are judged on the same images, so that an interval of the difference is narrower "
            "than the two intervals side by side suggest. Where it holds 0, chance may be all. "
            "Differences of shares are in percentage points."
        )


def overlaid(chosen: Chosen) -> None:
    """The curves of all classes as one, of each run."""
    kind = st.segmented_control(
        "Curve", list(curves.CURVES), default="ROC", key="curve of runs", required=True
    )
    averages = {
        chosen.called(letter): curve
        for letter, one in chosen.found.items()
        for curve in one.curves[kind]
        if curve.average
    }
    if not averages:
        st.info("There are no curves: the test images are all of one class.")
        return
    st.plotly_chart(diagrams.overlaid(kind, averages), key=f"runs {kind}", alt=f"{kind} of runs")


def recipes(chosen: Chosen) -> None:
    """What the trainings were told to do differently."""
    rows = leaderboard.recipe_table(chosen.runs)
    if not rows:
        st.info("The recipes are the same in every field.")
        return
    st.caption("Only the fields that differ. What a run leaves to the machine is written auto.")
    st.dataframe(rows, hide_index=True, alt="What differs in the recipes")


def images(chosen: Chosen) -> None:
    """The images that one of two has right and the other wrong."""
    pair = pick_pair(chosen)
    if not versus.compared(*(chosen.runs[letter] for letter in pair)).n:
        st.info(f"{pair[0]} and {pair[1]} share no test image.")
        return
    st.caption(
        "True class, what the other said instead, and how sure each is. Choose an image to see all "
        "that both say of it."
    )
    for column, (one, other) in zip(st.columns(2), (pair, pair[::-1]), strict=True):
        with column:
            st.markdown(f"**{one}** is right, **{other}** is wrong")
            clicked = grid.images(
                f"/api/runs/{chosen.runs[one].id}/images", {"against": chosen.runs[other].id},
                f"{chosen.runs[one].id} won {chosen.runs[other].id}", "No image.", 340,
            )  # fmt: skip
        if clicked:
            st.session_state[key_of(chosen, pair)] = clicked
    said(chosen, pair)


def key_of(chosen: Chosen, pair: tuple[str, str]) -> str:
    """Where the image that was clicked last is kept."""
    return f"compared {' '.join(chosen.runs[letter].id for letter in pair)}"


def said(chosen: Chosen, pair: tuple[str, str]) -> None:
    """What both say of the image that was clicked last."""
    name = st.session_state.get(key_of(chosen, pair), "")
    if not name or not all(chosen.found[letter].has(name) for letter in pair):
        return
    true = chosen.found[pair[0]].said_of(name).true
    st.markdown(f"{widgets.plain(name)}: true class **{widgets.plain(true)}**")
    for column, letter in zip(st.columns(2), pair, strict=True):
        one = chosen.found[letter].said_of(name)
        with column:
            st.caption(f"What {widgets.plain(chosen.called(letter))} says")
            st.plotly_chart(
                charts.probabilities(one.classes, one.probabilities), key=f"said {letter}",
                alt=f"Probabilities of the classes by {letter}",
            )  # fmt: skip


VIEWS: dict[str, Callable[[Chosen], None]] = {
    "Figures": figures,
    "Differences": differences,
    "Curves": overlaid,
    "Recipes": recipes,
    "Images": images,
}
st.title("Compare")
st.caption(
    "Which classifier is better, on which images, and whether that is more than chance. "
    "Choose two or more runs below the list."
)
dataset = widgets.pick_dataset()
scored = leaderboard.scored_runs(dataset.id)
if not scored:
    st.info("No run on this dataset has finished yet. Train two, and compare them here.")
    st.page_link("recipe.py", label="Start a training", icon=":material/tune:")
    st.stop()
board(leaderboard.leaderboard(scored, pick_revision(scored)))
st.subheader("Side by side")
comparison = evaluated(pick_runs(scored))
if len(comparison.runs) < len("AB"):
    st.info("Choose two or more runs to see their figures, differences, curves and images.")
    st.stop()
for letter, run in comparison.runs.items():
    st.markdown(f"**{letter}** {widgets.plain(widgets.run_label(run))}, revision {run.revision}")
for tab, show in zip(
    st.tabs(list(VIEWS), key="compare view", on_change="rerun"), VIEWS.values(), strict=True
):
    if tab.open:
        with tab:
            show(comparison)
