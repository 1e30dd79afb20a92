"""What happens in a run, as plain records: the worker appends them, everybody else reads them."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from core.storage import Json, parsed

Phase = Literal["decode", "features", "find", "head", "tune", "finish"]
Reason = Literal["finished", "stopped", "failed"]
PHASES: dict[str, str] = {
    "decode": "Decoding the images",
    "features": "Computing features",
    # Before both trainings that may follow it, so that charts of the last phase show those.
    "find": "Looking for the learning rate",
    "head": "Training the head",
    "tune": "Training the network",
    "finish": "Scoring the best epoch",
}


@dataclass(frozen=True)
class Started:
    """A worker has taken up the run, anew or again."""

    dataset: str
    images: dict[str, int]  # number of images in train, val and test
    classes: int
    device: str
    precision: str
    machine: str
    versions: dict[str, str]
    epochs: int
    resumed: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a phase has come. `steps`, `losses` and `rates` hold one value for each new step.

    waiting: share of the time since the last report, 0–1, in which the next batch was not there.
    """

    phase: str
    done: int
    total: int
    images_per_second: float
    memory_mb: float
    epoch: int = 0
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    waiting: float = 0.0


@dataclass(frozen=True)
class EpochEnded:
    """Figures of one epoch; epoch 0 is before the first step. Losses are mean cross-entropies.

    never_predicted: numbers of the classes that validation images have and none was given.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    val: dict[str, float]  # loss, accuracy, macro_f1
    train: dict[str, float]  # loss, accuracy; empty for epoch 0
    learning_rate: float
    seconds: float  # of this epoch
    best: bool
    never_predicted: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Note:
    """Something the user should read.

    kind: the doctor's rule that speaks; "" for other notes. change: what it proposes for the next
    run, values by the recipe's dotted names.
    """

    text: str
    level: str = "info"  # or "warning"
    kind: str = ""
    change: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """The run is over. `what` and `remedy` say why it failed; `result` holds its figures."""

    reason: str
    result: Json = field(default_factory=dict)
    what: str = ""
    remedy: str = ""


Event = Started | Progress | EpochEnded | Note | Ended
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Started, Progress, EpochEnded, Note, Ended)
}


# In the log, "kind" says which event it is; a note's own kind has another name there.
IN_THE_LOG = {"kind": "rule"}


def to_json(event: Event) -> Json:
    """An event as a JSON object; a number that JSON does not know becomes null."""
    values = {IN_THE_LOG.get(k, k): finite(v) for k, v in asdict(event).items()}
    return {"kind": type(event).__name__, **values}


def finite(value: object) -> object:
    """`value` with NaN and infinities as None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def from_json(record: Json) -> Event | None:
    """The event of a JSON object; None for a kind or fields of another version of Headstart."""
    kind = KINDS.get(str(record.get("kind")))
    if kind is None:
        return None
    names = {f.name: IN_THE_LOG.get(f.name, f.name) for f in fields(kind)}
    try:
        return kind(**{name: record[key] for name, key in names.items() if key in record})
    except TypeError:
        return None


def read(records: Iterable[Json]) -> Iterator[Event]:
    """The events of JSON objects, those that are not understood left out."""
    for record in records:
        event = from_json(record)
        if event is not None:
            yield event


_followed: OrderedDict[Path, tuple[int, list[Event]]] = OrderedDict()
_following = threading.Lock()
MOST_FOLLOWED = 200


def follow(path: Path) -> list[Event]:
    """All events of a log; what was read before is remembered, so that only news are read.

    A log only ever grows by whole lines. An unfinished last line is left for the next time.
    """
    with _following:
        end, known = _followed.pop(path, (0, []))
        size = path.stat().st_size if path.exists() else 0
        if size < end:
            end, known = 0, []
        if size > end:
            with path.open("rb") as file:
                file.seek(end)
                news = file.read(size - end)
            whole = news[: news.rfind(b"\n") + 1]
            known = [*known, *read(parsed(whole))]
            end += len(whole)
        _followed[path] = (end, known)
        while len(_followed) > MOST_FOLLOWED:
            _followed.popitem(last=False)
        return known


def epochs_of(events: Iterable[Event]) -> list[EpochEnded]:
    """One record for each epoch: after a resumed run, what it did last is what counts."""
    last = {(e.phase, e.epoch): e for e in events if isinstance(e, EpochEnded)}
    return sorted(last.values(), key=lambda e: (list(PHASES).index(e.phase), e.epoch))


@dataclass(frozen=True)
class Step:
    """One training step as the charts show it."""

    phase: str
    step: int
    loss: float
    accuracy: float  # of the step's own batch
    rate: float


def steps_of(events: Iterable[Event]) -> list[Step]:
    """One record for each training step, the latest where a resumed run repeated some."""
    found: dict[tuple[str, int], Step] = {}
    for event in events:
        if isinstance(event, Progress):
            columns = (event.steps, event.losses, event.accuracies, event.rates)
            for step, loss, accuracy, rate in zip(*columns, strict=False):
                found[event.phase, step] = Step(event.phase, step, loss, accuracy, rate)
    return sorted(found.values(), key=lambda s: (list(PHASES).index(s.phase), s.step))
