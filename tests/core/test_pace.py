"""A busy moment decides nothing for long: the number format of training steps, and its promise."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from core import recipe as recipes
from core import timing
from core.data import importing
from core.machine import cores
from core.models import device as devices
from core.training import checkpoint, loop, pace
from core.training.events import Ended, EpochEnded, Event, Note, Progress, steps_of
from core.training.fit import fit
from core.training.pace import Pace, Steps, Watch
from tests.core.small import linear, recipe_of, task_of
from tests.core.test_options import SMALL, room

__all__ = ["room"]  # A fixture, shared with the module that tries every option.
CPU = torch.device("cpu")
# What a busy moment made somebody believe: bf16 is the faster one, and both are fast.
WRONG = {"training": {"fp32": 1e8, "bf16": 1e9}}


class Machine:
    """One on which steps in bf16 take ten times as long, and that others may use meanwhile."""

    def __init__(self) -> None:
        self.now, self.share, self.measured = 0.0, 1.0, 0

    def work(self, module: nn.Module, inputs: object) -> None:
        self.now += 10.0 if torch.is_autocast_enabled("cpu") else 1.0

    def processor(self, n_threads: int) -> tuple[float, float]:
        self.measured += 1
        return self.share, 1.0


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with bf16 of its own, by whose clock steps are measured."""
    machine = Machine()
    monkeypatch.setattr(devices, "has_bf16", lambda device: True)
    clocks = timing.Clocks(lambda: machine.now, machine.processor)
    monkeypatch.setattr(timing, "CLOCKS", clocks)
    # Every step is told of, and three of them say how fast they are.
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_REPORTS", -1.0)
    monkeypatch.setattr(loop, "MOST_SECONDS_BETWEEN_REPORTS", -1.0)
    monkeypatch.setattr(pace, "SECONDS_SEEN", 0.0)
    handle = register_module_forward_pre_hook(machine.work)
    yield machine
    handle.remove()


def asked(network: nn.Module | None = None) -> Steps:
    """The steps of the trainings in this module."""
    return Steps(network or nn.Conv2d(3, 2, 3), "test_efficientnet", 32, 4, CPU)


Train = Callable[..., list[Event]]


