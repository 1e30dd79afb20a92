"""The training loop: one step function for heads and networks, every optimizer and precision.

`train` is a generator of events; whoever iterates decides when to stop. All randomness of a step
comes from (seed, step), so that a run taken up again from a checkpoint goes on as if it had never
been interrupted.
"""

from __future__ import annotations

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
from core.evaluation import counts as counting
from core.evaluation.calibration import mean_loss
from core.evaluation.metrics import confusion
from core.machine import memory_mb
from core.schema import Recipe
from core.training.events import EpochEnded, Event, Note, Progress
from core.training.optim import Plain, Schedule, absolute_sum
from core.training.soup import Soup, Weights, copied
from core.training.team import ALONE, Team

SECONDS_BETWEEN_REPORTS, MOST_SECONDS_BETWEEN_REPORTS = 0.5, 10.0
SECONDS_BETWEEN_CHECKPOINTS = 60.0
SMALLEST_SHARE = 2
# What is better: a lower loss, a higher share.
SIGNS = {"val_loss": -1.0, "val_accuracy": 1.0, "val_macro_f1": 1.0}
Batches = Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]


@dataclass
class Task:
    """One training: what learns, from what, how, and when it stops.

    batches(epoch, first): the batches of an epoch from number `first` on, as (inputs, targets);
    targets are class numbers, B int64, or shares of classes, B×C float.
    validate(network): logits N×C float32 and labels N int64 of the validation images.
    thaw(epoch): lets that part of the network learn which learns in an epoch.
    mode(): puts the network into training mode, as the technique wants it.
    save(state): writes a checkpoint.
    """

    phase: str
    recipe: Recipe
    network: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    hands: Plain  # or accelerate's Accelerator, which has the same methods
    criterion: nn.Module
    batches: Batches
    validate: Callable[[nn.Module], tuple[np.ndarray, np.ndarray]]
    thaw: Callable[[int], object]
    mode: Callable[[], object]
    save: Callable[[dict[str, Any]], None]
    steps_per_epoch: int
    images: int
    epochs: int
    team: Team = ALONE
    average: Any = None  # timm's ModelEmaV3, where the recipe wants one

    def __post_init__(self) -> None:
        decay = self.recipe.regularization.ema
        if decay:
            from timm.utils import ModelEmaV3

            self.average = ModelEmaV3(self.network, decay=decay, use_warmup=True)

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the averaged one, if there is one."""
        found: nn.Module = self.average.module if self.average else self.network
        return found


@dataclass
class State:
    """Where a training stands between two steps; all that a checkpoint holds beside tensors."""

    epoch: int = 0  # epochs ended
    step: int = 0  # steps taken
    best_epoch: int = -1
    best_value: float = -math.inf
    plateaus: int = 0
    fallen_at: int = 0  # epoch of the last plateau
    loss_sum: float = 0.0  # of the epoch under way
    ncorrect: int = 0
    nseen: int = 0
    best_weights: Weights = field(default_factory=dict)
    soup: Soup = field(default_factory=Soup)


def to_checkpoint(task: Task, state: State) -> dict[str, Any]:
    """Everything that `from_checkpoint` needs to go on."""
    scaler = getattr(task.hands, "scaler", None)
    numbers = {k: v for k, v in vars(state).items() if k not in ("best_weights", "soup")}
    return {
        "numbers": numbers,
        "best_weights": state.best_weights,
        "soup": vars(state.soup),
        "network": task.network.state_dict(),
        "average": task.average.module.state_dict() if task.average else {},
        "optimizer": task.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler else {},
    }


def from_checkpoint(task: Task, saved: dict[str, Any]) -> State:
    """Bring network, optimizer and scaler to where the checkpoint was written."""
    task.network.load_state_dict(saved["network"])
    task.optimizer.load_state_dict(saved["optimizer"])
    if task.average:
        task.average.module.load_state_dict(saved["average"])
    scaler = getattr(task.hands, "scaler", None)
    if scaler and saved["scaler"]:
        scaler.load_state_dict(saved["scaler"])
    soup = Soup(**saved["soup"])
    return State(**saved["numbers"], best_weights=saved["best_weights"], soup=soup)


def train(task: Task, state: State) -> Iterator[Event]:
    """Train from `state` on; at the end, or whenever iteration stops, `state` holds the best."""
    if state.best_epoch < 0:
        # Epoch 0 counts too: on a frozen backbone it is often already the best.
        yield validated(task, state, {}, 0.0)
    report = Report(task, state)
    saved_at = time.monotonic()
    patience = task.recipe.stopping.patience
    for epoch in range(state.epoch + 1, task.epochs + 1):
        if patience and state.epoch - state.best_epoch >= patience:
            yield Note(f"Stopped early: no better epoch in the last {patience}.")
            return
        task.thaw(epoch)
        # What validation took is no part of the pace of training.
        started = report.since = time.monotonic()
        batches = task.batches(epoch, state.step - (epoch - 1) * task.steps_per_epoch)
        for inputs, targets in report.timed(batches):
            report.add(*step(task, state.step, inputs, targets, state.plateaus))
            state.step += 1
            # One clock decides for all processes.
            saving, due = task.team.told(
                (time.monotonic() - saved_at > SECONDS_BETWEEN_CHECKPOINTS, report.due())
            )
            if saving or due or state.step == epoch * task.steps_per_epoch:
                yield report.flush(epoch)
                report.since = time.monotonic()  # Nor is what a reader of the event does.
                if not math.isfinite(state.loss_sum):
                    yield lost(task, state, epoch)
                    return
            if saving:
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
    task: Task, number: int, inputs: Tensor, targets: Tensor, plateaus: int = 0
) -> tuple[Tensor, Tensor, int, float]:
    """One step downhill: mean loss and number of correct images (on the device), n, rate.

    With `compute.accumulate` the batch passes in as many pieces, whose gradients add up. inputs,
    targets: of several processes the share of this one, which may be empty.
    """
    settings = task.recipe
    # Of several processes each hides other features at random.
    seed_all((settings.seed * 1_000_003 + number) * task.team.size + task.team.rank)
    task.mode()
    if task.team.size > 1 and len(inputs) < SMALLEST_SHARE:
        task.network.eval()  # One image has no statistics of its own.
    rate = task.schedule.apply(task.optimizer, number, plateaus)
    task.optimizer.zero_grad(set_to_none=True)
    pieces = max(1, min(settings.compute.accumulate, len(inputs) // 2))
    blank = torch.zeros((), device=inputs.device)
    losses, ncorrect = [blank], [blank]
    # Pieces of nearly one size: batch norm cannot take an image alone.
    cut = zip(inputs.tensor_split(pieces), targets.tensor_split(pieces), strict=True)
    for piece, wanted in cut if len(inputs) else ():
        with task.hands.autocast():
            logits = task.network(piece)
        loss = task.criterion(logits.float(), wanted) * (len(piece) / len(inputs))
        task.hands.backward(loss)
        losses.append(loss.detach())
        truth = wanted if wanted.ndim == 1 else wanted.argmax(dim=1)
        ncorrect.append((logits.detach().argmax(dim=1) == truth).sum())
    if settings.optimizer.l1:
        task.hands.backward(settings.optimizer.l1 * absolute_sum(task.optimizer))
    loss, right, n = task.team.joined(
        task.network.parameters(), torch.stack(losses).sum(), torch.stack(ncorrect).sum(),
        len(inputs),
    )  # fmt: skip
    if settings.optimizer.clip:
        task.hands.clip_grad_norm_(task.network.parameters(), settings.optimizer.clip)
    task.optimizer.step()
    if task.average:
        task.average.update(task.network, step=number)
    return loss, right, n, rate


def seed_all(seed: int) -> None:
    """Begin all randomness of torch anew, as `torch.manual_seed` does.

    That one notes for each device which is not in use where it was called from, which takes 2 ms:
    as long as a step of a head.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def validated(task: Task, state: State, train: dict[str, float], seconds: float) -> EpochEnded:
    """Measure the network on the validation images and keep its weights if it is the best."""
    figures, counts = measured(task)
    value = value_of(task.recipe, figures)
    best = value > state.best_value + task.recipe.stopping.min_delta or state.best_epoch < 0
    if best:
        state.best_value, state.best_epoch = value, state.epoch
        state.best_weights = copied(task.judged)
    if task.recipe.finish.soup:
        state.soup.add(value, state.epoch, copied(task.judged))
    rate = task.schedule.at(max(0, state.step - 1), state.plateaus)
    patience = task.schedule.patience
    if patience and state.epoch - max(state.best_epoch, state.fallen_at) >= patience:
        state.plateaus, state.fallen_at = state.plateaus + 1, state.epoch
    return EpochEnded(
        task.phase, state.epoch, task.epochs, state.step, figures, train, rate, seconds, best,
        never_predicted=never_predicted(counts),
    )  # fmt: skip


