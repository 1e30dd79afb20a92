"""The course of one training, gathered event by event: what the doctor looks at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.machine import late_numpy as np
from core.schema import Recipe
from core.training.events import EpochEnded, Event, Progress, Started

# Steps are judged in stretches of at least this many images: the loss of two images says little.
IMAGES_IN_A_STRETCH = 32
# A stretch whose loss is this many times that of guessing: the network is sure, and wrong. Without
# leaps it never gets there, since it begins at guessing or better.
OVERSHOOT = 2.0


@dataclass
class Steps:
    """What is kept of the steps: counts and extremes, so that millions of steps take no room."""

    length: int  # steps in a stretch
    limit: float  # loss above which a stretch has overshot
    peak_rate: float = 0.0
    stretches: int = 0
    overshot: int = 0
    highest: float = 0.0  # loss of the worst stretch
    broken_at: tuple[int, int] | None = None  # epoch and step of the first loss that is no number
    waiting: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sum of shares, reports
    _losses: list[float] = field(default_factory=list)  # of the stretch under way

    def add(self, event: Progress) -> None:
        """Take in one report."""
        self.peak_rate = max([self.peak_rate, *(r for r in event.rates if r)])
        if event.steps:
            self.waiting = [self.waiting[0] + event.waiting, self.waiting[1] + 1]
        for step, given in zip(event.steps, event.losses, strict=False):
            loss = number(given)
            if not math.isfinite(loss):
                self.broken_at = self.broken_at or (event.epoch, step)
                continue
            self._losses.append(loss)
            if len(self._losses) == self.length:
                self._close()

    def _close(self) -> None:
        loss = sum(self._losses) / self.length
        self.stretches += 1
        self.overshot += loss > self.limit
        self.highest = max(self.highest, loss)
        self._losses = []


@dataclass
class History:
    """A training so far; its size grows with its epochs and not with its steps.

    own_split: the dataset brought all its parts, so that no recipe divides it otherwise.
    Only the phase that the recipe is about is kept: the head where the backbone is frozen, else
    the network, for which the head before it is only a start.
    """

    recipe: Recipe
    classes: Sequence[str]
    over: bool = False
    own_split: bool = False
    images: dict[str, int] = field(default_factory=dict)  # in train, val and test
    steps: Steps = field(init=False)
    _epochs: dict[int, EpochEnded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        batch = self.recipe.compute.batch_size
        length = math.ceil(IMAGES_IN_A_STRETCH / batch) if isinstance(batch, int) else 1
        self.steps = Steps(length, OVERSHOOT * self.guessing)

    @property
    def phase(self) -> str:
        """The phase that the recipe is about."""
        return "head" if self.recipe.is_frozen else "tune"

    @property
    def guessing(self) -> float:
        """The loss of somebody who gives every class the same probability."""
        return math.log(max(2, len(self.classes)))

    def add(self, event: Event) -> None:
        """Take in one event; after a resumed run what an epoch did last is what counts."""
        match event:
            case Started():
                self.images = event.images
            case Progress() if event.phase == self.phase:
                self.steps.add(event)
            case EpochEnded() if event.phase == self.phase:
                self._epochs[event.epoch] = event

    @property
    def start(self) -> EpochEnded | None:
        """Before the first step."""
        return self._epochs.get(0)

    @property
    def learned(self) -> list[EpochEnded]:
        """The epochs with steps, in order."""
        return [self._epochs[k] for k in sorted(self._epochs) if k > 0]

    @property
    def best(self) -> EpochEnded | None:
        """The epoch that is kept so far."""
        return next((e for _, e in sorted(self._epochs.items(), reverse=True) if e.best), None)

    @property
    def stopped_early(self) -> bool:
        """Whether it ended by its own patience, which has its reason."""
        done = self.learned
        return self.over and bool(done) and done[-1].epoch < done[-1].epochs

    @property
    def peak_rate(self) -> float:
        """The highest learning rate that was used."""
        return max([self.steps.peak_rate, *(number(e.learning_rate) for e in self.learned)])

    def chance(self, accuracy: float, part: str) -> float:
        """How far an accuracy on a part may be off by luck: two binomial standard errors."""
        n = self.images.get(part, 0)
        # Where all or none are right, the formula says no error at all: one image is put aside.
        share = min(max(accuracy, 1 / (n + 2)), 1 - 1 / (n + 2))
        return 2 * math.sqrt(share * (1 - share) / n) if n else 1.0


def number(value: float | None) -> float:
    """A figure of the log, where what is no number is null."""
    return math.nan if value is None else float(value)


def column(epochs: Sequence[EpochEnded], part: str, figure: str) -> np.ndarray:
    """One figure by epoch, float64; NaN where it is missing."""
    return np.array([number(getattr(e, part).get(figure)) for e in epochs], dtype=float)


def smooth(values: np.ndarray) -> np.ndarray:
    """Each value as the middle one of itself and its neighbors: one odd epoch says nothing."""
    if len(values) < 3:
        return values
    around = np.stack([np.r_[values[:1], values[:-1]], values, np.r_[values[1:], values[-1:]]])
    return np.asarray(np.median(around, axis=0))


def jitter(values: np.ndarray) -> float:
    """How far values typically are from their neighbors' mean: what is left when trends are out."""
    if len(values) < 3:
        return 0.0
    bends = values[1:-1] - (values[:-2] + values[2:]) / 2
    return float(np.sqrt(np.mean(bends**2) / 1.5))
