"""The present state of a run in numbers, from its events: what a page shows while it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from core.runs import queue
from core.runs.run import Run, State, result_of, state_of
from core.storage import Json
from core.training.events import EpochEnded, Event, Progress, Started
from core.training.progress import TrainingProgress, progress_of


@dataclass(frozen=True)
class Status:
    """What the Train page shows of one run."""

    state: State
    place: int  # in the queue, 1 is next; 0 if not in it
    phase: str
    epoch: int
    epochs: int  # of the present phase; 0 where it has none
    progress: TrainingProgress
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
    ours = isinstance(epoch, EpochEnded) and current.phase in (epoch.phase, "finish")
    last = epoch if isinstance(epoch, EpochEnded) and ours else None
    tuning = current.phase == "tune" and isinstance(started, Started)
    planned = started.epochs if tuning and isinstance(started, Started) else 0
    return Status(
        state=state,
        place=waiting.place if waiting else 0,
        phase=current.phase,
        # The epoch under way; before and after, the last one that ended.
        epoch=current.epoch or (last.epoch if last else 0),
        epochs=last.epochs if last else planned,
        progress=progress_of(run.recipe, events),
        images_per_second=current.images_per_second,
        memory_mb=current.memory_mb,
        device=started.device if isinstance(started, Started) else "",
    )


def last_of(events: list[Event], wanted: Callable[[Event], bool]) -> Event | None:
    """The latest event that is wanted."""
    return next((event for event in reversed(events) if wanted(event)), None)


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
