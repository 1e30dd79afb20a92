"""One run in two processes over gloo: the same figures as in one, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file

from core import recipe as recipes
from core.data import importing
from core.errors import MachineRefused
from core.processes import ROOT
from core.runs import run as runs
from core.runs import worker as workers
from core.runs.run import Run
from core.training import team as teams
from core.training.events import Ended, Note, epochs_of

posix_only = pytest.mark.skipif(os.name == "nt", reason="torchrun and kill -9 are POSIX")
pytestmark = posix_only
TUNE = ["image.size=32", "compute.batch_size=9", "compute.precision=fp32", "schedule.epochs=2",
        "technique.name=finetune", "optimizer.learning_rate=0.0002",
        "compute.device=cpu"]  # fmt: skip
# The sums of gradients are taken in another order; over two epochs that is left in the figures.
CLOSE = 1e-4


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", each=20)))


def made(dataset, *assignments: str) -> Run:
    recipe = recipes.with_settings(recipes.preset("quick"), [*TUNE, *assignments])
    return runs.create(dataset, recipe)


def worker(run: Run) -> subprocess.Popen:
    log = (run.folder / "worker.log").open("ab")
    command = [sys.executable, "-m", "core.runs.worker", str(run.folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def trained_here(dataset, *assignments: str) -> Run:
    """By one process: this one, since the start of another takes seconds."""
    run = made(dataset, *assignments)
    *_, last = workers.work(run)
    assert last.reason == "finished", last
    return run


def trained(dataset, *assignments: str) -> Run:
    run = made(dataset, *assignments)
    assert worker(run).wait(240) == 0, (run.folder / "worker.log").read_text()
    assert runs.state_of(run) == "finished", runs.ended(run.events())
    return run


def at_work(run: Run) -> list[int]:
    """The processes that train a run."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(run.folder) in process.cmdline() and process.status() != "zombie":
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def losses(run: Run) -> list[float]:
    return [one.val["loss"] for one in epochs_of(run.events()) if one.phase == "tune"]


def assert_alike(one: Run, other: Run) -> None:
    np.testing.assert_allclose(losses(one), losses(other), rtol=CLOSE, atol=CLOSE)
    figures = [runs.result_of(run.events()) for run in (one, other)]
    for part in ("val", "test"):
        for name in ("log_loss", "accuracy"):
            assert figures[0][part][name] == pytest.approx(figures[1][part][name], abs=CLOSE)
    weights = [load_file(str(run.model / "model.safetensors")) for run in (one, other)]
    for name, values in weights[0].items():
        np.testing.assert_allclose(values, weights[1][name], rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    "how",
    [
        # 28 training images in batches of 9 leave one for the last: nothing for the second process.
        [],
        ["compute.accumulate=2", "optimizer.clip=0.1", "augmentation.policy=none"],
        [
            "augmentation.mixup=0.4",
            "head.kind=mlp",
            "head.dropout=0",
            "regularization.ema=0.9",
        ],
    ],
)
def test_two_processes_learn_what_one_does(dataset, how):
    assert_alike(trained(dataset, *how, "compute.processes=2"), trained_here(dataset, *how))


def test_torchrun_itself_may_start_them(dataset):
    run = made(dataset, "compute.processes=2")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               "-m", "core.runs.worker", str(run.folder)]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, timeout=240, capture_output=True)
    assert runs.state_of(run) == "finished"
    assert sum(isinstance(event, Ended) for event in run.events()) == 1


def test_killed_processes_leave_nobody_and_are_gone_on_with(dataset):
    undisturbed = trained(dataset, "compute.processes=2", "schedule.epochs=3")
    run = made(dataset, "compute.processes=2", "schedule.epochs=3")
    process = worker(run)
    wait(lambda: len(losses(run)) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait(lambda: not at_work(run) and runs.state_of(run) != "running", 30)
    if runs.state_of(run) != "finished":
        assert runs.state_of(run) == "interrupted"
        runs.ready_to_resume(run)
        assert worker(run).wait(240) == 0
    assert_alike(run, undisturbed)


def test_stopping_ends_all_of_them_with_the_best_epoch_scored(dataset):
    run = made(dataset, "compute.processes=2", "schedule.epochs=300")
    process = worker(run)
    wait(lambda: len(losses(run)) >= 1)
    runs.ask_to_stop(run)
    assert process.wait(120) == 0
    assert runs.state_of(run) == "stopped"
    assert runs.result_of(run.events())["test"]["n"] > 0
    assert not at_work(run)


def test_stopping_before_the_first_epoch_ends_all_of_them(dataset):
    run = made(dataset, "compute.processes=2")
    (run.folder / "stop").touch()
    assert worker(run).wait(120) == 0
    assert runs.state_of(run) == "stopped"
    assert not at_work(run)


def test_batch_norm_that_sees_one_share_is_told(dataset):
    run = trained(dataset, "compute.processes=2", "technique.freeze_batch_norm=false")
    notes = [event.text for event in run.events() if isinstance(event, Note)]
    assert any("Batch norm sees the share of one process" in text for text in notes)


def test_a_refusal_is_told_once_and_ends_all_of_them(dataset):
    run = made(dataset, "compute.processes=2", "compute.device=mps")
    assert worker(run).wait(120) == 1  # As what started them says of one that failed.
    assert [type(event) for event in run.events()] == [Ended]
    assert "no device mps" in run.events()[0].what
    assert not at_work(run)


def test_more_processes_than_graphics_processors_are_refused(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MachineRefused, match="asks for 2 processes") as refused:
        teams.on(torch.device("cuda"))
    assert "compute.processes to 1" in refused.value.remedy


def test_a_head_on_features_needs_one_process_alone():
    assert recipes.with_settings(recipes.preset("quick"), ["compute.processes=4"]).processes == 1
    assert recipes.with_settings(recipes.preset("balanced"), ["compute.processes=4"]).processes == 4
