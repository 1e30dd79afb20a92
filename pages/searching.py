"""A part of the Studies page: search for the best recipe, and watch the search."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import recipe as recipes
from core.data.dataset import Dataset
from core.reference import label_of
from core.schema import Recipe
from core.studies import expected, outcomes, pictures
from core.studies import plan as plans
from core.studies import search as searches
from core.studies import space as spaces
from core.studies.methods import METHODS, PRUNING
from core.studies.outcomes import Progress
from core.studies.plan import METRICS, Plan
from core.studies.study import Study
from pages import studying, widgets


def view(dataset: Dataset) -> None:
    """Begin a search, or look at one."""
    st.caption(
        "Many trainings with different settings, chosen by the validation images alone. The test "
        "images are looked at once, by the winner. The recipe as it is comes first, so that what "
        "wins is no worse than that on validation."
    )
    study = studying.pick("search", dataset, "search")
    with st.expander("New search", icon=":material/add:", expanded=study is None):
        ask(dataset)
    if study is not None:
        studying.watched(study, watch)


def ask(dataset: Dataset) -> None:
    """What to search, how, and how long."""
    base = studying.base_recipe(
        "Around which recipe",
        "search",
        "Everything that is not searched stays as this recipe has it.",
    )
    if base is None:
        return
    left, middle, right = st.columns(3)
    method = left.selectbox(
        "Method", list(METHODS), format_func=lambda name: METHODS[name].title, key="search method",
        help="\n\n".join(f"**{one.title}**: {one.help}" for one in METHODS.values()),
    )  # fmt: skip
    trials = middle.number_input(
        "Trials", 1, plans.MOST_TRIALS, 20, key="search trials",
        help="Trainings to try, at most. A grid has as many as it has combinations.",
    )  # fmt: skip
    budget = right.text_input(
        "Time", "", placeholder="no limit", key="search budget",
        help="After this time no trial begins: 20m, 2h. The last one comes to its end, and "
        "the winner is trained. Empty: until all trials are made.",
    )  # fmt: skip
    metric = left.selectbox(
        "Chosen by", list(METRICS), format_func=lambda name: METRICS[name].title,
        key="search metric",
        help="\n\n".join(f"**{one.title}**: {one.help}" for one in METRICS.values()),
    )  # fmt: skip
    pruning = middle.selectbox(
        "Give up early", list(PRUNING), format_func=lambda name: PRUNING[name].title,
        key="search pruning",
        help="\n\n".join(f"**{one.title}**: {one.help}" for one in PRUNING.values()),
    )  # fmt: skip
    folds = right.selectbox(
        "Judged on", [0, 3, 5], format_func=judged_on, key="search folds",
        help="Folds judge a trial on all images but the test, and take as many trainings: worth it "
        "where there are few images.",
    )  # fmt: skip
    plan = widgets.refused(lambda: Plan(
        spaces.read(ask_space(base), base), method, int(trials), metric, pruning, 0,
        plans.seconds_of(budget.strip()), folds,
    ))  # fmt: skip
    if plan is not None:
        studying.begin(
            "search", "Start the search", lambda: plans.start(dataset, base, plan),
            lambda: expected.of_search(dataset, base, plan),
        )  # fmt: skip


def judged_on(folds: int) -> str:
    """The images that judge a trial, in words."""
    return f"{folds} folds" if folds else "the validation images"


def ask_space(base: Recipe) -> dict[str, Any]:
    """The fields to search, each with its range or its values."""
    usual = list(spaces.starter(base))
    scope = "head" if base.is_frozen else "tune"
    names = st.multiselect(
        "Fields to search", list(spaces.RANGES), default=usual, key=f"search fields {scope}",
        help="Each field more needs more trials. Six are many for 20.",
    )  # fmt: skip
    values: dict[str, Any] = {}
    for start in range(0, len(names), 2):
        for column, name in zip(st.columns(2), names[start : start + 2], strict=False):
            with column:
                values[name] = ask_range(name)
    return values


def ask_range(name: str) -> Any:
    """A range as two numbers, or a list of values."""
    usual, about = spaces.RANGES[name], widgets.FIELDS[name].description
    label = label_of(name)
    if isinstance(usual, list):
        return st.multiselect(
            label, usual, default=usual, key=f"space {name}", accept_new_options=True, help=about
        )
    left, right = st.columns(2, vertical_alignment="bottom")
    low = left.number_input(
        f"{label} from", value=usual["low"], format=form(usual), key=f"low {name}", help=about
    )
    high = right.number_input(
        "to", value=usual["high"], format=form(usual), key=f"high {name}",
        help="Drawn evenly by factors." if usual.get("log") else "Drawn evenly.",
    )  # fmt: skip
    return {**usual, "low": low, "high": high}


def form(usual: dict[str, Any]) -> str:
    """How the numbers of a range are written."""
    return "%d" if isinstance(usual["low"], int) else "%g"


def watch(study: Study) -> None:
    """Everything about a search that changes while it goes on."""
    found = outcomes.progress(study)
    studying.head(study)
    summary(study, found)
    if found.live:
        st.dataframe(
            found.live, hide_index=True, alt="Trials under way",
            column_config={"share": st.column_config.ProgressColumn("of this phase")},
        )  # fmt: skip
    if not found.records:
        return
    left, right = st.columns([3, 2])
    left.plotly_chart(pictures.history(found), key=f"history {study.id}", alt="Figure by trial")
    with right:
        matters(study)
    if len(found.plan.directions) > 1:
        st.plotly_chart(pictures.front(found), key=f"front {study.id}", alt="Figure against time")
    if found.counts.get("complete", 0) > 1:
        st.plotly_chart(
            pictures.parallel(found), key=f"parallel {study.id}", alt="Values of each trial"
        )
    st.dataframe(
        outcomes.table(found), hide_index=True, alt="Trials, the best first",
        column_config={
            found.plan.judge.title: st.column_config.NumberColumn(format="%.4f"),
            "ms an image": st.column_config.NumberColumn(format="%.1f"),
            "seconds": st.column_config.NumberColumn(format="%.1f"),
        },
    )  # fmt: skip


def matters(study: Study) -> None:
    """Which fields matter, once that can be said."""
    found = outcomes.importance(study)
    if found:
        st.plotly_chart(pictures.importance(found), key=f"matters {study.id}", alt="What matters")
    else:
        st.caption("Which fields matter is shown after four trials that came to their end.")


def summary(study: Study, found: Progress) -> None:
    """How far it is, the best so far, and what to do with it."""
    columns = st.columns(4)
    columns[0].metric("Trials", f"{len(found.records)} of {found.plan.trials}")
    best = found.best["values"][0] if found.best else None
    columns[1].metric(
        f"Best trial, {found.plan.judge.title}", "–" if best is None else f"{best:.4f}",
        help="On the images that trials are judged on.",
    )  # fmt: skip
    columns[2].metric("As it was", "–" if found.base is None else f"{found.base:.4f}")
    over = bool(study.result)
    left = None if over else found.seconds_left
    columns[3].metric("Time at work" if over else "Time left",
                      widgets.duration(found.seconds if over else left))  # fmt: skip
    if study.result.get("reason") in ("finished", "stopped"):
        st.success("\n\n".join(map(widgets.plain, outcomes.told(study))), icon=":material/flag:")
    winner(study, found)


def winner(study: Study, found: Progress) -> None:
    """The winner's run, or one click that makes it."""
    if found.winner is not None:
        studying.run_links(found.winner)
    elif found.best is not None and st.button(
        "Train the best so far",
        icon=":material/play_arrow:",
        key=f"winner {study.id}",
        help="Starts an ordinary training with the recipe of the best trial, test images included.",
    ):
        run = widgets.refused(lambda: searches.start_winner(study))
        if run:
            widgets.go("train.py", run=widgets.run_label(run))
    if found.best is not None:
        with st.expander("Recipe of the best", icon=":material/tune:"):
            text = recipes.to_yaml(searches.winner_recipe(study))
            if st.button("Change it on Recipe", key=f"take {study.id}", icon=":material/edit:"):
                st.session_state["loaded_yaml"] = text
                widgets.go("recipe.py")
            st.code(text, language="yaml", height=300)
