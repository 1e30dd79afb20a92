"""What the shell prints: results for a program or a person, events as they come."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from core.errors import HeadstartError
from core.evaluation import baseline
from core.runs.run import Run
from core.storage import Json
from core.training.events import PHASES, Ended, EpochEnded, Event, Note, Progress, Started
from core.training.remedies import shown


def say(content: Json, as_json: bool, text: str) -> None:
    """Print a result for a program or for a person."""
    print(json.dumps(content, allow_nan=False, ensure_ascii=False) if as_json else text, flush=True)


def facts_of(run: Run, ended: Ended) -> Json:
    """The JSON of a run that is over."""
    data = {"dataset": run.dataset, "revision": run.revision}
    return {"run": run.id, "state": ended.reason, **data, **ended.result}


def summary_text(run: Run, ended: Ended) -> str:
    """The result of a run in words."""
    lines = [f"{run.id} {ended.reason} after {ended.result.get('seconds', 0):.1f} s"]
    for part in ("val", "test"):
        figures = ended.result.get(part, {})
        if figures.get("n"):
            lines.append(
                f"  {part}: accuracy {figures['accuracy']:.3f} "
                f"({figures['accuracy_low']:.3f}–{figures['accuracy_high']:.3f}), "
                f"macro-F1 {figures['macro_f1']:.3f}, n = {figures['n']}"
            )
            if said := baseline.sentence(figures):
                lines.append(f"        {said}")
    return "\n".join(lines)


class Teller:
    """Prints events for a person; progress at most every few seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.told_at = 0.0

    def __call__(self, event: Event) -> None:
        """Print one event."""
        text = "" if self.quiet else self.text_of(event)
        if text:
            print(text, flush=True)

    def text_of(self, event: Event) -> str:
        """One line for an event, or nothing."""
        match event:
            case Started():
                return f"{event.images} on {event.device}" + (" (resumed)" if event.resumed else "")
            case EpochEnded():
                return (
                    f"{PHASES[event.phase]}: epoch {event.epoch}/{event.epochs} "
                    f"validation loss {event.val['loss']:.4f} accuracy {event.val['accuracy']:.4f}"
                )
            case Note():
                return event.text + hint(event.change)
            case Progress() if time.monotonic() - self.told_at > 3:
                self.told_at = time.monotonic()
                return (
                    f"{PHASES[event.phase]}: {event.done}/{event.total}, "
                    f"{event.images_per_second:.0f} images/s"
                )
        return ""


def hint(change: Json) -> str:
    """How to make a change in the next run; "" for none."""
    if not change:
        return ""
    settings = " ".join(
        f"--set {name}={shlex.quote(shown(value))}" for name, value in change.items()
    )
    return f" Next time: {settings}"


def accuracy_text(figures: Json) -> str:
    """A test accuracy with its interval beside its baseline, or as many spaces."""
    if not figures.get("n"):
        return " " * 21
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    text = f"{figures['accuracy']:.3f} ({low:.3f}–{high:.3f})"
    if (known := figures.get("baseline")) is None:
        return text
    return f"{text} {'beats' if baseline.is_beaten(figures) else 'NOT ABOVE'} {known:.3f}"


def figure_lines(part: str, figures: Json) -> list[str]:
    """The figures of one part, one a line, each with its interval; nothing of no images."""
    from core.evaluation.intervals import Figure
    from core.evaluation.metrics import KINDS

    if not figures.get("n"):
        return []
    lines = [f"{part}, n = {figures['n']:,}:"]
    for name, kind in KINDS.items():
        if name in figures:
            value, low, high = (figures[f"{name}{end}"] for end in ("", "_low", "_high"))
            figure = Figure(value, low, high, figures["n"])
            written = kind.written(figure.value)
            lines.append(f"  {kind.title:<26}{written:>12}   95 %: {kind.interval(figure)}")
            if name == "accuracy" and (said := baseline.sentence(figures)):
                lines.append(f"    {said}")
    return lines


def outcome_facts(outcome: Any) -> Json:
    """One prediction, or refusal, as JSON."""
    if isinstance(outcome, HeadstartError):
        return {"error": str(outcome)}
    by_class = dict(zip(outcome.classes, outcome.probabilities, strict=True))
    return {
        "prediction": outcome.given,
        "confidence": by_class[outcome.given],
        "probabilities": by_class,
        "stranger": outcome.stranger,
        "rarer_than": outcome.rarer_than,
        "milliseconds": round(outcome.milliseconds, 1),
    }