def never_predicted(counts: np.ndarray) -> list[int]:
    """Classes that a confusion matrix C×C has images of and that no image was given."""
    return [int(k) for k in np.nonzero((counts.sum(1) > 0) & (counts.sum(0) == 0))[0]]


def measured(task: Task) -> tuple[dict[str, float], np.ndarray]:
    """What the network is judged by on the validation images, and its confusion matrix C×C."""
    task.judged.eval()
    return judged(*task.validate(task.judged))


def judged(logits: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Loss, accuracy and macro-F1 of logits N×C, and their confusion matrix C×C."""
    counts = confusion(labels, logits.argmax(axis=1), logits.shape[1])
    figures = {
        "loss": mean_loss(logits, labels),
        "accuracy": float(np.trace(counts) / counts.sum()),
        "macro_f1": float(counting.MACRO_F1(counting.of(counts))),
    }
    return figures, counts


def value_of(recipe: Recipe, figures: dict[str, float]) -> float:
    """The figure that decides which epoch is the best; higher is better.

    Logits that are no numbers name a class all the same, and may name the right one by chance.
    """
    if not math.isfinite(figures["loss"]):
        return -math.inf
    metric = recipe.stopping.metric
    return SIGNS[metric] * figures[metric.removeprefix("val_")]


def souped(task: Task, state: State) -> Iterator[Event]:
    """Put the average of the best epochs, as far as validation agrees, in the best one's place."""
    state.best_weights, epochs = state.soup.stirred(lambda weights: value_with(task, weights))
    yield Note(
        f"The weights that are kept are the average of epochs {', '.join(map(str, epochs))}; "
        f"{len(state.soup.values)} were tried."
    )


def value_with(task: Task, weights: Weights) -> float:
    """How good the network is with these weights; higher is better."""
    task.judged.load_state_dict(weights)
    figures, _ = measured(task)
    return value_of(task.recipe, figures)


def kept(task: Task, state: State) -> Iterator[Event]:
    """Write a checkpoint; a full disk is told and does not end the training."""
    try:
        task.save(to_checkpoint(task, state))
    except HeadstartError as error:
        yield Note(f"No checkpoint was written: {error}", "warning")


def lost(task: Task, state: State, epoch: int) -> Note:
    """What to say when the loss is no number any more."""
    return Note(
        f"The loss stopped being a number in epoch {epoch}, step {state.step}, and training was "
        f"ended; epoch {state.best_epoch} is kept. Try a tenth of the learning rate.",
        "warning",
        kind="rate_too_high",
        change={"optimizer.learning_rate": float(f"{task.schedule.rate / 10:.1g}")},
    )


class Report:
    """Gathers what steps yield and reads it from the device now and then: each read is a wait."""

    def __init__(self, task: Task, state: State) -> None:
        self.task, self.state = task, state
        self.waiting: list[tuple[Tensor, Tensor, int, float]] = []
        self.done: list[tuple[int, float, float, float]] = []
        self.began = time.monotonic()
        self.nseen = 0
        self.waited = 0.0
        self.since = time.monotonic()

    def timed(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, the time counted that passes until each is there."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

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
            waiting=min(1.0, self.waited / max(seconds, 1e-9)),
        )
        self.done, self.nseen, self.waited, self.since = [], 0, 0.0, time.monotonic()
        return event
