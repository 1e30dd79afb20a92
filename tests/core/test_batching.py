from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core import recipe as recipes
from core.data import importing
from core.data.dataset import Dataset
from core.models import network as networks
from core.runs import run as runs
from core.runs import worker
from core.training import batching, loop, optim
from core.training.events import Ended, Event, Note, Progress
from core.training.work import Work
from tests.conftest import make_photo
from tests.core.small import notes_of, recipe_of

CPU = torch.device("cpu")


def convolutions(depth: int) -> nn.Module:
    """A network whose every layer keeps a map of 8 channels."""
    widths = [3, *[8] * depth]
    layers = [nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def measured(network: nn.Module, side: int) -> float:
    return batching.bytes_per_image(network, side, CPU)


def test_what_training_keeps_is_what_the_layers_are_given():
    # Three maps of 3, 8 and 8 channels go into convolutions, 8 numbers into the classifier; of the
    # last map only its shape is kept.
    expected = 4 * (32 * 32 * (3 + 8 + 8) + 8)
    assert measured(convolutions(3), 32) == pytest.approx(expected, rel=0.01)


def test_what_training_keeps_is_what_lies_in_memory_until_the_way_back():
    network = timm.create_model("test_resnet", num_classes=2).eval()
    side, n = 64, 4
    graph = network(torch.zeros(n, 3, side, side))
    found, waiting, seen = {}, [graph.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for name in (name for name in dir(node) if name.startswith("_saved_")):
            value = getattr(node, name)
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        waiting += [following for following, _ in node.next_functions]
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    kept = sum(size for place, size in found.items() if place not in own) / n
    assert measured(network, side) == pytest.approx(kept, rel=0.02)


def test_larger_pictures_and_deeper_networks_keep_more():
    sides = [measured(convolutions(3), side) for side in (32, 64, 128)]
    assert sides[1] / sides[0] == pytest.approx(4, rel=0.01)
    assert sides[2] / sides[1] == pytest.approx(4, rel=0.01)
    depths = [measured(convolutions(depth), 64) for depth in (2, 4, 8)]
    assert depths == sorted(set(depths))


def test_weights_and_statistics_are_not_counted():
    lean, heavy = nn.Linear(3 * 32 * 32, 2), nn.Linear(3 * 32 * 32, 2000)
    assert measured(nn.Sequential(nn.Flatten(), lean), 32) == pytest.approx(
        measured(nn.Sequential(nn.Flatten(), heavy), 32)
    )
    # Its input and nothing of its 3 × 4 statistics and weights.
    assert measured(nn.BatchNorm2d(3), 32) == 4 * 3 * 32 * 32


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_network_as_it_was(training: bool):
    network = timm.create_model("test_efficientnet", num_classes=2).train(training)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    measured(network, 32)
    assert all(tensor.equal(before[key]) for key, tensor in network.state_dict().items())
    assert {module.training for module in network.modules()} == {training}
    assert all(p.grad is None for p in network.parameters())


def work_of(n: int, folder: Path, wanted: str = "auto", side: int = 32) -> Work:
    """A training on so many images, of which only the numbers of their rows are looked at."""
    recipe = recipe_of(f"compute.batch_size={wanted}", f"image.size={side}",
                       "technique.name=from_scratch", "backbone.name=test_resnet")  # fmt: skip
    network = networks.create(recipe, 2, pretrained=False)
    table = pd.DataFrame({"label": ["ants", "bees"] * (n // 2), "sha256": ["0" * 64] * n})
    return Work(
        dataset=Dataset("x", "x", 1, "x", "", ("ants", "bees"), table, (), folder), recipe=recipe,
        folder=folder, stop=lambda: False, parts=np.array(["train"] * n),
        labels=np.arange(n) % 2, network=network,
        preprocessing=networks.preprocessing_of(network, recipe), device=CPU, threads=1,
        started=0.0, pictures=lambda row: torch.zeros(3, side, side, dtype=torch.uint8),
    )  # fmt: skip


def memory(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    """A machine with so many bytes free."""
    monkeypatch.setattr(batching, "free_memory", lambda device: free)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(2, 4), (30, 4), (64, 8), (100, 8), (128, 16), (1000, 64), (2048, 256), (100_000, 256)],
)
def test_a_batch_is_a_power_of_two_and_leaves_eight_steps_in_an_epoch(
    n: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    memory(monkeypatch, 1e15)
    work = work_of(n, tmp_path)
    assert batching.size(work, work.network) == expected


def test_a_batch_takes_no_more_than_half_of_the_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    work = work_of(100_000, tmp_path)
    each = measured(work.network, 32)
    for images in (8, 13, 31, 32, 70, 255, 300):
        memory(monkeypatch, 2 * each * images * 1.001)
        found = batching.size(work, work.network)
        assert found == min(256, 2 ** int(math.log2(images)))
    memory(monkeypatch, 0.0)
    assert batching.size(work, work.network) == batching.SMALLEST


def test_a_batch_of_larger_pictures_holds_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small, large = work_of(100_000, tmp_path, side=32), work_of(100_000, tmp_path, side=64)
    memory(monkeypatch, 2 * 100 * measured(small.network, 32))
    assert batching.size(small, small.network) == 64
    assert batching.size(large, large.network) == 16


@pytest.mark.parametrize("wanted", [1, 7, 4096])
def test_a_batch_size_that_is_named_is_taken_as_it_is(
    wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    memory(monkeypatch, 0.0)
    work = work_of(10, tmp_path, str(wanted))
    assert batching.size(work, work.network) == wanted


def test_the_free_memory_of_this_machine_is_some():
    assert 1e6 < batching.free_memory(CPU) < 1e15


# A memory that turns out too small.

QUICK = (
    "backbone.name=test_resnet", "image.size=32", "data.split=[0.7, 0.15, 0.15]",
    "schedule.epochs=1", "schedule.name=constant", "schedule.warmup=0", "compute.precision=fp32",
    "compute.device=cpu", "compute.workers=1", "compute.batch_size=auto",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What a run told, and the images of each step that it tried.

    forgotten: parameters that the last step's optimizer did not know.
    """

    events: list[Event]
    tried: list[int]
    forgotten: int

    @property
    def end(self) -> Ended:
        last = self.events[-1]
        assert isinstance(last, Ended)
        return last

    @property
    def rates(self) -> list[float]:
        return [
            rate for event in self.events
            if isinstance(event, Progress) and event.phase == "tune" for rate in event.rates
        ]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough of two kinds for batches of eight."""
    folder = tmp_path_factory.mktemp("photos")
    for kind, label in enumerate(("ants", "bees")):
        (folder / label).mkdir()
        for seed in range(48):
            content = make_photo(seed, size=(32, 32), kind=kind)
            (folder / label / f"{seed:02d}.jpg").write_bytes(content)
    return folder


def work_with(limit: int, photos: Path, monkeypatch: pytest.MonkeyPatch, *assignments: str) -> Seen:
    """A whole run on a machine whose memory holds steps of `limit` images."""
    step, tried, tasks = loop.step, [], []

    def tight(task: loop.Task, number: int, inputs: Tensor, *others: Any) -> Any:
        tried.append(len(inputs))
        tasks.append(task)
        if task.phase == "tune" and len(inputs) // task.recipe.compute.accumulate > limit:
            torch.empty(1 << 60)  # Fails as a processor's memory really does.
        return step(task, number, inputs, *others)

    monkeypatch.setattr(loop, "step", tight)
    recipe = recipes.with_settings(recipes.preset("quick"), [*QUICK, *assignments])
    run = runs.create(importing.import_all(photos), recipe, "tight")
    events = list(worker.work(run))
    known = {id(p) for group in tasks[-1].optimizer.param_groups for p in group["params"]}
    forgotten = sum(id(p) not in known for p in tasks[-1].network.parameters())
    return Seen(events, tried, forgotten)


def test_a_memory_that_is_too_small_halves_the_batch_until_it_fits(
    photos: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = work_with(2, photos, monkeypatch, "technique.name=from_scratch")
    assert seen.end.reason == "finished"
    said = [note.text for note in notes_of(seen.events) if "memory was not enough" in note.text]
    assert [text.rpartition(" ")[2] for text in said] == ["4.", "2."]
    assert seen.tried[:3] == [8, 4, 2]
    assert max(seen.tried[2:]) == 2
    # The rate suits the batch that was trained with at last.
    usual = optim.RATES["adamw"]["scratch"]
    assert seen.rates == pytest.approx([usual * (2 / 16) ** 0.5] * len(seen.rates))


def test_where_the_memory_is_enough_nothing_is_said_of_it(
    photos: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = work_with(8, photos, monkeypatch, "technique.name=from_scratch")
    assert seen.end.reason == "finished"
    assert not [note for note in notes_of(seen.events) if "memory" in note.text]
    assert seen.rates == pytest.approx([1e-3 * (8 / 16) ** 0.5] * len(seen.rates))


def test_a_batch_size_that_is_named_and_too_large_fails_with_the_way_out(
    photos: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = work_with(8, photos, monkeypatch, "technique.name=from_scratch", "compute.batch_size=16")
    assert seen.end.reason == "failed"
    assert "memory" in seen.end.what
    assert "compute.batch_size" in seen.end.remedy
    assert seen.tried == [16]


def test_a_memory_that_holds_no_image_fails_with_the_way_out(
    photos: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = work_with(0, photos, monkeypatch, "technique.name=from_scratch")
    assert seen.end.reason == "failed"
    assert "smaller image.size" in seen.end.remedy
    assert seen.tried == [8, 4, 2, 1]


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """Weights that a small network might have learned."""
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


def test_after_a_new_start_stages_that_thaw_late_are_still_to_learn(
    photos: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = work_with(
        4, photos, monkeypatch, "technique.name=gradual", f"backbone.weights={pretrained}"
    )
    assert seen.end.reason == "finished"
    assert [note for note in notes_of(seen.events) if "batches of 4" in note.text]
    assert seen.forgotten == 0


def test_a_batch_is_found_where_only_the_last_stages_are_passed(
    photos: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = work_with(
        8, photos, monkeypatch, "technique.name=last_stages", "augmentation.policy=none",
        f"backbone.weights={pretrained}",
    )  # fmt: skip
    assert seen.end.reason == "finished"
    # The head on features takes steps of its own before.
    assert seen.tried[-1] <= 8
    assert not [note for note in seen.events if isinstance(note, Note) and "memory" in note.text]


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_each_device_says_in_its_own_way_that_memory_is_full(error: Exception, is_so: bool):
    assert batching.is_out_of_memory(error) == is_so


def test_half_precision_is_refused_where_it_would_silently_be_full(photos: Path, tmp_path: Path):
    recipe = recipes.with_settings(
        recipes.preset("quick"),
        ["backbone.name=tf_efficientnet_lite0", "compute.precision=fp16", "compute.device=cpu"],
    )
    run = runs.create(importing.import_all(photos), recipe, "half")
    *_, end = worker.work(run)
    assert "fp16" in end.what
    assert "bf16" in end.remedy
