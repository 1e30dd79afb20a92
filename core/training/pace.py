"""In which number format this machine trains faster, and whether a training keeps that promise.

What the device cannot do is never tried. What is left is measured by a few steps in turns, and kept
for each backbone, size, batch and device unless the machine was busy, so that the choice, and with
it the result of a recipe, stays the same. A training that falls far short of what was measured
measures again, goes on in the faster format, and corrects what was kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from core import timing
from core.models import device as devices
from core.training import batching, loop, optim
from core.training.events import Event, Note, Progress
from core.training.work import Work

# Images in a measured step, at most. One image alone has no statistics for batch norm.
MOST_IMAGES, FEWEST_IMAGES = 8, 2
PLAIN = "fp32"
# Another format than the one at hand must be faster by so much: less may be chance.
CLEARLY = 1.1
# A training at less than this share of the measured pace was promised something wrong.
TOO_SLOW = 0.5
# What a training is judged by: so many steps, of so many seconds, after its first report.
STEPS_SEEN, SECONDS_SEEN = 3, 2.0
# On a machine that stays busy, the training is judged by ten times as many seconds each time.
MOST_TRIES, GROWTH = 3, 10.0
Find = Generator[Event, None, float]


def formats_of(device: torch.device) -> dict[str, torch.dtype]:
    """The number formats of training steps that a device has itself."""
    return {PLAIN: torch.float32} | ({"bf16": torch.bfloat16} if devices.has_bf16(device) else {})


@dataclass(frozen=True)
class Pace:
    """Images a second of training steps by number format; empty where there is no choice.

    busy: whether others had the machine meanwhile.
    """

    training: dict[str, float] = field(default_factory=dict)
    busy: bool = False

    @property
    def precision(self) -> str:
        """The number format to train in."""
        return self.choice_over(PLAIN)

    def choice_over(self, precision: str) -> str:
        """The format that is clearly faster than this one; else this one, if the device has it."""
        fastest = max(self.training, key=self.training.__getitem__, default=PLAIN)
        known = precision in self.training
        if known and self.training[fastest] < CLEARLY * self.training[precision]:
            return precision
        return fastest

    def in_words(self) -> str:
        """The rates, as a note says them."""
        rates = sorted(self.training.items(), key=lambda one: -one[1])
        return ", ".join(f"{name} {rate:.3g}" for name, rate in rates)


@dataclass(frozen=True)
class Steps:
    """The training steps that are measured: a network, by name, on batches of size×size images."""

    network: nn.Module
    name: str
    size: int
    batch: int
    device: torch.device

    @property
    def kept(self) -> timing.KeptAnswer:
        """Where their pace is kept."""
        device = (str(self.device), devices.title(self.device), torch.__version__)
        return timing.KeptAnswer(
            "training", (self.name, self.size, self.batch, *device, torch.get_num_threads())
        )


def measure(steps: Steps) -> Pace:
    """The pace of training steps; measured at most once on a machine that is not busy."""
    formats = formats_of(steps.device)
    if len(formats) == 1:
        return Pace()
    answer = (steps.kept.load() or {}).get("training")
    if isinstance(answer, dict) and set(answer) == set(formats):
        return Pace(answer)
    return measure_anew(steps)


def measure_anew(steps: Steps) -> Pace:
    """The pace as it is now; it is kept in place of the former one if the machine is not busy."""
    formats = formats_of(steps.device)
    if len(formats) == 1:
        return Pace()
    trained = copy.deepcopy(steps.network).train().requires_grad_(True).to(steps.device)
    trained = trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = torch.rand(steps.batch, 3, steps.size, steps.size, device=steps.device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)

    def step(kind: torch.dtype) -> None:
        trained.zero_grad(set_to_none=True)
        with torch.autocast(steps.device.type, dtype=kind, enabled=kind is not torch.float32):
            loss = trained(inputs).float().square().mean()
        loss.backward()
        if steps.device.type == "cuda":
            torch.cuda.synchronize(steps.device)

    timings = timing.compare(
        {name: partial(step, kind) for name, kind in formats.items()}, torch.get_num_threads()
    )
    training = {name: steps.batch / max(timings.typical(name), 1e-9) for name in formats}
    if not timings.busy:
        steps.kept.save({"training": training})
    return Pace(training, timings.busy)


def measure_again(steps: Steps, precision: str) -> Pace | None:
    """The pace as it is now, for a training in this format; None where the memory has no room.

    What was kept is corrected; what a busy machine contradicts is forgotten.
    """
    try:
        found = measure_anew(steps)
    except (RuntimeError, MemoryError) as error:
        if not batching.is_out_of_memory(error):
            raise
        return None
    finally:
        batching.forget(steps.device)
    if found.busy and found.choice_over(precision) != precision:
        steps.kept.forget()
    return found


@dataclass
class Watch:
    """The number format of a training, and the pace that it was chosen for.

    steps: what to measure again; None where the recipe names the format. promised: images a second
    of one process; infinite where nobody knows any more, so that the first look measures again.
    """

    precision: str
    steps: Steps | None = None
    promised: float = 0.0
    tries: int = MOST_TRIES
    warm: bool = False
    seen: list[tuple[int, float]] = field(default_factory=list)  # steps, seconds of each report

    @property
    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"precision": self.precision, "promised": self.promised}

    def look(self, task: loop.Task, state: loop.State | None, event: Progress) -> Iterator[Event]:
        """Judge a training by what it tells of; change its number format if another is faster.

        state: is saved before the first step in the new format, so that a training that is resumed
        changes at the same step; None where there is nothing to resume yet.
        """
        if self.steps is None or not self.tries:
            return
        rate = self.rate_of(task, event)
        # Each process has its own clocks; the leader's decide.
        if not task.team.told(rate is not None and rate < TOO_SLOW * self.promised):
            return
        self.tries -= 1
        leads = task.team.leads
        found = task.team.told(measure_again(self.steps, self.precision) if leads else None)
        if found is None:
            return
        if not found.busy:
            self.tries = 0
        former, promised = self.precision, self.promised
        self.precision = found.choice_over(former)
        self.promised = found.training.get(self.precision, 0.0)
        if self.precision == former:
            return
        task.hands = optim.accelerator(self.steps.device, self.precision)
        yield from loop.kept(task, state) if state else ()
        if leads:
            yield change_note(rate or 0.0, promised, former, found)

    def over(self, task: loop.Task, finding: Find) -> Find:
        """Look on while a learning rate is sought, which comes back.

        Nothing is saved: a search that is cut off begins anew. Of a team, each process tells of it
        at its own time, so that they could not change together.
        """
        while True:
            try:
                event = next(finding)
            except StopIteration as ended:
                return float(ended.value)
            yield event
            if isinstance(event, Progress) and task.team.size == 1:
                yield from self.look(task, None, event)

    def rate_of(self, task: loop.Task, event: Progress) -> float | None:
        """Images a second of this process's steps; None until enough of them were seen.

        The first report is left out: whatever is done only once is in it.
        """
        if not self.warm:
            self.warm = True
            return None
        images_per_step = task.images / task.steps_per_epoch
        seconds = len(event.steps) * images_per_step / max(event.images_per_second, 1e-9)
        # A graphics processor is waited for where the next batch is brought to it.
        on_cpu = self.steps is not None and self.steps.device.type == "cpu"
        self.seen.append((len(event.steps), seconds * (1 - event.waiting * on_cpu)))
        n_steps, seconds = (sum(column) for column in zip(*self.seen, strict=True))
        if n_steps < STEPS_SEEN or seconds < SECONDS_SEEN * GROWTH ** (MOST_TRIES - self.tries):
            return None
        self.seen = []
        return float(n_steps * images_per_step / max(seconds, 1e-9) / task.team.size)


def change_note(rate: float, promised: float, former: str, found: Pace) -> Note:
    """What a training says that changes its number format: rates in images a second."""
    text = f"Training steps did {rate:.3g} images a second in {former}"
    if math.isfinite(promised):
        text += f", less than half of the {promised:.3g} that were once measured"
    precision = found.choice_over(former)
    if not found.training:
        return Note(f"{text}. This device only emulates {former}: training goes on in {precision}.")
    return Note(f"{text}. Measured again: {found.in_words()}. Training goes on in {precision}.")


def watch_of(work: Work, batch: int, saved: dict[str, Any] | None) -> Watch:
    """The number format of a training's steps, and what is expected of it.

    As the recipe says; as it was, for a training that is resumed; else the faster one here.
    """
    wanted = work.recipe.compute.precision
    if wanted != "auto":
        return Watch(saved["precision"] if saved else wanted)
    images = batch // (work.recipe.compute.accumulate * work.team.size)
    steps = Steps(
        work.network,
        work.recipe.backbone.name,
        work.preprocessing.size,
        max(FEWEST_IMAGES, min(MOST_IMAGES, images)),
        work.device,
    )
    if saved:
        return Watch(saved["precision"], steps, saved.get("promised", math.inf))
    found = work.team.told(measure(steps) if work.team.leads else None)
    return Watch(found.precision, steps, found.training.get(found.precision, 0.0))
