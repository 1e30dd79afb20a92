"""The page Studies, on the real core: empty, asked, refused, and with what was found."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.data import importing
from core.runs import queue, supervisor
from core.runs import run as runs
from core.runs.run import Run
from core.runs.worker import work
from core.storage import append_line
from core.studies import crossval, ensemble, outcomes, search, space, trials
from core.studies import plan as plans
from core.studies import study as studies
from core.studies.plan import Plan
from pages import widgets
from tests.pages.opening import opened, texts

SMALL = ["image.size=32", "schedule.epochs=3", "schedule.min_steps=0"]
RECIPE = recipes.with_settings(recipes.preset("quick"), SMALL)
VALUES = {"head.kind": ["linear", "mlp"], "head.hidden": [8, 16]}


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch):
    """No supervisor: a test trains by itself what is queued."""
    monkeypatch.setattr(supervisor, "ensure", lambda: None)


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", each=14)), "insects")


def conducted(study, conduct):
    for _ in conduct(study):
        waiting = queue.first()
        if waiting is not None:
            assert queue.claim("here", waiting)
            list(work(runs.load(waiting)))
            queue.release(waiting)
    return study


def label(dataset) -> str:
    return widgets.dataset_label(dataset.id, dataset.name)


def trained(dataset, *settings: str) -> Run:
    run = runs.create(dataset, recipes.with_settings(RECIPE, settings), "quick")
    list(work(run))
    return run


def test_without_a_dataset_it_says_what_to_do():
    assert "There is no dataset yet" in texts(opened("studies"))


def test_a_search_is_asked_for_and_begins(dataset):
    app = opened("studies", dataset=label(dataset))
    app.number_input(key="search trials").set_value(3).run()
    app.button(key="start search").click().run()
    assert not app.exception
    (study,) = studies.all_studies("search")
    assert study.plan["trials"] == 3
    assert study.name == "Bayesian (TPE), 3 trials around quick on insects"
    assert "0 of 3" in [metric.value for metric in app.metric]


@pytest.mark.parametrize(
    ("study_view", "key", "said"),
    [("Search", "search", "for 22 trainings"), ("Cross-validation", "crossval", "for 5 trainings")],
)
def test_the_time_of_a_study_is_estimated_before_it_begins(dataset, study_view, key, said):
    app = opened("studies", dataset=label(dataset))
    app.session_state["study view"] = study_view
    app.run()
    app.button(key=f"expect {key}").click().run(timeout=120)
    assert not app.exception
    assert said in texts(app)
    assert studies.all_studies() == []


def test_a_space_or_a_time_that_is_none_is_refused_in_words(dataset):
    app = opened("studies", dataset=label(dataset))
    app.number_input(key="low regularization.dropout").set_value(0.9).run()
    assert "low is less than high" in texts(app)
    app.number_input(key="low regularization.dropout").set_value(0.0).run()
    app.text_input(key="search budget").set_value("soon").run()
    assert "'soon' is no time" in texts(app)
    assert studies.all_studies() == []


def test_a_finished_search_shows_its_winner_and_what_matters(dataset):
    plan = Plan(space.read(VALUES, RECIPE), "grid")
    study = conducted(plans.start(dataset, RECIPE, plan), search.conduct)
    app = opened("studies", dataset=label(dataset))
    said = texts(app)
    assert "All trials were made" in said
    assert "Its test accuracy, looked at once" in said
    assert "4 of 4" in [metric.value for metric in app.metric]
    table = app.dataframe[-1].value
    assert sorted(table["trial"]) == [0, 1, 2, 3]
    app.button(key=f"take {study.id}").click().run()
    assert "The fields show the recipe that was loaded" in texts(app)


def test_the_best_so_far_is_the_recipe_as_it_was_until_a_trial_is_better(dataset):
    plan = Plan(space.read({"optimizer.learning_rate": [1e-7, 1e-6]}, RECIPE), "grid")
    study = plans.start(dataset, RECIPE, plan)
    for _ in search.conduct(study):
        waiting = queue.first()
        if len(trials.records_of(study)) == 2:
            break
        if waiting is not None and queue.claim("here", waiting):
            list(work(runs.load(waiting)))
            queue.release(waiting)
    assert not study.result
    assert search.winner_recipe(study) == RECIPE
    left = outcomes.progress(study).seconds_left
    assert left is None or left >= 0


def test_a_search_is_paused_resumed_stopped_and_deleted(dataset):
    study = plans.start(dataset, RECIPE, Plan(space.read(VALUES, RECIPE), trials=9))
    app = opened("studies", dataset=label(dataset))
    for action, state in (("Pause", "paused"), ("Resume", "interrupted"), ("Stop", "stopping")):
        app.button(key=f"{action} {study.id}").click().run()
        assert studies.state_of(study) == state
    conducted(study, search.conduct)
    app = opened("studies", dataset=label(dataset))
    app.button(key=f"Delete {study.id}").click().run()
    assert studies.all_studies() == []
    assert "Many trainings with different settings" in texts(app)


def test_a_failed_search_shows_why(dataset):
    study = plans.start(dataset, RECIPE, Plan(space.read(VALUES, RECIPE)))
    record = {"number": 0, "state": "complete", "params": {"head.kind": "mlp", "head.hidden": 8},
              "values": [0.5], "runs": [], "seconds": 1.0, "epochs": []}  # fmt: skip
    append_line(study.folder / "trials.jsonl", record)
    studies.end(study, "failed", what="The <b>disk</b> is full.", remedy="Free some.")
    app = opened("studies", dataset=label(dataset))
    assert not app.exception
    assert "disk" in texts(app)
    assert search.winner_recipe(study).head.kind == "mlp"


def test_the_recipe_that_was_loaded_can_be_cross_validated(dataset):
    app = opened("studies", dataset=label(dataset))
    app.session_state["study view"] = "Cross-validation"
    app.session_state["loaded_yaml"] = recipes.to_yaml(RECIPE)
    app.run()
    app.segmented_control(key="crossval preset").set_value("the recipe loaded on Recipe").run()
    app.button(key="start crossval").click().run()
    assert not app.exception
    (study,) = studies.all_studies("crossval")
    assert study.recipe == RECIPE
    assert study.name == "feature_extraction, 5 folds, on insects"


def test_a_cross_validation_shows_its_folds_and_what_to_do_with_them(dataset):
    study = conducted(crossval.start(dataset, RECIPE, crossval.Plan(3)), crossval.conduct)
    app = opened("studies", dataset=label(dataset))
    app.session_state["study view"] = "Cross-validation"
    app.run()
    said = texts(app)
    assert not app.exception
    assert f"n = {len(dataset.table)}" in said
    assert "Out-of-fold accuracy" in said
    assert list(app.dataframe[-1].value["fold"]) == ["1/3", "2/3", "3/3"]
    outcome = studies.members(study)["outcome"]
    evaluated = opened("evaluate", run=widgets.run_label(outcome))
    assert evaluated.selectbox(key="run").value == widgets.run_label(outcome)


def test_groups_that_are_not_there_are_refused_in_words(dataset):
    app = opened("studies", dataset=label(dataset))
    app.session_state["study view"] = "Cross-validation"
    app.run()
    app.segmented_control(key="crossval kind").set_value("each group left out").run()
    app.button(key="start crossval").click().run()
    assert "The dataset has 0 groups" in texts(app)


def test_an_ensemble_shows_its_members_its_gain_and_its_cost(dataset):
    few = opened("studies", dataset=label(dataset))
    few.session_state["study view"] = "Ensembles"
    few.run()
    assert "Train two or more classifiers" in texts(few)
    members = [trained(dataset), trained(dataset, "head.kind=mlp")]
    ids = [run.id for run in members]
    *_, last = ensemble.steps(lambda: False, runs=ids, method="mean")
    app = opened("studies", dataset=label(dataset))
    app.session_state["study view"] = "Ensembles"
    app.run()
    assert not app.exception
    said = texts(app)
    assert "its members in" in said
    assert "95 %" in said
    assert len(app.dataframe[-1].value) == 3
    run = runs.load(last.result["run"])
    for page in ("evaluate", "train", "predict"):
        assert not opened(page, run=widgets.run_label(run)).exception
