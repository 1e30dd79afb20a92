from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from core.training import loop, optim, range_test
from core.training.events import Event, Note, Progress
from tests.core.small import clouds, epochs_of, linear, on, recipe_of, same, task_of, trained

PLAIN_SGD = (
    "optimizer.name=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.clip=0",
    "optimizer.weight_decay=0",
)  # fmt: skip


def searched(task: loop.Task) -> tuple[float, list[Event]]:
    """The rate that is found, and what is told on the way."""
    events, search = [], range_test.find(task, lambda: False)
    while True:
        try:
            events.append(next(search))
        except StopIteration as stop:
            return stop.value, events


def bowl(stiffness: float, base: float) -> tuple[loop.Task, float]:
    """A round bowl of a loss, and the rate that leads to its bottom in one step.

    At twice that rate steps go from wall to wall, and above it out of the bowl. As with images,
    each batch has a bottom a little beside that of all.
    """
    torch.manual_seed(0)
    inputs = torch.randn(200, 4) * math.sqrt(stiffness)
    targets = inputs @ torch.randn(4, 3) / math.sqrt(stiffness) + 0.1 * torch.randn(200, 3)
    task = task_of(
        recipe_of(*PLAIN_SGD), nn.Linear(4, 3, bias=False), (inputs, targets), batch=100,
        rate=base, criterion=nn.MSELoss(),
    )  # fmt: skip
    # The mean is over B×3 numbers: the second derivative is 2/3 of the inputs' mean square.
    return task, 3 / (2 * stiffness)


@pytest.mark.parametrize("stiffness", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("off", [0.05, 1.0, 20.0])
def test_the_rate_found_is_stable_and_near_the_best_wherever_the_search_begins(
    stiffness: float, off: float
):
    _, best = bowl(stiffness, 1.0)
    task, _ = bowl(stiffness, best * off)
    found, _ = searched(task)
    assert best / 30 < found < 2 * best


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("off", [0.1, 1.0, 10.0])
def test_training_with_the_rate_found_beats_rates_that_are_far_from_it(name: str, off: float):
    def loss_with(rate: float) -> float:
        recipe = recipe_of(f"optimizer.name={name}", "schedule.epochs=3")
        state, _ = trained(task_of(recipe, linear(), rate=rate))
        return -state.best_value

    recipe = recipe_of(f"optimizer.name={name}")
    found, _ = searched(task_of(recipe, linear(), rate=off * optim.RATES[name]["head"]))
    assert loss_with(found) < loss_with(found / 100)
    assert loss_with(found) < loss_with(found * 1000)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_where_nothing_is_left_to_learn_the_rate_is_neither_absurdly_small_nor_huge(name: str):
    # Every point has every label once, and the network says just that.
    inputs, labels = clouds()[0].repeat(3, 1), torch.arange(3).repeat_interleave(48)
    network = linear()
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    base = optim.RATES[name]["head"]
    recipe = recipe_of(f"optimizer.name={name}")
    found, _ = searched(task_of(recipe, network, (inputs, labels), rate=base))
    assert base / 100 < found < 100 * base
    task = task_of(recipe, network, (inputs, labels), rate=found, validate=on((inputs, labels)))
    _, events = trained(task)
    assert max(epoch.val["loss"] for epoch in epochs_of(events)) < math.log(3) + 0.1


def test_a_loss_that_is_zero_at_every_rate_gives_a_rate_that_could_be_meant():
    inputs, labels = clouds()
    task = task_of(recipe_of(*PLAIN_SGD), linear(), (inputs, labels), rate=0.05,
                   criterion=Scaled(0.0))  # fmt: skip
    found, events = searched(task)
    assert 0.05 / 100 <= found <= 0.05 * 100 * 1.001
    assert len(losses_of(events)) == range_test.STEPS


class Scaled(nn.Module):
    """Cross-entropy times a number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.scale * nn.functional.cross_entropy(logits, targets)


def losses_of(events: list[Event]) -> list[float]:
    return [loss for event in events if isinstance(event, Progress) for loss in event.losses]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_search_with_a_rate_below_it(bad: float):
    class Breaking(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            logits = super().forward(inputs)
            return logits * bad if float(self.weight.detach().abs().max()) > 3 else logits

    torch.manual_seed(0)
    task = task_of(recipe_of("optimizer.name=adam"), Breaking(4, 3), rate=0.1)
    found, events = searched(task)
    losses = losses_of(events)
    assert 10 < len(losses) < range_test.STEPS
    assert not math.isfinite(losses[-1])
    assert all(map(math.isfinite, losses[:-1]))
    rates = [rate for e in events if isinstance(e, Progress) for rate in e.rates]
    assert rates[0] / 10 <= found < rates[-1] / 5


def test_a_loss_that_is_no_number_at_once_gives_a_finite_rate_all_the_same():
    task = task_of(recipe_of(), linear(), criterion=Scaled(math.nan), rate=0.1)
    found, events = searched(task)
    assert len(losses_of(events)) == 1
    assert 0 < found < 0.1


def test_a_diverging_loss_ends_the_search_before_the_highest_rates():
    _, best = bowl(1.0, 1.0)
    task, _ = bowl(1.0, best)
    _, events = searched(task)
    assert len(losses_of(events)) < range_test.STEPS


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_after_the_search_everything_is_as_it_was_to_the_last_bit(name: str):
    network = nn.Sequential(linear(), nn.BatchNorm1d(3), nn.Dropout(0.2), linear(1, width=3))
    recipe = recipe_of(f"optimizer.name={name}", "regularization.ema=0.9", "schedule.epochs=1",
                       "schedule.name=one_cycle")  # fmt: skip
    task = task_of(recipe, network)
    trained(task)  # So that there are momenta, statistics and an average that differs.

    def everything() -> dict:
        saved = loop.to_checkpoint(task, loop.State())
        return {**copy.deepcopy(saved), "groups": copy.deepcopy(task.optimizer.param_groups)}

    before, schedule = everything(), task.schedule
    searched(task)
    assert same(everything(), before)
    assert task.schedule is schedule


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_training_after_a_search_is_the_one_without_it(ema: float):
    ends = []
    for search in (False, True):
        task = task_of(recipe_of("schedule.epochs=2", f"regularization.ema={ema}"), linear(),
                       rate=3.0)  # fmt: skip
        if search:
            searched(task)
        state, events = trained(task)
        ends.append((loop.to_checkpoint(task, state), losses_of(events)))
    assert same(*ends)


def test_the_search_is_told_as_a_phase_of_its_own_and_ends_with_a_note():
    found, events = searched(task_of(recipe_of(), linear(), rate=1e-3))
    *told, note = events
    assert isinstance(note, Note)
    assert f"{found:.2g}" in note.text
    assert {(type(event), event.phase, event.total) for event in told} == {
        (Progress, "find", range_test.STEPS)
    }
    steps = [step for event in told for step in event.steps]
    assert steps == list(range(1, len(steps) + 1))
    rates = [rate for event in told for rate in event.rates]
    assert rates == sorted(set(rates))
    assert rates[0] == pytest.approx(1e-6)
    assert rates[-1] <= 1.0


def test_the_search_sees_other_versions_of_the_images_than_training():
    asked: list[int] = []
    task = task_of(recipe_of(), linear(), rate=1e-3)
    batches = task.batches
    task.batches = lambda epoch, first: (asked.append(epoch), batches(epoch, first))[1]
    searched(task)
    assert min(asked) > 10_000
    assert asked == sorted(set(asked))
