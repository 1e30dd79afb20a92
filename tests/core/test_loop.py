from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.errors import MachineRefused
from core.training import checkpoint, loop
from core.training.balance import Loss
from core.training.events import EpochEnded, Progress
from core.training.soup import MOST, Soup, averaged, copied
from tests.core.small import (
    clouds,
    column,
    epochs_of,
    linear,
    notes_of,
    on,
    recipe_of,
    same,
    task_of,
    trained,
    weights_of,
)

Validate = Callable[[nn.Module], tuple[np.ndarray, np.ndarray]]
NAN = math.nan


def saying(*losses: float) -> Validate:
    """Validation whose images have these losses, one for each time that it is asked."""
    answers = iter(losses)

    def validate(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        # The first class is the true one; its lead gives the cross-entropy.
        lead = -math.log(math.expm1(next(answers)))
        return np.array([[lead, 0.0]] * 4, np.float32), np.zeros(4, int)

    return validate


def answering(*epochs: list[list[float]], labels: list[int]) -> Validate:
    """Validation with these logits, one matrix for each time that it is asked."""
    answers = iter(epochs)
    return lambda network: (np.array(next(answers), np.float32), np.array(labels))


def dropping(seed: int = 0) -> nn.Module:
    """A network with randomness in its steps and with statistics and a counter of its own."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3)
    )


# When to stop, and what is best.


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_training_stops_after_exactly_so_many_epochs_without_a_better_one(patience: int):
    losses = [1.0, 0.9, 0.8, 0.85, 0.81, 0.82, 0.83, 0.84, 0.86]
    recipe = recipe_of(f"stopping.patience={patience}", "schedule.epochs=8")
    state, events = trained(task_of(recipe, linear(), validate=saying(*losses)))
    assert state.epoch == 2 + patience
    assert state.best_epoch == 2
    assert [note.text for note in notes_of(events)] == [
        f"Stopped early: no better epoch in the last {patience}."
    ]


def test_a_better_epoch_starts_the_patience_anew():
    losses = [1.0, 1.1, 0.9, 1.0, 0.8, 1.0, 1.0, 0.1, 0.1]
    recipe = recipe_of("stopping.patience=2", "schedule.epochs=8")
    state, _ = trained(task_of(recipe, linear(), validate=saying(*losses)))
    assert (state.epoch, state.best_epoch) == (6, 4)


def test_without_patience_all_epochs_are_trained():
    losses = [0.1, *[1.0] * 6]
    state, events = trained(
        task_of(recipe_of("schedule.epochs=6"), linear(), validate=saying(*losses))
    )
    assert (state.epoch, state.best_epoch) == (6, 0)
    assert not notes_of(events)


def test_improvements_below_the_least_change_do_not_count_until_they_add_up():
    losses = [1.0, 0.98, 0.96, 0.94, 0.92, 0.9]
    recipe = recipe_of("stopping.min_delta=0.05", "schedule.epochs=5")
    state, events = trained(task_of(recipe, linear(), validate=saying(*losses)))
    assert [epoch.best for epoch in epochs_of(events)] == [False, False, True, False, False]
    assert state.best_epoch == 3
    patient = recipe_of("stopping.min_delta=0.05", "schedule.epochs=5", "stopping.patience=2")
    state, _ = trained(task_of(patient, linear(), validate=saying(*losses)))
    assert (state.epoch, state.best_epoch) == (2, 0)


@pytest.mark.parametrize(
    ("metric", "best"), [("val_loss", 3), ("val_accuracy", 1), ("val_macro_f1", 2)]
)
def test_each_metric_has_a_best_epoch_of_its_own(metric: str, best: int):
    labels = [0, 0, 0, 0, 0, 0, 0, 1]
    wrong, common, both, sure = (
        [[0.0, 1.0]] * 8,
        [[9.0, 0.0]] * 8,  # Seven of eight, and the rare class is forgotten.
        [[9.0, 0.0]] * 5 + [[0.0, 9.0]] * 3,
        [[0.1, 0.0]] * 4 + [[0.0, 0.1]] * 4,  # Unsure, so that its mistakes are cheap.
    )
    recipe = recipe_of(f"stopping.metric={metric}", "schedule.epochs=3")
    validate = answering(wrong, common, both, sure, labels=labels)
    state, _ = trained(task_of(recipe, linear(), validate=validate))
    assert state.best_epoch == best


def test_the_best_epochs_weights_are_kept_and_not_the_last_ones():
    task = task_of(
        recipe_of("schedule.epochs=4"), dropping(), validate=saying(1.0, 0.9, 0.5, 0.7, 0.6)
    )
    state, seen = loop.State(), {}
    for event in loop.train(task, state):
        if isinstance(event, EpochEnded):
            seen[event.epoch] = copied(task.network)
    assert same(state.best_weights, seen[2])
    assert not same(seen[2], seen[4])


def test_whoever_stops_listening_has_the_best_epoch_so_far():
    task = task_of(recipe_of("schedule.epochs=9"), linear())
    state = loop.State()
    for event in loop.train(task, state):
        if isinstance(event, EpochEnded) and event.epoch == 3:
            break
    assert state.epoch == 3
    assert state.best_epoch <= 3
    assert state.best_weights.keys() == task.network.state_dict().keys()


# Losses that are no numbers.


def spoiled(at: int) -> Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]:
    """Four batches an epoch, of which the one at a step makes the loss NaN."""
    inputs, labels = clouds()

    def batches(epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(first, 4):
            rows = slice(12 * number, 12 * number + 12)
            bad = (epoch - 1) * 4 + number == at
            yield inputs[rows] * (NAN if bad else 1), labels[rows]

    return batches


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_loss_that_is_no_number_ends_the_training_and_the_best_epoch_is_kept(ema: float):
    recipe = recipe_of("schedule.epochs=5", f"regularization.ema={ema}")
    task = task_of(recipe, linear(), batches=spoiled(9), rate=0.05)
    state, events = trained(task)
    assert (state.epoch, state.best_epoch) == (2, 2)
    assert all(tensor.isfinite().all() for tensor in state.best_weights.values())
    (note,) = notes_of(events)
    assert (note.kind, note.level) == ("rate_too_high", "warning")
    assert note.change == {"optimizer.learning_rate": pytest.approx(0.005)}
    assert "epoch 3" in note.text
    assert "epoch 2 is kept" in note.text


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy", "val_macro_f1"])
def test_a_network_that_says_no_numbers_is_never_the_best(metric: str):
    broken = [[NAN, NAN]] * 4  # Its first class would be the right one.
    fair = [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2
    recipe = recipe_of(f"stopping.metric={metric}", "schedule.epochs=2", "finish.soup=true")
    validate = answering(fair, broken, fair, *[broken] * 4, labels=[0] * 4)
    task = task_of(recipe, linear(), validate=validate)
    state, _ = trained(task)
    assert state.best_epoch == 0
    list(loop.souped(task, state))
    assert same(state.best_weights, state.soup.weights[0])


# What a step does.


@pytest.mark.parametrize(("pieces", "n"), [(2, 48), (3, 48), (5, 48), (4, 50), (16, 20)])
def test_accumulated_batches_are_one_large_batch(pieces: int, n: int):
    ends, losses, right = [], [], []
    for accumulate in (1, pieces):
        network = nn.Sequential(linear(), nn.Tanh(), linear(1, width=3))
        recipe = recipe_of(f"compute.accumulate={accumulate}", "schedule.epochs=2",
                           "optimizer.name=sgd", "optimizer.l1=0.001")  # fmt: skip
        _, events = trained(task_of(recipe, network, clouds(n), batch=24))
        ends.append(weights_of(network))
        losses.append(column(events, "losses"))
        right.append(column(events, "accuracies"))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert right[0] == right[1]


@pytest.mark.parametrize("n", range(2, 24))
def test_no_piece_of_a_batch_is_too_small_for_batch_norm(n: int):
    for accumulate in (2, 3, 4, 7):
        recipe = recipe_of(f"compute.accumulate={accumulate}", "schedule.epochs=1")
        trained(task_of(recipe, dropping(), clouds(n), batch=n))


def test_a_batch_of_one_image_passes_whole():
    recipe = recipe_of("compute.accumulate=4", "schedule.epochs=1")
    state, _ = trained(task_of(recipe, linear(), clouds(3), batch=1))
    assert state.step == 3


def test_shares_of_classes_are_learned_as_labels_are_and_the_heaviest_counts_as_right():
    inputs, labels = clouds()
    hard = nn.functional.one_hot(labels, 3).float()
    ends = []
    for targets in (labels, hard):
        network = linear()
        _, events = trained(task_of(recipe_of("schedule.epochs=2"), network, (inputs, targets)))
        ends.append((weights_of(network), column(events, "accuracies")))
    torch.testing.assert_close(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
    mixed = 0.6 * hard + 0.4 * hard.roll(1, 1)
    task = task_of(
        recipe_of(), linear(), (inputs, mixed), batch=48, criterion=Loss(torch.ones(3), 0.0, 0.0)
    )
    loss, ncorrect, n, _ = loop.step(task, 0, inputs, mixed)
    logits = linear()(inputs)
    assert int(ncorrect) == int((logits.argmax(1) == labels).sum())
    expected = -(mixed * logits.log_softmax(1)).sum(1).mean()
    assert float(loss) == pytest.approx(float(expected.detach()))
    assert n == 48


def test_an_epochs_loss_is_the_mean_over_its_images():
    task = task_of(recipe_of("schedule.epochs=1"), linear(), clouds(40), batch=12)
    _, events = trained(task)
    sizes = np.array([12, 12, 12, 4])
    (epoch,) = epochs_of(events)
    assert epoch.train["loss"] == pytest.approx(np.average(column(events, "losses"), weights=sizes))
    right = np.average(column(events, "accuracies"), weights=sizes)
    assert epoch.train["accuracy"] == pytest.approx(right)


def test_every_step_is_told_once_and_in_order(monkeypatch: pytest.MonkeyPatch):
    for seconds in (0.0, 60.0):
        monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
        _, events = trained(task_of(recipe_of("schedule.epochs=3"), linear()))
        assert column(events, "steps") == list(range(1, 13))
        last = [event for event in events if isinstance(event, Progress)][-1]
        assert (last.done, last.total) == (12, 12)


def test_the_part_that_learns_is_asked_for_at_each_epoch():
    asked: list[int] = []
    trained(task_of(recipe_of("schedule.epochs=4"), linear(), thaw=asked.append))
    assert asked == [1, 2, 3, 4]


def test_what_is_thawed_later_begins_to_learn_then():
    network = nn.Sequential(linear(), linear(1, width=3))
    task = task_of(recipe_of("schedule.epochs=3"), network)
    task.thaw = lambda epoch: network[0].requires_grad_(epoch > 2)
    seen = []
    for event in loop.train(task, loop.State()):
        if isinstance(event, EpochEnded):
            seen.append(weights_of(network[0]))
    assert seen[0].equal(seen[1])
    assert seen[1].equal(seen[2])
    assert not seen[2].equal(seen[3])


# The average of the weights.


def test_the_average_is_what_is_judged_and_kept():
    recipe = recipe_of("regularization.ema=0.95", "schedule.epochs=3")
    judged = []

    def validate(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        judged.append((network, copied(network)))
        return on(clouds(30, seed=1))(network)

    task = task_of(recipe, dropping(), validate=validate)
    state, _ = trained(task)
    assert {id(network) for network, _ in judged} == {id(task.average.module)}
    assert same(state.best_weights, judged[state.best_epoch][1])
    assert not same(copied(task.average.module), copied(task.network))


def test_the_average_lies_between_the_weights_that_were():
    recipe = recipe_of("regularization.ema=0.8", "schedule.epochs=4")
    task = task_of(recipe, linear())
    seen = []
    step = task.optimizer.step
    task.optimizer.step = lambda: (step(), seen.append(weights_of(task.network)))  # type: ignore[method-assign]
    trained(task)
    found = weights_of(task.average.module)
    course = torch.stack(seen)
    assert (found >= course.min(0).values - 1e-6).all()
    assert (found <= course.max(0).values + 1e-6).all()
    # At 0.8 about the last five steps count.
    recent, early = course[-5:].mean(0), course[:5].mean(0)
    assert (found - recent).norm() < 0.3 * (found - early).norm()


# Interrupted and taken up again.


class Killed(Exception):
    """The worker is gone, just after it had written a checkpoint."""


def long_recipe(optimizer: str, schedule: str) -> tuple[str, ...]:
    return (
        f"optimizer.name={optimizer}", f"schedule.name={schedule}", "schedule.epochs=6",
        "schedule.patience=1", "schedule.factor=0.5", "regularization.ema=0.7", "finish.soup=true",
        "optimizer.l1=0.0001", "stopping.min_delta=0.1",
    )  # fmt: skip


def ends(task: loop.Task, state: loop.State) -> dict:
    """All that a training leaves."""
    return {**loop.to_checkpoint(task, state), "rates": task.optimizer.param_groups[0]["lr"]}


PAIRS = [("adamw", "plateau"), ("sgd", "plateau"), ("adam", "one_cycle"), ("rmsprop", "cosine")]
# In an epoch's first step, in its middle, after its last step but before its validation, and after.
MOMENTS = [(5, 1), (10, 2), (12, 2), (12, 3)]


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
@pytest.mark.parametrize(("step", "epoch"), MOMENTS)
def test_a_training_taken_up_again_goes_on_as_if_nothing_had_happened(
    optimizer: str, schedule: str, step: int, epoch: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    recipe = recipe_of(*long_recipe(optimizer, schedule))
    whole = task_of(recipe, dropping(), rate=0.3)
    expected, told = trained(whole)
    assert expected.plateaus or schedule != "plateau"

    def save(state: dict) -> None:
        if (state["numbers"]["step"], state["numbers"]["epoch"]) == (step, epoch):
            checkpoint.save(tmp_path, state)
            raise Killed

    interrupted, until = task_of(recipe, dropping(), rate=0.3, save=save), []
    with pytest.raises(Killed):
        for event in loop.train(interrupted, loop.State()):
            until.append(event)
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    again = task_of(recipe, dropping(seed=7), rate=0.3)
    asked: list[int] = []
    again.thaw = asked.append
    state, since = trained(again, loop.from_checkpoint(again, saved))
    assert same(ends(again, state), ends(whole, expected))
    assert asked == list(range(epoch + 1, 7))
    assert column(until, "steps") + column(since, "steps") == list(range(1, 25))
    assert column(until + since, "losses") == column(told, "losses")
    figures = [(e.epoch, e.val, e.train, e.learning_rate, e.best) for e in epochs_of(told)]
    assert figures[epoch:] == [
        (e.epoch, e.val, e.train, e.learning_rate, e.best) for e in epochs_of(since)
    ]


def test_a_training_that_had_ended_early_stays_ended(tmp_path: Path):
    recipe = recipe_of("stopping.patience=2", "schedule.epochs=9")
    task = task_of(recipe, linear(), validate=saying(0.1, *[0.5] * 9))
    task.save = lambda state: checkpoint.save(tmp_path, state)
    trained(task)
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    again = task_of(recipe, linear(), validate=saying())
    state, events = trained(again, loop.from_checkpoint(again, saved))
    assert (state.epoch, column(events, "steps")) == (2, [])


def test_a_full_disk_is_told_and_training_goes_on():
    def save(state: dict) -> None:
        raise MachineRefused("The disk is full.", "Make room.")

    state, events = trained(task_of(recipe_of("schedule.epochs=2"), linear(), save=save))
    assert state.epoch == 2
    assert [note.level for note in notes_of(events)] == ["warning"] * 2
    assert "The disk is full." in notes_of(events)[0].text


def test_an_epoch_is_on_the_disk_before_it_is_told():
    saved: list[int] = []
    task = task_of(recipe_of("schedule.epochs=3"), linear())
    task.save = lambda state: saved.append(state["numbers"]["epoch"])
    for event in loop.train(task, loop.State()):
        if isinstance(event, EpochEnded) and event.epoch:
            assert saved[-1] == event.epoch


def test_a_checkpoint_for_which_the_disk_has_no_room_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint.save(tmp_path, {"number": 1})
    before = sorted(tmp_path.iterdir())
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no device that is always full")
    open_ = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r": open_(full if "wb" in mode else path, mode)
    )
    with pytest.raises(MachineRefused):
        checkpoint.save(tmp_path, {"weights": torch.zeros(1_000_000)})
    monkeypatch.undo()
    assert sorted(tmp_path.iterdir()) == before
    assert checkpoint.load(tmp_path)["number"] == 1


def test_of_checkpoints_the_newest_undamaged_one_is_read(tmp_path: Path):
    for number in range(4):
        checkpoint.save(tmp_path, {"number": number, "weights": torch.full((3,), float(number))})
    former, newest = sorted(tmp_path.glob("*.pt"))
    assert checkpoint.load(tmp_path)["number"] == 3
    newest.write_bytes(newest.read_bytes()[:-9])
    assert checkpoint.load(tmp_path)["number"] == 2
    former.write_bytes(b"")
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, {"number": 9})
    assert checkpoint.load(tmp_path)["number"] == 9
    checkpoint.clear(tmp_path)
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "nowhere") is None


# Plateaus.


def rates_by_epoch(*losses: float, patience: int) -> list[float]:
    """The rate of each epoch, of a base rate of 1, after validations with these losses."""
    recipe = recipe_of(
        "schedule.name=plateau", f"schedule.patience={patience}", "schedule.factor=0.5",
        "schedule.warmup=0", f"schedule.epochs={len(losses) - 1}", "optimizer.name=sgd",
    )  # fmt: skip
    task = task_of(recipe, linear(), validate=saying(*losses), rate=1.0)
    _, events = trained(task)
    steps = np.reshape(column(events, "rates"), (-1, 4))
    assert (steps == steps[:, :1]).all()
    assert [epoch.learning_rate for epoch in epochs_of(events)] == list(steps[:, 0])
    return [float(rate) for rate in steps[:, 0]]


def test_the_rate_falls_after_so_many_epochs_without_a_better_one_and_again_after_as_many():
    assert rates_by_epoch(*[0.5] * 8, patience=1) == [
        1,
        1 / 2,
        1 / 4,
        1 / 8,
        1 / 16,
        1 / 32,
        1 / 64,
    ]
    assert rates_by_epoch(*[0.5] * 8, patience=2) == [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8]
    assert rates_by_epoch(*[0.5] * 8, patience=3) == [1, 1, 1, 1 / 2, 1 / 2, 1 / 2, 1 / 4]


def test_a_better_epoch_puts_the_fall_off():
    assert rates_by_epoch(0.9, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, patience=2) == [1, 1, 1, 1, 0.5, 0.5]
    assert rates_by_epoch(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, patience=1) == [1] * 5


# What else is told.


class Slow(nn.Module):
    """A network whose every pass takes a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.layer, self.seconds = linear(), seconds

    def forward(self, inputs: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.layer(inputs)


def waiting(batch: float, passing: float, validating: float = 0.0) -> list[float]:
    """Shares of the time waited for batches that take so many seconds, network and validation."""
    inputs, labels = clouds(24)

    def batches(epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(first, 2):
            time.sleep(batch)
            yield inputs, labels

    def validate(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(validating)
        return np.eye(2, dtype=np.float32), np.arange(2)

    recipe = recipe_of("schedule.epochs=2")
    task = task_of(recipe, Slow(passing), (inputs, labels), batches=batches, validate=validate)
    _, events = trained(task)
    return [event.waiting for event in events if isinstance(event, Progress)]


def test_waiting_for_slow_batches_is_told_from_slow_steps():
    assert min(waiting(batch=0.1, passing=0.0)) > 0.6
    assert max(waiting(batch=0.0, passing=0.1)) < 0.4


def test_the_time_of_validation_is_no_part_of_the_pace():
    assert min(waiting(batch=0.1, passing=0.0, validating=0.3)) > 0.5


def test_classes_that_no_image_is_given_are_named():
    validate = answering([[1.0, 0.0, 0.0, 0.0]] * 3, [[0.0, 1.0, 0.0, 0.0]] * 3, labels=[0, 1, 2])
    _, events = trained(task_of(recipe_of("schedule.epochs=1"), linear(), validate=validate))
    # The fourth class has no image to be given.
    assert [e.never_predicted for e in events if isinstance(e, EpochEnded)] == [[1, 2], [0, 2]]


# Soups.


def one(value: float) -> dict[str, Tensor]:
    return {"weight": torch.tensor([value, 0.0]), "counter": torch.tensor(int(value))}


def test_an_average_is_exact_and_counters_stay_whole():
    found = averaged([one(1.0), one(2.0), one(6.0)])
    assert found["weight"].equal(torch.tensor([3.0, 0.0]))
    assert found["counter"].equal(torch.tensor(1))
    assert same(averaged([one(0.1)]), one(0.1))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_a_soup_keeps_the_best_epochs_and_drops_the_worst(values: list[int]):
    soup = Soup()
    for epoch, value in enumerate(values):
        soup.add(float(value), epoch, one(epoch))
    assert len(soup.values) == min(MOST, len(values))
    assert sorted(soup.values) == sorted(values)[-MOST:]
    assert soup.values == [values[epoch] for epoch in soup.epochs]
    assert all(same(w, one(epoch)) for w, epoch in zip(soup.weights, soup.epochs, strict=True))


@given(
    places=st.lists(st.floats(-3, 3), min_size=1, max_size=8),
    slope=st.floats(-2, 2), wave=st.floats(0, 9),
)  # fmt: skip
def test_a_soup_is_never_worse_than_its_best_epoch(places: list[float], slope: float, wave: float):
    def value_of(weights: dict[str, Tensor]) -> float:
        x = float(weights["weight"][0])
        return slope * x - x * x + math.cos(wave * x)

    soup = Soup()
    for epoch, place in enumerate(places):
        soup.add(value_of(one(place)), epoch, one(place))
    mean, epochs = soup.stirred(value_of)
    best = max(soup.values)
    assert value_of(mean) >= best
    assert any(places[epoch] == places[soup.epochs[soup.values.index(best)]] for epoch in epochs)
    chosen = torch.tensor([places[epoch] for epoch in epochs])
    assert float(mean["weight"][0]) == pytest.approx(float(chosen.mean()), abs=1e-5)


def test_epochs_on_two_sides_of_the_best_place_are_averaged_and_a_far_one_is_left_out():
    soup = Soup()
    for epoch, place in enumerate([-1.0, 1.0, 9.0]):
        soup.add(-abs(place), epoch, one(place))
    mean, epochs = soup.stirred(lambda weights: -abs(float(weights["weight"][0])))
    assert float(mean["weight"][0]) == 0.0
    assert epochs == [0, 1]


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_after_training_the_soup_is_kept_where_validation_agrees(ema: float):
    recipe = recipe_of("finish.soup=true", "schedule.epochs=8", f"regularization.ema={ema}",
                       "schedule.name=constant")  # fmt: skip
    task = task_of(recipe, dropping(), rate=0.3)
    state, _ = trained(task)
    best = state.best_value
    assert best == max(state.soup.values)
    (note,) = notes_of(list(loop.souped(task, state)))
    assert loop.value_with(task, state.best_weights) >= best
    assert state.best_weights["1.num_batches_tracked"].dtype == torch.int64
    assert f"{MOST} were tried" in note.text
    task.network.load_state_dict(state.best_weights)
