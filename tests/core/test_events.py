from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest

from core.training import events
from core.training.events import Ended, EpochEnded, Note, Progress, Started, Step

STARTED = Started(
    dataset="abc",
    images={"train": 70, "val": 15, "test": 15},
    classes=2,
    device="cpu",
    precision="bf16",
    machine="2 cores",
    versions={"torch": "2.14"},
    epochs=5,
    resumed=True,
)
COLUMNS = ([7, 8], [0.5, 0.25], [0.25, 0.5], [1e-3, 9e-4])
PROGRESS = Progress("head", 3, 9, 41.5, 800.0, 2, *COLUMNS, waiting=0.25)
ENDED = Ended("failed", {"test": {"accuracy": 0.9, "n": 15}}, "The disk is full.", "Free some.")


def epoch(number: int, phase: str = "tune", loss: float = 0.5) -> EpochEnded:
    figures = {"loss": loss, "accuracy": 0.9, "macro_f1": 0.9}
    return EpochEnded(
        phase, number, 5, number * 10, figures, {}, 1e-3, 1.5, best=False, never_predicted=[2]
    )


ADVICE = Note("Too fast.", "warning", "rate_too_high", {"optimizer.learning_rate": 1e-4})
EVENTS = [STARTED, PROGRESS, epoch(1), ADVICE, ENDED]


def over_the_wire(event: events.Event) -> events.Event | None:
    return events.from_json(json.loads(json.dumps(events.to_json(event), allow_nan=False)))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_json_as_it_was(event: events.Event):
    assert over_the_wire(event) == event


def test_every_kind_of_event_is_tried_here():
    assert {type(event) for event in EVENTS} == set(events.KINDS.values())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_becomes_null_at_any_depth(number: float):
    ended = events.to_json(Ended("failed", {"val": {"loss": number, "all": [1.0, (number,)]}}))
    assert ended["result"] == {"val": {"loss": None, "all": [1.0, [None]]}}
    progress = over_the_wire(Progress("tune", 1, 2, number, 1.0, losses=[number]))
    assert isinstance(progress, Progress)
    assert (progress.images_per_second, progress.losses) == (None, [None])


@pytest.mark.parametrize(
    "record",
    [{}, {"kind": "Danced"}, {"kind": None}, {"kind": "Note"}, {"kind": "Ended", "why": "x"}],
)
def test_an_event_of_another_version_is_passed_over(record: dict):
    known = events.to_json(Note("kept"))
    assert list(events.read([record, known])) == [Note("kept")]


def test_a_field_of_a_later_version_is_passed_over():
    assert events.from_json({"kind": "Note", "text": "kept", "color": "red"}) == Note("kept")


@pytest.mark.parametrize(
    ("event", "unknown"),
    [(PROGRESS, ["waiting"]), (epoch(1), ["never_predicted"]), (ADVICE, ["rule", "change"])],
)
def test_an_event_of_a_log_from_before_a_field_was_there_is_read(event, unknown):
    record = events.to_json(event)
    older = events.from_json({k: v for k, v in record.items() if k not in unknown})
    assert type(older) is type(event)
    assert {k: v for k, v in events.to_json(older).items() if k not in unknown} == {
        k: v for k, v in record.items() if k not in unknown
    }


def test_a_range_test_stands_before_the_trainings_it_was_made_for():
    history = [epoch(0, "tune"), epoch(0, "find"), epoch(0, "head")]
    assert [e.phase for e in events.epochs_of(history)] == ["find", "head", "tune"]


def test_after_a_resume_the_last_record_of_an_epoch_counts():
    history = [epoch(0), epoch(1), epoch(2, loss=9.0), STARTED, epoch(2, loss=0.1), epoch(3)]
    found = events.epochs_of(history)
    assert [e.epoch for e in found] == [0, 1, 2, 3]
    assert found[2].val["loss"] == 0.1


def test_epochs_stand_in_the_order_of_the_phases():
    history = [epoch(1, "tune"), epoch(0, "tune"), epoch(1, "head"), epoch(0, "head")]
    found = [(e.phase, e.epoch) for e in events.epochs_of(history)]
    assert found == [("head", 0), ("head", 1), ("tune", 0), ("tune", 1)]


def test_after_a_resume_the_last_record_of_a_step_counts():
    again = Progress("head", 3, 9, 40.0, 800.0, 2, [8, 9], [0.2, 0.1], [0.5, 1.0], [9e-4, 8e-4])
    assert events.steps_of([PROGRESS, Note("x"), again]) == [
        Step("head", 7, 0.5, 0.25, 1e-3),
        Step("head", 8, 0.2, 0.5, 9e-4),
        Step("head", 9, 0.1, 1.0, 8e-4),
    ]


def test_an_event_cannot_be_changed():
    with pytest.raises(AttributeError):
        STARTED.classes = 3  # type: ignore[misc]
    assert asdict(STARTED)["classes"] == 2
