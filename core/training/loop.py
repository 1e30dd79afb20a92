"""The training loop: one step function for heads and networks, every optimizer and precision.

`train` is a generator of events; whoever iterates decides when to stop. All randomness of a step
comes from (seed, step), so that a run taken up again from a checkpoint goes on as if it had never
been interrupted.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core.errors import HeadstartError
from core.evaluation.calibration import mean_loss
from core.evaluation.metrics import confusion, macro_of_counts
from core.machine import memory_mb
from core.training.events import EpochEnded, Event, Note, Progress
from core.training.optim import Plain, Schedule

SECONDS_BETWEEN_REPORTS, MOST_SECONDS_BETWEEN_REPORTS = 0.5, 10.0
SECONDS_BETWEEN_CHECKPOINTS = 60.0
# What is better: a lower loss, a higher share.
SIGNS = {"val_loss": -1.0, "val_accuracy": 1.0, "val_macro_f1": 1.0}
Batches = Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]


@dataclass
class Task:
    """One training: what learns, from what, how, and when it stops.

    batches(epoch, first): the batches of an epoch from number `first` on, as (inputs, labels).
    validate(): logits N×C float32 and labels N int64 of the validation images.
    mode(): puts the network into training mode, as the technique wants it.
    save(state): writes a checkpoint.
    """

    phase: str
    network: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    hands: Plain  # or accelerate's Accelerator, which has the same methods
    criterion: nn.Module
    batches: Batches
    validate: Callable[[], tuple[np.ndarray, np.ndarray]]
    mode: Callable[[], object]
    save: Callable[[dict[str, Any]], None]
    steps_per_epoch: int
    images: int
    epochs: int
    patience: int
    metric: str
    clip: float
    seed: int


@dataclass
class State:
    """Where a training stands between two steps; all that a checkpoint holds beside tensors."""

    epoch: int = 0  # epochs ended
    step: int = 0  # steps taken
    best_epoch: int = -1
    best_value: float = -math.inf
    loss_sum: float = 0.0  # of the epoch under way
    ncorrect: int = 0
    nseen: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def to_checkpoint(task: Task, state: State) -> dict[str, Any]:
    """Everything that `from_checkpoint` needs to go on."""
    scaler = getattr(task.hands, "scaler", None)
    numbers = {k: v for k, v in vars(state).items() if k != "best_weights"}
    return {
        "numbers": numbers,
        "best_weights": state.best_weights,
        "network": task.network.state_dict(),
        "optimizer": task.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler else {},
    }


def from_checkpoint(task: Task, saved: dict[str, Any]) -> State:
    """Bring network, optimizer and scaler to where the checkpoint was written."""
    task.network.load_state_dict(saved["network"])
    task.optimizer.load_state_dict(saved["optimizer"])
    scaler = getattr(task.hands, "scaler", None)
    if scaler and saved["scaler"]:
        scaler.load_state_dict(saved["scaler"])
    return State(**saved["numbers"], best_weights=saved["best_weights"])


def train(task: Task, state: State) -> Iterator[Event]:
    """Train from `state` on; at the end, or whenever iteration stops, `state` holds the best."""
    if state.best_epoch < 0:
        # Epoch 0 counts too: on a frozen backbone it is often already the best.
        yield validated(task, state, {}, 0.0)
    report = Report(task, state)
    saved_at = time.monotonic()
    for epoch in range(state.epoch + 1, task.epochs + 1):
        if task.patience and state.epoch - state.best_epoch >= task.patience:
            yield Note(f"Stopped early: no better epoch in the last {task.patience}.")
            return
        started = time.monotonic()
        for inputs, labels in task.batches(epoch, state.step - (epoch - 1) * task.steps_per_epoch):
            report.add(*step(task, state.step, inputs, labels))
            state.step += 1
            if report.due() or state.step == epoch * task.steps_per_epoch:
                yield report.flush(epoch)
                if not math.isfinite(state.loss_sum):
                    yield lost(state, epoch)
                    return
            if time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS:
                report.settle()
                yield from kept(task, state)
                saved_at = time.monotonic()
        figures = {"loss": state.loss_sum / state.nseen, "accuracy": state.ncorrect / state.nseen}
        state.loss_sum, state.ncorrect, state.nseen, state.epoch = 0.0, 0, 0, epoch
        ended = validated(task, state, figures, time.monotonic() - started)
        # Saved before it is told, so that whoever reads of an epoch can rely on it.
        yield from kept(task, state)
        saved_at = time.monotonic()
        yield ended


def step(
    task: Task, number: int, inputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, int, float]:
    """One step downhill: mean loss and number of correct images (on the device), n, rate."""
    torch.manual_seed(task.seed * 1_000_003 + number)
    task.mode()
    rate = task.schedule.apply(task.optimizer, number)
    with task.hands.autocast():
        logits = task.network(inputs)
    loss = task.criterion(logits.float(), labels)
    task.optimizer.zero_grad(set_to_none=True)
    task.hands.backward(loss)
    if task.clip:
        task.hands.clip_grad_norm_(task.network.parameters(), task.clip)
    task.optimizer.step()
    ncorrect = (logits.detach().argmax(dim=1) == labels).sum()
    return loss.detach(), ncorrect, len(labels), rate


def validated(task: Task, state: State, train: dict[str, float], seconds: float) -> EpochEnded:
    """Measure the network on the validation images and keep its weights if it is the best."""
    task.network.eval()
    logits, labels = task.validate()
    counts = confusion(labels, logits.argmax(axis=1), logits.shape[1])
    figures = {
        "loss": mean_loss(logits, labels),
        "accuracy": float(np.trace(counts) / counts.sum()),
        "macro_f1": macro_of_counts(counts),
    }
    value = SIGNS[task.metric] * figures[task.metric.removeprefix("val_")]
    best = value > state.best_value or state.best_epoch < 0
    if best:
        state.best_value, state.best_epoch = value, state.epoch
        state.best_weights = copy.deepcopy(
            {key: tensor.cpu() for key, tensor in task.network.state_dict().items()}
        )
    last_step = max(0, state.step - 1)
    return EpochEnded(
        task.phase, state.epoch, task.epochs, state.step, figures, train,
        task.schedule.at(last_step), seconds, best,
    )  # fmt: skip


def kept(task: Task, state: State) -> Iterator[Event]:
    """Write a checkpoint; a full disk is told and does not end the training."""
    try:
        task.save(to_checkpoint(task, state))
    except HeadstartError as error:
        yield Note(f"No checkpoint was written: {error}", "warning")


def lost(state: State, epoch: int) -> Note:
    """What to say when the loss is no number any more."""
    return Note(
        f"The loss stopped being a number in epoch {epoch}, step {state.step}, and training was "
        f"ended; epoch {state.best_epoch} is kept. Try a tenth of the learning rate.",
        "warning",
    )


class Report:
    """Gathers what steps yield and reads it from the device now and then: each read is a wait."""

    def __init__(self, task: Task, state: State) -> None:
        self.task, self.state = task, state
        self.waiting: list[tuple[Tensor, Tensor, int, float]] = []
        self.done: list[tuple[int, float, float, float]] = []
        self.began = time.monotonic()
        self.nseen = 0
        self.since = time.monotonic()

    def add(self, loss: Tensor, ncorrect: Tensor, n: int, rate: float) -> None:
        """Remember one step."""
        self.waiting.append((loss, ncorrect, n, rate))

    def due(self) -> bool:
        """Whether it is time to tell: often at first, seldom in a training of days."""
        now = time.monotonic()
        pause = min(
            MOST_SECONDS_BETWEEN_REPORTS, max(SECONDS_BETWEEN_REPORTS, (now - self.began) / 100)
        )
        return now - self.since > pause

    def settle(self) -> None:
        """Bring the sums of the epoch up to date."""
        first = self.state.step - len(self.waiting)
        for number, (loss, ncorrect, n, rate) in enumerate(self.waiting, first + 1):
            value = float(loss)
            self.state.loss_sum += value * n
            self.state.ncorrect += int(ncorrect)
            self.state.nseen += n
            self.nseen += n
            self.done.append((number, value, int(ncorrect) / n, rate))
        self.waiting = []

    def flush(self, epoch: int) -> Progress:
        """The event that tells of all steps since the last one."""
        self.settle()
        seconds = time.monotonic() - self.since
        columns = list(zip(*self.done, strict=True)) or [(), (), (), ()]
        event = Progress(
            self.task.phase,
            self.state.step,
            self.task.epochs * self.task.steps_per_epoch,
            self.nseen / max(seconds, 1e-9),
            memory_mb(),
            epoch,
            list(columns[0]),
            list(columns[1]),
            list(columns[2]),
            list(columns[3]),
        )
        self.done, self.nseen, self.since = [], 0, time.monotonic()
        return event
