"""Searches in true processes: a supervisor, a driver, workers; killed and gone on with."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from core import recipe as recipes
from core.data import importing
from core.errors import NotNow, RecipeRefused
from core.processes import kill_with_children
from core.runs import leaderboard, queue, supervisor, worker
from core.runs import run as runs
from core.storage import read_json
from core.studies import plan as plans
from core.studies import search, space, trials
from core.studies import study as studies
from core.studies.plan import Plan
from core.studies.study import Study
from core.training.events import Ended

posix_only = pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
SMALL = ["image.size=32", "schedule.epochs=4", "schedule.min_steps=0"]
SPACE = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "head.kind": ["linear", "mlp"],
    "head.hidden": [8, 16],
}


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", "wasps", each=14)))


@pytest.fixture(autouse=True)
def nobody_left(home: Path):
    """Whatever a test left running ends with it."""
    yield
    for process in ours(home):
        kill_with_children(process.pid)


def ours(home: Path, *words: str) -> list[psutil.Process]:
    """Processes of this home whose command has all of these words."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("HEADSTART_HOME") == str(home)
            here = process.pid == os.getpid()
            if mine and not here and all(word in process.cmdline() for word in words):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def recipe_of(*assignments: str):
    return recipes.with_settings(recipes.preset("quick"), [*SMALL, *assignments])


def begun(dataset, values=None, recipe=None, **options) -> Study:
    base = recipe or recipe_of()
    plan = Plan(space.read(values or SPACE, base), **options)
    return plans.start(dataset, base, plan)


def wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        supervisor.ensure()
        time.sleep(0.05)


def finished(study: Study) -> list[dict]:
    wait(lambda: study.result)
    assert study.result["reason"] == "finished", study.result
    return sorted(trials.records_of(study), key=lambda record: record["number"])


def essence(records: list[dict]) -> list[tuple]:
    """What must be the same of two searches."""
    return [(r["number"], r["state"], r["params"], r["values"], r["epochs"]) for r in records]


@posix_only
def test_a_search_whose_processes_are_killed_equals_the_undisturbed_one(dataset, home):
    slow = recipe_of("schedule.epochs=60")
    undisturbed = finished(begun(dataset, recipe=slow, trials=5, seed=3))
    study = begun(dataset, recipe=slow, trials=5, seed=3)
    for n, words in enumerate(
        [("core.runs.worker",), ("core", "worker"), ("core.studies.driver",), ()], 1
    ):
        wait(lambda n=n: study.result or len(trials.records_of(study)) >= n)
        for process in ours(home, *words):
            process.send_signal(signal.SIGKILL)
    assert not study.result, "it was over before it was disturbed"
    records = finished(study)
    assert essence(records) == essence(undisturbed)
    members = Counter(run.member for run in runs.all_runs() if run.study == study.id)
    assert set(members.values()) == {1}
    assert set(members) <= {"base", "winner", *map(str, range(5))}
    assert not queue.entries()


def test_only_the_winner_is_tested_and_it_is_no_worse_on_validation(dataset):
    study = begun(dataset, trials=6)
    records = finished(study)
    members = studies.members(study)
    for member, run in members.items():
        result = runs.result_of(run.events())
        assert bool(result["test"]["n"]) == (member == "winner")
        assert run.model.exists() == run.is_listed == (member == "winner")
    values = [record["values"][0] for record in records if record["state"] == "complete"]
    result = study.result
    assert result["value"] == min([*values, result["base"]])
    winner = members["winner"]
    assert result["run"] == winner.id
    assert runs.result_of(winner.events())["val"]["log_loss"] == pytest.approx(result["value"])
    assert winner.recipe == search.winner_recipe(study)
    assert [run.id for run in leaderboard.scored_runs(dataset.id)] == [winner.id]
    with pytest.raises(NotNow):
        studies.stop(study)


def test_a_grid_tries_every_point_once_and_trains_no_recipe_twice(dataset):
    study = begun(dataset, {"head.kind": ["linear", "mlp"], "head.hidden": [8, 16]}, method="grid")
    records = finished(study)
    points = [(r["params"]["head.kind"], r["params"]["head.hidden"]) for r in records]
    assert sorted(points) == [("linear", 8), ("linear", 16), ("mlp", 8), ("mlp", 16)]
    linear = [record for record in records if record["params"]["head.kind"] == "linear"]
    assert linear[1]["same_as"] == linear[0]["number"]
    assert linear[1]["values"] == linear[0]["values"]
    assert len([m for m in studies.members(study) if m.isdigit()]) == 3


def test_numbers_are_numbers_however_they_are_written():
    text = "optimizer.learning_rate: {low: 1e-4, high: 2E-2, log: true}\nhead.c: [1e+1, 3]"
    found = {one.name: one for one in space.from_yaml(text, recipe_of())}
    assert (found["optimizer.learning_rate"].low, found["optimizer.learning_rate"].high) == (
        1e-4,
        0.02,
    )
    assert found["head.c"].choices == (10.0, 3)
    assert recipes.from_yaml("optimizer: {learning_rate: 3e-3}").optimizer.learning_rate == 0.003


@pytest.mark.parametrize("field", ["seed", "data.fold", "data.keep_test"])
def test_what_decides_which_images_judge_cannot_be_searched(field):
    with pytest.raises(RecipeRefused, match="which images judge"):
        space.read({field: [0, 1], "head.kind": ["linear"]}, recipe_of())


