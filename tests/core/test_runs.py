"""Runs in true worker processes: killed, stopped, resumed, queued."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from core import recipe as recipes
from core.data import importing
from core.errors import NotNow, WeightsMissing
from core.processes import ROOT
from core.runs import queue, supervisor
from core.runs import run as runs
from core.runs import worker as workers
from core.runs.local_engine import LocalEngine, lock_of
from core.runs.run import Place, Run
from core.runs.status import status_of
from core.storage import held, read_lines
from core.training.events import Ended, Started, epochs_of

posix_only = pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
SMALL = ["image.size=32", "compute.batch_size=8", "compute.precision=fp32"]
TUNE = [*SMALL, "technique.name=finetune", "schedule.epochs=3"]


@pytest.fixture
def dataset(class_photos, make_folder):
    photos = class_photos("ants", "bees", each=24)
    return importing.import_all(make_folder(photos))


def made(dataset, settings) -> Run:
    return runs.create(dataset, recipes.with_settings(recipes.preset("quick"), settings))


def worker(run: Run) -> subprocess.Popen:
    log = (run.folder / "worker.log").open("ab")
    command = [sys.executable, "-m", "core.runs.worker", str(run.folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def wait(condition, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def figures(run: Run) -> dict:
    result = runs.result_of(run.events())
    return {part: result[part] for part in ("train", "val", "test")}


def kinds(run: Run) -> list[str]:
    return [record["kind"] for record in read_lines(run.folder / "events.jsonl")]


@posix_only
def test_a_run_killed_at_random_moments_and_resumed_equals_the_undisturbed_one(dataset):
    undisturbed = made(dataset, TUNE)
    assert worker(undisturbed).wait(120) == 0
    killed = made(dataset, TUNE)
    moments = random.Random(7)
    for target in sorted((1, 2)):
        process = worker(killed)

        def tuned_epochs():
            records = read_lines(killed.folder / "events.jsonl")
            return sum(r["kind"] == "EpochEnded" and r["phase"] == "tune" for r in records)

        wait(lambda target=target: tuned_epochs() >= target)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if runs.state_of(killed) != "finished":
            assert runs.state_of(killed) == "interrupted"
    if runs.state_of(killed) != "finished":
        runs.ready_to_resume(killed)
        assert worker(killed).wait(120) == 0
    assert figures(killed) == figures(undisturbed)
    pd.testing.assert_frame_equal(
        pd.read_parquet(killed.predictions), pd.read_parquet(undisturbed.predictions)
    )
    weights = [(run.model / "model.safetensors").read_bytes() for run in (killed, undisturbed)]
    assert weights[0] == weights[1]


@posix_only
def test_stopping_keeps_the_best_epoch_scored_and_resuming_goes_on(dataset):
    run = made(dataset, [*TUNE, "schedule.epochs=200"])
    process = worker(run)
    wait(lambda: "tune" in {r.get("phase") for r in read_lines(run.folder / "events.jsonl")})
    assert runs.state_of(run) == "running"
    with pytest.raises(NotNow):
        runs.ready_to_resume(run)
    runs.ask_to_stop(run)
    assert process.wait(240) == 0
    assert runs.state_of(run) == "stopped"
    assert figures(run)["test"]["n"] > 0
    assert run.predictions.exists()
    before = runs.result_of(run.events())["epochs"]
    runs.ready_to_resume(run)
    again = worker(run)
    wait(lambda: kinds(run).count("Started") == 2)
    wait(lambda: epochs_of(run.events())[-1].epoch > before)
    again.terminate()  # SIGTERM is the same as the stop file.
    assert again.wait(240) == 0
    assert runs.result_of(run.events())["epochs"] > before


def test_two_workers_never_train_the_same_run(dataset):
    run = made(dataset, [*TUNE, "schedule.epochs=100"])
    first = worker(run)
    wait(lambda: runs.state_of(run) == "running")
    second = worker(run)
    assert second.wait(240) == 2
    assert "being trained already" in (run.folder / "worker.log").read_text()
    runs.ask_to_stop(run)
    assert first.wait(240) == 0
    assert kinds(run).count("Started") == 1


def test_queued_runs_train_one_after_the_other_and_outlive_who_queued_them(dataset, home):
    first, second = made(dataset, SMALL), made(dataset, [*SMALL, "seed=1"])
    queue.add(first.id)
    queue.add(second.id)
    assert [e.place for e in queue.entries()] == [1, 2]
    assert status_of(second, []).place == 2
    environment = {**os.environ, "HEADSTART_HOME": str(home)}
    server = subprocess.Popen([sys.executable, "-m", "core", "worker"], cwd=ROOT, env=environment)
    try:
        wait(lambda: runs.state_of(first) == "running")
        assert runs.state_of(second) == "queued"
        assert status_of(second, []).place == 1
        server.kill()
        server.wait()
        wait(lambda: runs.state_of(first) == "finished")
        server = subprocess.Popen(
            [sys.executable, "-m", "core", "worker"], cwd=ROOT, env=environment
        )
        wait(lambda: runs.state_of(second) == "finished")
        wait(lambda: queue.entries() == [])
    finally:
        server.kill()
        server.wait()


def test_a_waiting_run_leaves_the_queue_when_stopped(dataset):
    run = made(dataset, SMALL)
    queue.add(run.id)
    runs.ask_to_stop(run)
    assert queue.entries() == []
    assert runs.state_of(run) == "stopped"


def test_a_worker_that_cannot_work_says_why(dataset):
    run = made(dataset, SMALL)
    (dataset.folder / "images.parquet").unlink()
    (dataset.folder / "dataset.json").unlink()
    assert worker(run).wait(240) == 0
    ended = runs.ended(run.events())
    assert runs.state_of(run) == "failed"
    assert "no dataset" in ended.what and ended.remedy


class Dying:
    """An engine whose workers are killed before they tell anything."""

    def words(self, place: str) -> str:
        return "exit status -9"


def test_a_run_whose_worker_is_killed_before_its_first_word_waits_again_at_its_place(dataset):
    run, other = made(dataset, SMALL), made(dataset, SMALL)
    queue.add(run.id)
    queue.add(other.id)
    watch = supervisor.Watch(Dying())
    for _ in range(supervisor.MOST_TRIES - 1):
        assert queue.first() == run.id and queue.claim("here", run.id)
        supervisor.settle(watch, "here", run, lost=False)
        assert runs.state_of(run) == "queued" and not run.events()
    assert queue.claim("here", run.id)
    supervisor.settle(watch, "here", run, lost=False)
    assert runs.state_of(run) == "failed"
    assert "could not start (exit status -9)" in runs.ended(run.events()).what
    assert queue.first() == other.id


def test_a_worker_between_two_trials_keeps_its_place_when_the_supervisor_is_another(dataset):
    run = made(dataset, SMALL)
    queue.add(run.id)
    watch = supervisor.Watch(LocalEngine())
    (place,) = watch.engine.slots()
    with held(lock_of(place)):
        supervisor.adopt(watch)
        assert watch.places == [place]
        supervisor.fill(watch)
        assert runs.state_of(run) == "queued"
        assert supervisor.still_working(watch, place)
    assert not supervisor.still_working(watch, place)


def test_events_that_were_read_before_the_end_make_no_run_look_dead(dataset):
    run = made(dataset, SMALL)
    runs.append(run, Started("", {}, 2, "CPU", "auto", "", {}, 3))
    before = run.events()
    assert runs.state_of(run, before) == "interrupted"
    runs.append(run, Ended("finished"))
    assert runs.state_of(run, before) == "finished"


def test_starting_a_training_is_not_answered_with_a_trial_of_a_search(dataset):
    run = made(dataset, SMALL)
    trial = runs.create(
        dataset, run.recipe, place=Place("s" * 12, "0", ("test",), keeps_model=False)
    )
    queue.add(trial.id)
    assert runs.state_of(trial) == "queued"
    started = runs.start(dataset, run.recipe)
    assert started.id != trial.id and not started.held_back
    assert runs.start(dataset, run.recipe).id == started.id


def test_a_run_whose_workers_die_again_and_again_before_they_go_on_has_failed(dataset):
    run = made(dataset, SMALL)
    runs.append(run, Started("", {}, 2, "CPU", "auto", "", {}, 3))
    watch = supervisor.Watch(Dying())
    for _ in range(supervisor.MOST_TRIES):
        assert runs.state_of(run) == "interrupted"
        queue.add(run.id)
        assert queue.claim("here", run.id)
        supervisor.settle(watch, "here", run, lost=False)
        assert queue.entries() == []
    assert runs.state_of(run) == "failed"
    assert "could not start" in runs.ended(run.events()).what


def test_a_run_that_goes_on_each_time_before_its_worker_dies_has_not_failed(dataset):
    run = made(dataset, SMALL)
    watch = supervisor.Watch(Dying())
    for _ in range(2 * supervisor.MOST_TRIES):
        runs.append(run, Started("", {}, 2, "CPU", "auto", "", {}, 3))
        supervisor.settle(watch, "here", run, lost=False)
    assert runs.state_of(run) == "interrupted"


def test_what_ended_one_of_several_processes_is_what_the_leader_says(dataset, monkeypatch):
    run = made(dataset, SMALL)
    full = Ended("failed", what="The memory is full.", remedy="Use smaller batches.")
    monkeypatch.setattr("core.training.fit.fit", lambda *given: iter([full]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert workers.worked(run) == 1
    assert run.events() == []

    def deserted(*given):
        (run.folder / workers.FOLLOWER).write_bytes(told)
        raise RuntimeError("Connection closed by peer")
        yield

    told = (run.folder / workers.FOLLOWER).read_bytes()
    monkeypatch.setattr("core.training.fit.fit", deserted)
    monkeypatch.setenv("RANK", "0")
    assert workers.worked(run) == 0
    assert runs.ended(run.events()) == full
    monkeypatch.setattr("core.training.fit.fit", lambda *given: iter([Ended("finished")]))
    assert workers.worked(run) == 0
    assert not (run.folder / workers.FOLLOWER).exists()


def test_a_run_that_was_asked_to_stop_before_its_first_word_is_not_begun_again(dataset):
    run = made(dataset, SMALL)
    queue.add(run.id)
    assert queue.claim("here", run.id)
    (run.folder / "stop").touch()
    supervisor.settle(supervisor.Watch(Dying()), "here", run, lost=False)
    assert queue.entries() == [] and runs.state_of(run) == "stopped"


def test_a_torn_last_line_of_events_is_passed_over_and_mended(dataset):
    run = made(dataset, SMALL)
    path = run.folder / "events.jsonl"
    path.write_bytes(b'{"kind": "Note", "text": "whole"}\n{"kind": "Not')
    assert len(run.events()) == 1
    assert worker(run).wait(240) == 0
    assert run.events()[0].text == "whole"
    assert runs.state_of(run) == "finished"


def test_a_backbone_without_weights_is_refused_before_a_run_exists(dataset):
    with pytest.raises(WeightsMissing, match="tf_efficientnet_lite0"):
        made(dataset, [*SMALL, "backbone.name=resnet50"])
    assert runs.all_runs() == []


def test_a_run_is_pinned_to_its_dataset_and_recipe(dataset):
    run = made(dataset, SMALL)
    again = runs.load(run.id)
    assert (again.dataset, again.revision, again.digest) == (dataset.id, 1, dataset.digest)
    assert again.recipe == run.recipe
    assert Path(again.folder) == run.folder


def test_a_claim_of_a_supervisor_that_died_holds_nobody_up(dataset):
    run = made(dataset, SMALL)
    queue.add(run.id)
    assert queue.claim("machine", run.id)
    assert runs.state_of(run) == "created"
    runs.ready_to_resume(run)
    assert queue.entries() == []


@posix_only
def test_a_run_that_stopped_early_does_not_go_on_when_its_end_is_repeated(dataset):
    settings = [*TUNE, "schedule.epochs=40", "stopping.patience=1", "optimizer.learning_rate=0.5"]
    undisturbed, killed = made(dataset, settings), made(dataset, settings)
    assert worker(undisturbed).wait(120) == 0
    process = worker(killed)
    wait(
        lambda: any(r.get("phase") == "finish" for r in read_lines(killed.folder / "events.jsonl"))
    )
    process.kill()
    process.wait()
    if runs.state_of(killed) != "finished":
        assert worker(killed).wait(120) == 0
    assert (
        runs.result_of(killed.events())["epochs"] == runs.result_of(undisturbed.events())["epochs"]
    )
    assert figures(killed) == figures(undisturbed)