@pytest.fixture
def train(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Fine-tune for two epochs of seven steps; what was told until some event, or the end."""
    dataset = importing.import_all(room / "photos")
    torch.set_num_threads(cores())  # As a training does; answers are kept for so many threads.

    def run(
        folder: Path, until: Callable[[Event], bool] = lambda event: False, **values: Any
    ) -> list[Event]:
        given = {**SMALL, "technique.name": "finetune", "compute.precision": "auto",
                 "backbone.weights": str(room / "weights.safetensors")}  # fmt: skip
        given |= {name.replace("__", "."): value for name, value in values.items()}
        events: list[Event] = []
        for event in fit(dataset, recipes.made(given), folder):
            events.append(event)
            if until(event):
                break
        return events

    return run


def first_epoch(event: Event) -> bool:
    """Whether the network itself has learned for an epoch."""
    return isinstance(event, EpochEnded) and (event.phase, event.epoch) == ("tune", 1)


def is_change(event: Event) -> bool:
    """Whether it is said that the number format changes."""
    return isinstance(event, Note) and event.text.startswith("Training steps did")


def changes(events: list[Event]) -> list[str]:
    """What was said of a change of the number format."""
    return [event.text for event in events if isinstance(event, Note) and is_change(event)]


def precision_in(folder: Path) -> str:
    """The number format of a training that is under way, as its checkpoint says."""
    saved = checkpoint.load(folder / "checkpoint")
    assert saved is not None
    return str(saved["precision"])


# --- what the device can do


@pytest.mark.parametrize(
    ("kind", "avx512", "amx", "own"),
    [("x86_64", False, False, False), ("x86_64", True, False, True), ("x86_64", False, True, True),
     ("aarch64", False, False, True)],
)  # fmt: skip
def test_a_processor_has_bf16_if_its_hardware_has_and_not_if_it_is_emulated(
    kind, avx512, amx, own, monkeypatch
):
    monkeypatch.setattr(platform, "machine", lambda: kind)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    # On x86 the library says so of emulation too.
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert devices.has_bf16(CPU) is own


def test_a_graphics_processor_that_only_emulates_bf16_computes_in_fp16(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert not devices.has_bf16(torch.device("cuda"))
    assert devices.forward_dtype(torch.device("cuda")) is torch.float16


def test_what_the_device_cannot_do_is_neither_tried_nor_believed(home, here, monkeypatch):
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)
    asked().kept.save(WRONG)
    assert pace.measure(asked()) == Pace() and Pace().precision == "fp32"
    assert here.measured == 0 and here.now == 0


# --- what is measured


def test_the_faster_format_is_measured_once(home, here):
    found = pace.measure(asked())
    assert found.precision == "fp32"
    assert found.training["fp32"] == pytest.approx(10 * found.training["bf16"])
    measured = here.measured
    assert pace.measure(asked()) == found and here.measured == measured > 0


def test_what_a_busy_machine_says_is_used_and_not_kept(home, here):
    here.share = 0.5
    found = pace.measure(asked())
    assert found.busy and found.precision == "fp32" and asked().kept.load() is None
    here.share = 1.0
    assert not pace.measure(asked()).busy and asked().kept.load()


def test_an_answer_of_an_earlier_version_is_not_asked(home, here):
    former = home / "cache" / "pace"
    former.mkdir(parents=True)
    for path in (former / f"{asked().kept.path.stem}.json", former / f"{0:024d}.json"):
        path.write_text('{"training": {"fp32": 3.6, "bf16": 4.7}}')
    assert pace.measure(asked()).precision == "fp32" and here.measured


def test_measuring_leaves_the_network_as_it_is(home, here):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).eval().requires_grad_(False)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    pace.measure(asked(network))
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_a_format_that_is_hardly_faster_changes_nothing():
    assert Pace({"fp32": 100.0, "bf16": 105.0}).precision == "fp32"
    assert Pace({"fp32": 100.0, "bf16": 120.0}).precision == "bf16"
    assert Pace({"fp32": 105.0, "bf16": 100.0}).choice_over("bf16") == "bf16"
    assert Pace({"fp32": 120.0, "bf16": 100.0}).choice_over("bf16") == "fp32"


# --- what a training makes of it


def test_a_kept_wrong_answer_is_corrected_by_the_next_run(here, train, tmp_path):
    asked().kept.save(WRONG)
    events = train(tmp_path / "first")
    (text,) = changes(events)
    assert "in bf16, less than half of the 1e+09" in text and "goes on in fp32" in text
    assert isinstance(events[-1], Ended) and events[-1].reason == "finished"
    answer = asked().kept.load()
    assert answer is not None and answer["training"]["fp32"] > 9 * answer["training"]["bf16"]
    # The one after that is right from its first step on. Its real clock is slower than this one's.
    measured = here.measured
    asked().kept.save({"training": {"fp32": 1e-6, "bf16": 1e-7}})
    assert not changes(train(tmp_path / "second", until=first_epoch))
    assert precision_in(tmp_path / "second") == "fp32" and here.measured == measured


def test_on_a_machine_without_bf16_a_kept_answer_for_it_is_not_followed(
    here, train, tmp_path, monkeypatch
):
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)
    asked().kept.save(WRONG)
    assert not changes(train(tmp_path, until=first_epoch))
    assert precision_in(tmp_path) == "fp32" and here.measured == 0


def test_a_training_that_stays_slow_measures_again_once(here, train, tmp_path, monkeypatch):
    measured: list[Pace] = []

    def measure(steps: Steps) -> Pace:
        measured.append(Pace({"fp32": 1e9, "bf16": 1e8}))
        return measured[-1]

    monkeypatch.setattr(pace, "measure_anew", measure)
    asked().kept.save({"training": {"fp32": 1e9, "bf16": 1e8}})
    assert not changes(train(tmp_path, schedule__epochs=4))
    assert len(measured) == 1


def test_on_a_busy_machine_a_wrong_answer_is_forgotten_and_the_training_changes(
    here, train, tmp_path
):
    asked().kept.save(WRONG)
    here.share = 0.5
    assert len(changes(train(tmp_path, until=first_epoch))) == 1
    assert precision_in(tmp_path) == "fp32" and asked().kept.load() is None


def test_a_training_that_was_cut_off_after_a_change_comes_to_the_same_end(here, train, tmp_path):
    def result(name: str, before: list[Event]) -> tuple[object, bytes]:
        events = [*before, *train(tmp_path / name)]
        assert len(changes(events)) == 1
        steps = [step for step in steps_of(events) if step.phase == "tune"]
        return steps, (tmp_path / name / "model" / "model.safetensors").read_bytes()

    asked().kept.save(WRONG)
    whole = result("whole", [])
    asked().kept.save(WRONG)
    cut: list[Event] = train(tmp_path / "cut", until=is_change)
    assert precision_in(tmp_path / "cut") == "fp32"
    assert result("cut", cut) == whole


def test_a_format_that_the_recipe_names_is_left_alone(here, train, tmp_path):
    asked().kept.save(WRONG)
    train(tmp_path, until=first_epoch, compute__precision="bf16")
    assert precision_in(tmp_path) == "bf16" and here.measured == 0


def test_a_training_of_an_earlier_version_in_an_emulated_format_changes_when_it_is_resumed(
    here, train, tmp_path, monkeypatch
):
    asked().kept.save({"training": {"fp32": 1e-7, "bf16": 1e-6}})
    train(tmp_path, until=first_epoch)
    saved = checkpoint.load(tmp_path / "checkpoint")
    assert saved is not None and saved["precision"] == "bf16"
    del saved["promised"]
    checkpoint.save(tmp_path / "checkpoint", saved)
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)
    (text,) = changes(train(tmp_path))
    assert "This device only emulates bf16: training goes on in fp32." in text


def test_the_search_for_a_learning_rate_need_not_go_on_in_a_wrong_format(here, train, tmp_path):
    asked().kept.save(WRONG)
    events = train(tmp_path, until=first_epoch, optimizer__learning_rate="find")
    (text,) = changes(events)
    where = [event.text for event in events if isinstance(event, Note)].index(text)
    assert "range test" in [e.text for e in events if isinstance(e, Note)][where + 1]
    assert precision_in(tmp_path) == "fp32"


def test_without_memory_to_measure_again_the_training_goes_on_as_it_is(
    here, train, tmp_path, monkeypatch
):
    def full(steps: Steps) -> Pace:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    asked().kept.save(WRONG)
    monkeypatch.setattr(pace, "measure_anew", full)
    assert not changes(train(tmp_path, until=first_epoch))
    assert precision_in(tmp_path) == "bf16"


# --- how a training is judged


def told(rate: float, n_steps: int = 4, waiting: float = 0.0) -> Progress:
    """A report of some steps of twelve images at a rate."""
    return Progress("tune", 0, 0, rate, 0.0, steps=[0] * n_steps, waiting=waiting)


def test_a_training_is_judged_by_enough_steps_of_enough_seconds_after_the_first_report():
    watch, task = Watch("bf16", asked(), 100.0), task_of(recipe_of(), linear())
    reports = [told(1.0), told(48.0), told(48.0), told(1.0, n_steps=2), told(1.0, n_steps=1)]
    rates = [watch.rate_of(task, one) for one in reports]
    assert rates == [None, None, pytest.approx(48.0), None, pytest.approx(1.0)]


def test_waiting_for_images_is_not_held_against_the_number_format():
    watch, task = Watch("bf16", asked(), 100.0), task_of(recipe_of(), linear())
    watch.rate_of(task, told(1.0))
    assert watch.rate_of(task, told(2.0, waiting=0.75)) == pytest.approx(8.0)


def test_half_of_what_was_promised_is_enough(here, monkeypatch):
    state, watch = loop.State(), Watch("bf16", asked(), 100.0, warm=True)
    monkeypatch.setattr(pace, "SECONDS_SEEN", 0.0)
    assert not list(watch.look(task_of(recipe_of(), linear()), state, told(51.0)))
    assert here.measured == 0
    (note,) = watch.look(task_of(recipe_of(), linear()), state, told(49.0))
    assert isinstance(note, Note) and "did 49 images a second in bf16" in note.text
    assert here.measured and watch.precision == "fp32"


def test_on_a_machine_that_stays_busy_a_training_is_judged_ever_more_seldom(here, monkeypatch):
    monkeypatch.setattr(pace, "SECONDS_SEEN", 2.0)
    here.share = 0.5
    watch, task = Watch("fp32", asked(), 1e9, warm=True), task_of(recipe_of(), linear())
    looked = []
    for number in range(400):
        before = here.measured
        assert not list(watch.look(task, loop.State(), told(24.0)))  # Two seconds each.
        watch.promised = 1e9
        looked += [number] if here.measured > before else []
    assert looked == [0, 10, 110]
