"""The learning-rate range test (Smith 2017): a rising rate shows where learning stops paying.

Data flow: task -> some steps at rates from tiny to absurd -> the loss at each -> one rate; the
network, its average and the optimizer are then as they were.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
from collections.abc import Callable, Generator
from dataclasses import replace

from torch import Tensor

from core.training import loop
from core.training.events import Event, Note
from core.training.optim import Schedule, Shape

STEPS = 60
# Relative to the rate that `auto` would take: wide enough for any backbone and optimizer.
LOWEST, HIGHEST = 1e-3, 1e3
# The loss jumps from batch to batch; a running mean over about so many steps shows its course.
MEMORY = 5
# A loss so many times the least one (or this floor) says that all higher rates are worse.
HOPELESS, FLOOR = 4.0, 0.25
# Losses this near the least one, in proportion and in nats, are as good: of those rates, the
# highest counts. After a linear probe the loss is flat over all small rates.
NEARLY, NEARLY_NATS = 1.05, 0.01
# So many first steps, at rates that change nothing yet, show the level and how much batches differ.
QUIET = 10
# The rate with the least loss is already on the edge; a tenth of it is the usual choice.
SAFETY = 10.0
# Epoch numbers no training reaches, so that the test sees other random versions of the images.
FIRST_EPOCH = 1_000_000


def find(task: loop.Task, stop: Callable[[], bool]) -> Generator[Event, None, float]:
    """Tell of each step as of training; the rate to train with comes back.

    stop: when it says yes, what was seen so far decides.
    """
    average = task.average.module if task.average else task.network
    scaler = getattr(task.hands, "scaler", None)
    touched = [task.network, average, task.optimizer, *([scaler] if scaler else [])]
    before = [copy.deepcopy(one.state_dict()) for one in touched]
    schedule = task.schedule
    growth = HIGHEST / LOWEST
    rising = Shape(lambda progress: LOWEST * growth**progress)
    task.schedule = Schedule(rising, STEPS, 0, schedule.rate)
    state = loop.State()
    report = loop.Report(task, state)
    losses, rates = [], []
    for inputs, targets in itertools.islice(endless(task), STEPS):
        loss, ncorrect, n, rate = loop.step(task, state.step, inputs, targets)
        report.add(loss, ncorrect, n, rate)
        state.step += 1
        losses.append(float(loss))
        rates.append(rate)
        if report.due():
            yield told(report)
        course = smoothed(losses)
        if task.team.told(stop()) or not course[-1] < HOPELESS * max(min(course), FLOOR):
            break
    yield told(report)
    task.schedule = schedule
    for one, former in zip(touched, before, strict=True):
        one.load_state_dict(former)
    found = float(f"{chosen(losses, rates):.2g}")
    yield Note(
        f"The range test chose a learning rate of {found:.2g}.",
        kind="rate_found",
        change={"optimizer.learning_rate": found},
    )
    return found


def told(report: loop.Report) -> Event:
    """The steps so far, as steps of this phase."""
    event = report.flush(0)
    return replace(event, phase="find", total=STEPS)


def endless(task: loop.Task) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Batches of one epoch after another."""
    for epoch in itertools.count(FIRST_EPOCH):
        yield from task.batches(epoch, 0)


def smoothed(losses: list[float]) -> list[float]:
    """A running mean of losses, one for each."""
    course, mean = [], sum(losses[:MEMORY]) / len(losses[:MEMORY])
    for loss in losses:
        mean += (loss - mean) / MEMORY
        course.append(mean)
    return course


def chosen(losses: list[float], rates: list[float]) -> float:
    """A tenth of the highest rate whose smoothed loss is about the least.

    Where no rate brings the loss below its first level by more than batches differ, as after a
    linear probe, a tenth of the highest rate that leaves it there.
    """
    losses = list(itertools.takewhile(math.isfinite, losses))
    if not losses:
        return rates[0] / SAFETY
    course = smoothed(losses)
    quiet = losses[:QUIET]
    level = sum(quiet) / len(quiet)
    wobble = statistics.pstdev(quiet) / math.sqrt(MEMORY)
    fallen = min(course) < level - 2 * wobble
    enough = NEARLY * min(course) + NEARLY_NATS if fallen else level + wobble + NEARLY_NATS
    best = max(rate for rate, loss in zip(rates, course, strict=False) if loss <= enough)
    return best / SAFETY
