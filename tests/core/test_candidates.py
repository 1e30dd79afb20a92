"""The runs of a candidate: taken up again when a worker died, stopped wherever they are."""

from __future__ import annotations

import pytest

from core import recipe as recipes
from core.data import importing
from core.errors import NotNow
from core.runs import queue, supervisor, worker
from core.runs import run as runs
from core.studies import candidates, space
from core.studies import plan as plans
from core.studies.candidates import Crew
from core.studies.plan import Plan
from core.training.events import Ended, EpochEnded

RECIPE = recipes.with_settings(
    recipes.preset("quick"), ["image.size=32", "schedule.epochs=6", "schedule.min_steps=0"]
)


@pytest.fixture
def crew(class_photos, make_folder, monkeypatch) -> Crew:
    monkeypatch.setattr(supervisor, "ensure", lambda: None)
    data = importing.import_all(make_folder(class_photos("ants", "bees", each=12)))
    study = plans.start(data, RECIPE, Plan(space.read({"head.kind": ["linear"]}, RECIPE)))
    found = Crew.of(study)
    found.begin("0", RECIPE, "Trial 0", candidates.trial_place(study, "0", {"val"}))
    return found


def train(run: runs.Run, epochs: float = float("inf")) -> None:
    """Work on the run that waits, and die after so many epochs."""
    assert queue.claim("here", run.id)
    for event in worker.work(run):
        if isinstance(event, EpochEnded) and event.epoch >= epochs:
            break
    queue.release(run.id)


def test_one_whose_worker_died_goes_on_and_is_done(crew):
    run = crew.runs["0"]
    assert crew.look("0") == "live" and queue.first() == run.id
    train(run, epochs=2)
    assert runs.state_of(run) == "interrupted"
    assert crew.look("0") == "live" and queue.first() == run.id
    train(run)
    assert crew.look("0") == "done"


def test_one_whose_worker_died_and_that_is_then_stopped_comes_to_its_end(crew):
    run = crew.runs["0"]
    crew.look("0")
    train(run, epochs=3)
    for _ in range(3):
        assert crew.look("0", cut=True) == "live"
        crew.stop("0")
        assert queue.first() == run.id and (run.folder / "stop").exists()
    train(run)
    assert runs.state_of(run) == "stopped"
    assert crew.look("0", cut=True) != "live"


def test_one_that_waits_and_is_stopped_is_never_begun(crew):
    crew.look("0")
    crew.stop("0")
    assert queue.entries() == []
    assert crew.look("0", cut=True) == "failed"
    assert crew.why("0") == "It was stopped."


def test_one_that_nobody_here_stopped_goes_on(crew):
    run = crew.runs["0"]
    crew.look("0")
    (run.folder / "stop").touch()
    train(run)
    assert runs.state_of(run) == "stopped"
    assert crew.look("0") == "live" and queue.first() == run.id
    train(run)
    assert crew.look("0") == "done" and runs.state_of(run) == "finished"


def test_one_that_fails_after_it_was_stopped_has_failed(crew):
    run = crew.runs["0"]
    runs.append(run, Ended("stopped", result={"val": {"n": 1}}))
    assert crew.look("0", cut=True) == "done"
    runs.append(run, Ended("failed", what="The disk is full.", remedy="Free some."))
    assert crew.look("0") == crew.look("0", cut=True) == "failed"
    assert crew.why("0") == "The disk is full. Free some."


@pytest.mark.parametrize("name", ["ask_to_stop", "enqueue"])
def test_one_that_ends_between_two_looks_is_no_fault(crew, monkeypatch, name):
    def late(run):
        runs.append(run, Ended("finished", result={"val": {"n": 1}}))
        raise NotNow("It is over.", "")

    run = crew.runs["0"]
    if name == "ask_to_stop":
        crew.look("0")
    monkeypatch.setattr(runs, name, late)
    if name == "ask_to_stop":
        crew.stop("0")
        queue.release(run.id)
    else:
        assert crew.look("0") == "live"
    assert crew.look("0") == "done"
