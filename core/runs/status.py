"""The present state of a run in numbers, from its events: what a page shows while it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from core.runs import queue
from core.runs.run import Run, State, result_of, state_of
from core.storage import Json
from core.training.events import EpochEnded, Event, Progress, Started


@dataclass(frozen=True)
class Status:
    """What the Train page shows of one run."""

    state: State
    place: int  # in the queue, 1 is next; 0 if not in it
    phase: str
    epoch: int
    epochs: int
    share: float  # done of the present phase, 0–1
    seconds_left: float | None
    images_per_second: float
    memory_mb: float
    device: str


def status_of(run: Run, events: list[Event]) -> Status:
    """The present state of a run in numbers, from its events."""
    started = last_of(events, lambda e: isinstance(e, Started))
    progress = last_of(events, lambda e: isinstance(e, Progress))
    epoch = last_of(events, lambda e: isinstance(e, EpochEnded))
    waiting = queue.entry(run.id)
    state = state_of(run, events)
    current = progress if isinstance(progress, Progress) else Progress("decode", 0, 1, 0.0, 0.0)
    epochs = started.epochs if isinstance(started, Started) else run.recipe.schedule.epochs
    return Status(
        state=state,
        place=waiting.place if waiting else 0,
        phase=current.phase,
        # The epoch under way; before and after, the last one that ended.
        epoch=current.epoch or epoch.epoch
        if isinstance(epoch, EpochEnded) and current.phase in (epoch.phase, "finish")
        else 0,
        epochs=epoch.epochs
        if isinstance(epoch, EpochEnded) and current.phase in (epoch.phase, "finish")
        else epochs,
        share=current.done / max(1, current.total),
        seconds_left=seconds_left(run, events, current) if state == "running" else None,
        images_per_second=current.images_per_second,
        memory_mb=current.memory_mb,
        device=started.device if isinstance(started, Started) else "",
    )


def last_of(events: list[Event], wanted: Callable[[Event], bool]) -> Event | None:
    """The latest event that is wanted."""
    return next((event for event in reversed(events) if wanted(event)), None)


def seconds_left(run: Run, events: list[Event], current: Progress) -> float | None:
    """Time to the end of the present phase, from its own pace; None where that says nothing yet.

    In fine-tuning the phases before the network's own are short, and end in its beginning.
    """
    if current.phase == "head" or not current.done or not current.images_per_second:
        return None
    if current.phase != "tune":
        return (current.total - current.done) / current.images_per_second
    ended_epochs = [
        e for e in events if isinstance(e, EpochEnded) and e.phase == "tune" and e.epoch
    ]
    if ended_epochs:
        recent = ended_epochs[-3:]
        each = sum(e.seconds for e in recent) / len(recent)
        return each * recent[-1].epochs * (1 - current.done / current.total)
    epoch_zero = next((e for e in events if isinstance(e, EpochEnded) and e.phase == "tune"), None)
    started = next((e for e in reversed(events) if isinstance(e, Started)), None)
    if epoch_zero is None or started is None:
        return None
    images = started.images["train"] * epoch_zero.epochs * (1 - current.done / current.total)
    return images / current.images_per_second


def table(found: Iterable[Run]) -> list[Json]:
    """One row a run: what the list of runs shows."""
    rows = []
    for run in found:
        events = run.events()
        test = result_of(events).get("test", {})
        rows.append(
            {
                "run": run.name,
                "state": state_of(run, events),
                "dataset": run.dataset_name,
                "revision": run.revision,
                "backbone": run.recipe.backbone.name,
                "technique": run.technique,
                "test accuracy": test.get("accuracy"),
                "low": test.get("accuracy_low"),
                "high": test.get("accuracy_high"),
                "baseline": test.get("baseline"),
                "n": test.get("n"),
                "created": datetime.fromisoformat(run.created),
                "id": run.id,
            }
        )
    return rows
