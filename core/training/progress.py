"""How far a whole training is, in one share and one time left, from its recipe and its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.schema import Recipe
from core.training.events import EpochEnded, Event, Progress, Started

# The steps of a training as people are shown them, and which phases of the events they hold.
STEPS = {
    "read": "Read",
    "features": "Features",
    "head": "Head",
    "tune": "Fine-tune",
    "test": "Test",
}
STEP_OF = {
    "decode": "read", "features": "features", "find": "tune", "head": "head", "tune": "tune",
    "finish": "test",
}  # fmt: skip
# Work is counted in forward passes of one image. A training step is a forward pass and a backward
# one of twice the cost; where most stages are frozen it is about half of that.
OF_A_STEP, OF_A_PARTLY_FROZEN_STEP, OF_A_HEAD = 3.0, 1.5, 0.05


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training is.

    step: a key of `STEPS`; steps: those that it has, in order. share: of the whole training, in
    [0, 1]; never less than before. seconds_left: at the present pace, at most, since it may stop
    early; None where that cannot be said yet.
    """

    step: str
    steps: tuple[str, ...]
    share: float
    seconds_left: float | None


def steps_of(recipe: Recipe) -> tuple[str, ...]:
    """The steps that a recipe has, in order."""
    match recipe.technique.name:
        case "feature_extraction":
            return ("read", "features", "head", "test")
        case "from_scratch":
            return ("read", "tune", "test")
    return ("read", "features", "head", "tune", "test")


def planned_work(recipe: Recipe, images: dict[str, int], epochs: int) -> dict[str, float]:
    """The cost of each step of a training, in forward passes of one image.

    images: how many each part has. epochs: of fine-tuning.
    """
    every, train, val = sum(images.values()), images.get("train", 0), images.get("val", 0)
    partly = recipe.technique.name in ("last_stages", "gradual")
    step = OF_A_PARTLY_FROZEN_STEP if partly else OF_A_STEP
    fixed = recipe.technique.name == "feature_extraction"
    costs = {
        "read": 0.0,
        "features": float(every),
        "head": OF_A_HEAD * every,
        "tune": epochs * (step * train + val) + val,
        "test": OF_A_HEAD * every if fixed else float(every),
    }
    return {name: costs[name] for name in steps_of(recipe)}


def progress_of(recipe: Recipe, events: Iterable[Event]) -> TrainingProgress:
    """How far a training is by its events; those of earlier versions are understood as well."""
    steps = steps_of(recipe)
    step, share, pace, trained = steps[0], 0.0, 0.0, 0
    work, images = planned_work(recipe, {}, 0), dict[str, int]()
    for event in events:
        match event:
            case Started():
                images, step, pace = event.images, steps[0], 0.0
                share = 0.0 if not event.resumed else share
                work = planned_work(recipe, images, event.epochs)
                trained = event.epochs * images.get("train", 0)
            case EpochEnded() if event.phase == "tune":
                work = planned_work(recipe, images, event.epochs)
                trained = event.epochs * images.get("train", 0)
            case Progress():
                step = step_after(steps, step, event.phase)
                own = STEP_OF.get(event.phase, step)
                part = event.done / max(1, event.total) if own == step != "read" else 0.0
                if event.phase == "find":
                    part = 0.0
                share = max(share, share_of(work, step, part))
                pace = pace_of(event, work.get("tune", 0.0), trained) or pace
    left = (1 - share) * sum(work.values()) / pace if pace else None
    return TrainingProgress(step, steps, share, left)


def step_after(steps: tuple[str, ...], step: str, phase: str) -> str:
    """The step that a phase is of; a training never goes back to an earlier one.

    What is decoded or computed once the head is there is for fine-tuning.
    """
    own = STEP_OF.get(phase, step)
    if step == "head" and own in ("read", "features") and "tune" in steps:
        own = "tune"
    return max(step, own if own in steps else step, key=steps.index)


def share_of(work: dict[str, float], step: str, part: float) -> float:
    """The share of all work that is done when `part` of a step is, in [0, 1]."""
    names, total = list(work), sum(work.values())
    before = sum(work[name] for name in names[: names.index(step)])
    return (before + min(1.0, part) * work[step]) / total if total else 0.0


def pace_of(event: Progress, tuning: float, trained: int) -> float:
    """Forward passes a second by what was just told; 0 where it does not say.

    tuning: the work of fine-tuning, 0 where there is none, in which `trained` images pass.
    """
    if event.phase == "features" and not tuning:  # From the cache, it says nothing of tuning.
        return event.images_per_second
    if event.phase == "tune" and trained:
        return event.images_per_second * tuning / trained
    return 0.0
