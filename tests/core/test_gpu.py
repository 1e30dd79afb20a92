"""What only a machine with a graphics processor can show; skipped on others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core import recipe as recipes
from core.data import importing
from core.runs import run as runs
from core.runs import worker
from core.runs.run import Run
from core.training.events import Note, Started, epochs_of
from tests.core import test_team

COUNT = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(COUNT == 0, reason="no graphics processor (CUDA) on this machine")
# Convolutions of graphics processors round to ten bits (TF32) even in fp32; steps that are large
# would make more of it with each one.
CLOSE, CAREFUL = 0.02, "optimizer.learning_rate=0.00002"


@pytest.fixture
def dataset(class_photos, make_folder):
    return importing.import_all(make_folder(class_photos("ants", "bees", each=20)))


def trained(dataset, *assignments: str) -> Run:
    recipe = recipes.with_settings(
        recipes.preset("quick"), [*test_team.TUNE, CAREFUL, *assignments]
    )
    run = runs.create(dataset, recipe)
    *_, last = worker.work(run)
    assert last.reason == "finished", last
    return run


def losses(run: Run) -> list[float]:
    return [one.val["loss"] for one in epochs_of(run.events()) if one.phase == "tune"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_what_the_processor_learns(dataset, precision):
    on_cpu = trained(dataset, "compute.device=cpu")
    on_gpu = trained(dataset, "compute.device=cuda", f"compute.precision={precision}")
    (started,) = (event for event in on_gpu.events() if isinstance(event, Started))
    assert started.device == torch.cuda.get_device_name(0)
    np.testing.assert_allclose(losses(on_gpu), losses(on_cpu), rtol=CLOSE, atol=CLOSE)


def test_features_and_a_head_on_them_are_those_of_the_processor(dataset):
    frozen = ["technique.name=feature_extraction", "compute.batch_size=auto"]
    one, other = (trained(dataset, *frozen, f"compute.device={kind}") for kind in ("cpu", "cuda"))
    figures = [runs.result_of(run.events())["val"]["log_loss"] for run in (one, other)]
    assert figures[0] == pytest.approx(figures[1], abs=CLOSE)


def test_a_batch_that_does_not_fit_is_halved(dataset):
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    # Room for the weights and some images of 512 pixels, but not for 28 of them at once.
    torch.cuda.set_per_process_memory_fraction(0.7e9 / total)
    try:
        run = trained(
            dataset, "compute.device=cuda", "compute.batch_size=28", "image.size=512",
            "schedule.epochs=1",
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    notes = [event.text for event in run.events() if isinstance(event, Note)]
    assert any("memory" in text and "batches of" in text for text in notes), notes


def test_more_processes_than_graphics_processors_are_refused_in_words(dataset):
    run = test_team.made(dataset, f"compute.processes={COUNT + 1}", "compute.device=cuda")
    test_team.worker(run).wait(120)
    assert f"asks for {COUNT + 1} processes" in runs.ended(run.events()).what
    assert "compute.processes" in runs.ended(run.events()).remedy


@pytest.mark.skipif(COUNT < 2, reason="one graphics processor alone")
def test_two_graphics_processors_learn_what_one_does(dataset):
    one, other = (
        test_team.trained(dataset, CAREFUL, "compute.device=cuda", f"compute.processes={n}")
        for n in (1, 2)
    )
    np.testing.assert_allclose(losses(one), losses(other), rtol=CLOSE, atol=CLOSE)
