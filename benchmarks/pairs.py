"""A measure beside its reference: timed in turns, so that a busy machine slows both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psutil

from core import machine

# The figure of a measure and of its reference, taken one right after the other.
Pair = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """What is printed of one measure.

    pairs: one for each repeat, in `unit`. better: whether a higher or a lower figure is. data: the
    images, in words. facts: what else a reader should know, under names of its own.
    """

    measure: str
    unit: str
    better: str
    reference: str
    pairs: list[Pair]
    data: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The line's fields, medians over the repeats, and what the machine was like."""
        return {
            "measure": self.measure,
            "unit": self.unit,
            "better": self.better,
            "reference": self.reference,
            **self.figures(),
            "repeats": len(self.pairs),
            "data": self.data,
            "machine": machine.name(),
            "load": round(psutil.getloadavg()[0] / (os.cpu_count() or 1), 2),
            **self.facts,
        }

    def figures(self) -> dict[str, Any]:
        """Medians and their ratio; the best of each and theirs, for when other work slowed some."""
        values, references = zip(*self.pairs, strict=True)
        best = max if self.better == "higher" else min
        return {
            "value": rounded(median(values)),
            "reference_value": rounded(median(references)),
            "ratio": round(median(values) / median(references), 3),
            "ratio_of_best": round(best(values) / best(references), 3),
            "ratios": [round(value / reference, 3) for value, reference in self.pairs],
        }


def rounded(value: float) -> float:
    """Four digits: what such timings are good for."""
    return float(f"{value:.4g}")


def in_turns(
    measure: Callable[[], float], reference: Callable[[], float], repeat: int
) -> list[Pair]:
    """Both figures, `repeat` times; each goes first in every other pair, which cancels drift."""
    pairs = []
    for number in range(repeat):
        if number % 2:
            value = measure()
            pairs.append((value, reference()))
        else:
            beside = reference()
            pairs.append((measure(), beside))
    return pairs


def seconds_of(work: Callable[[], object]) -> float:
    """How long a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def drained(generator: Iterable[object]) -> None:
    """Run a generator to its end."""
    for _ in generator:
        pass