def test_a_trial_that_cannot_be_fails_with_words_and_the_search_goes_on(dataset):
    values = {"head.kind": ["linear", "svm"], "balance.method": ["none", "focal"]}
    records = finished(begun(dataset, values, method="grid"))
    failed = [record for record in records if record["state"] == "failed"]
    assert [r["params"] for r in failed] == [{"head.kind": "svm", "balance.method": "focal"}]
    assert "focal" in failed[0]["why"]
    assert len(records) == 4


def test_a_search_without_its_database_goes_on_from_its_lines(dataset, home):
    undisturbed = finished(begun(dataset, trials=4, seed=5))
    study = begun(dataset, trials=4, seed=5)
    wait(lambda: len(trials.records_of(study)) >= 2)
    for process in ours(home):
        kill_with_children(process.pid)
    for path in home.glob("headstart.db*"):
        path.unlink()
    assert essence(finished(study)) == essence(undisturbed)


def test_pausing_begins_nothing_and_stopping_keeps_what_was_found(dataset):
    study = begun(dataset, recipe=recipe_of("schedule.epochs=40"), trials=50)
    wait(lambda: len(trials.records_of(study)) >= 1)
    studies.pause(study)
    wait(lambda: studies.state_of(study) == "paused")
    tried = len(trials.records_of(study))
    time.sleep(1)
    assert len(trials.records_of(study)) == tried
    assert not any(runs.state_of(run) in runs.LIVE for run in studies.members(study).values())
    studies.resume(study)
    wait(lambda: len(trials.records_of(study)) > tried)
    studies.stop(study)
    wait(lambda: study.result)
    assert study.result["reason"] == studies.state_of(study) == "stopped"
    assert study.result["value"] is not None
    assert "winner" not in studies.members(study)
    run = search.start_winner(study)
    assert run.is_listed
    studies.delete(study)
    assert [r.id for r in runs.all_runs()] == [run.id]


def test_a_budget_ends_a_search_and_its_winner_is_still_tested(dataset):
    study = begun(dataset, trials=500, budget=10.0)
    records = finished(study)
    assert 0 < len(records) < 500
    assert study.result["why_ended"] == "The time was used up."
    complete = [
        one for record in records if record["state"] == "complete" for one in record["runs"]
    ]
    assert {runs.state_of(runs.load(one)) for one in complete} == {"finished"}
    assert read_json(study.folder / "clock.json")["seconds"] < 60
    assert runs.result_of(runs.load(study.result["run"]).events())["test"]["n"] > 0


def test_the_recipe_as_it_was_is_not_what_a_cut_training_of_it_says(dataset, monkeypatch):
    monkeypatch.setattr(supervisor, "ensure", lambda: None)
    study = begun(dataset, trials=9)
    figures = {"val": {"n": 6, "log_loss": 0.5}}

    def stop_midway():
        base = studies.members(study)["base"]
        if not study.asked_to_stop and queue.claim("here", base.id):
            queue.release(base.id)
            runs.append(base, Ended("stopped", result=figures))
            studies.stop(study)

    conducted(study, stop_midway)
    assert runs.result_of(studies.members(study)["base"].events()) == figures
    assert study.result["reason"] == "stopped"
    assert study.result["base"] is None and study.result["value"] is None
    assert runs.state_of(studies.members(study)["base"]) == "stopped"


def conducted(study: Study, meanwhile=lambda: None) -> None:
    """Search in this process, which also trains what is queued."""
    for _ in search.conduct(study):
        meanwhile()
        waiting = queue.first()
        if waiting is not None and queue.claim("here", waiting):
            list(worker.work(runs.load(waiting)))
            queue.release(waiting)


def test_a_budget_that_the_recipe_as_it_was_uses_up_tries_nothing(dataset, monkeypatch):
    monkeypatch.setattr(supervisor, "ensure", lambda: None)
    study = begun(dataset, trials=9, budget=1.0)
    search.note_seconds(study, 2.0)
    conducted(study)
    assert trials.records_of(study) == []
    assert study.result["base"] > 0 and study.result["number"] is None
    assert set(studies.members(study)) == {"base", "winner"}


def test_folds_judge_a_trial_on_every_image_but_the_test(dataset):
    study = begun(dataset, {"head.kind": ["linear", "mlp"]}, method="grid", folds=3)
    records = finished(study)
    assert [len(record["runs"]) for record in records] == [3, 3]
    folds = [runs.load(one) for one in records[0]["runs"]]
    judged = [runs.result_of(run.events())["test"]["n"] for run in folds]
    winner = runs.result_of(runs.load(study.result["run"]).events())
    assert sum(judged) + winner["test"]["n"] == len(dataset.table)


def test_accuracy_and_speed_are_both_looked_at(dataset):
    study = begun(dataset, {"image.size": [32, 64]}, method="nsga2", trials=5)
    for record in finished(study):
        loss, milliseconds = record["values"]
        assert loss > 0 and milliseconds > 0


def test_a_recipe_that_cannot_be_trained_ends_the_search_with_its_words(dataset):
    study = begun(dataset, recipe=recipe_of("compute.device=cuda"), trials=3, folds=3)
    wait(lambda: study.result)
    wait(lambda: not any(runs.state_of(r) in runs.LIVE for r in studies.members(study).values()))
    assert studies.state_of(study) == "failed"
    assert "cannot be trained" in study.result["what"]
    assert study.result["remedy"]
