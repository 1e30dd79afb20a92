"""How long things take on this machine, measured so that a busy moment decides nothing for long.

Candidates take turns, so that whatever else the machine does slows all of them. Between the turns a
few threads do nothing but compute: their own processor time beside the wall clock says how much of
the processors this process gets. An answer is kept only if nobody else used them meanwhile.
"""

from __future__ import annotations

import hashlib
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import machine
from core.errors import MachineRefused
from core.settings import settings
from core.storage import Json, read_json, write_json

# Turns of each candidate; of slow ones fewer, once so many seconds have gone by.
TURNS, FEWEST_TURNS, MOST_SECONDS = 5, 2, 10.0
# Threads compute alone for so long, and for about a quarter of the time at most.
PROBE_SECONDS, PROBE_PAUSE = 0.01, 0.03
# Measured with two threads on two cores: a share of 0.97 and more on a free machine, of 0.3 to 0.7
# with one other process.
FREE = 0.8
# A typical turn that takes so many times the fastest one was disturbed, whatever disturbed it: of
# what others do on a graphics processor the threads know nothing.
UNSTEADY = 1.5
# To be raised when the way of measuring changes: what was kept before then counts no more.
VERSION = 2
BLOCK = bytes(1 << 20)


def processor_time(n_threads: int) -> tuple[float, float]:
    """Seconds of processor time that threads got which always wanted it, and those that passed.

    Both are summed over the threads, so that a free machine gives about equal numbers.
    """
    got, passed = [0.0] * n_threads, [0.0] * n_threads

    def compute(number: int) -> None:
        began, own = time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < PROBE_SECONDS:
            hashlib.sha256(BLOCK)  # Lets the other threads run meanwhile.
        passed[number] = time.perf_counter() - began
        got[number] = time.thread_time() - own

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(got), sum(passed)


@dataclass(frozen=True)
class Clocks:
    """wall: seconds since any moment. processor: see `processor_time`."""

    wall: Callable[[], float] = time.perf_counter
    processor: Callable[[int], tuple[float, float]] = processor_time


CLOCKS = Clocks()


@dataclass(frozen=True)
class Timings:
    """Seconds that each turn of each candidate took.

    share: of the processor time that this process asked for, what it got, 0–1.
    """

    seconds: Mapping[str, list[float]]
    share: float

    def typical(self, name: str) -> float:
        """The median of a candidate's turns, in seconds."""
        return statistics.median(self.seconds[name])

    def fastest(self, name: str) -> float:
        """The least disturbed of a candidate's turns, in seconds."""
        return min(self.seconds[name])

    @property
    def busy(self) -> bool:
        """Whether others had the machine meanwhile, so that no number is to be relied on."""
        unsteady = any(self.typical(one) > UNSTEADY * self.fastest(one) for one in self.seconds)
        return unsteady or self.share < FREE


def compare(
    candidates: Mapping[str, Callable[[], object]], n_threads: int, *, turns: int = TURNS,
    most_seconds: float = MOST_SECONDS, clocks: Clocks | None = None,
) -> Timings:  # fmt: skip
    """Let candidates take turns: A B A B …, each once before that to warm up.

    A candidate returns when its work is done. n_threads: as many as it computes with.
    """
    clocks = clocks or CLOCKS
    for action in candidates.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    probes = [clocks.processor(n_threads)]
    began = probed = clocks.wall()
    for turn in range(turns):
        if turn >= FEWEST_TURNS and clocks.wall() - began > most_seconds:
            break
        for name, action in candidates.items():
            started = clocks.wall()
            action()
            ended = clocks.wall()
            seconds[name].append(ended - started)
            if ended - probed > PROBE_PAUSE:
                probes.append(clocks.processor(n_threads))
                probed = clocks.wall()
    got, passed = (sum(column) for column in zip(*probes, strict=True))
    return Timings(seconds, min(1.0, got / max(passed, 1e-9)))


@dataclass(frozen=True)
class KeptAnswer:
    """The place of an answer that was measured on this machine.

    kind: what was asked. facts: all that the answer depends on, beside the machine.
    """

    kind: str
    facts: tuple[object, ...]

    @property
    def path(self) -> Path:
        """Its file; another machine, and another way of measuring, has another one."""
        parts = [VERSION, self.kind, *self.facts, machine.name(), machine.processor()]
        key = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:24]
        return settings().cache / "timings" / f"{key}.json"

    def load(self) -> Json | None:
        """What was kept; None where nothing is, or nothing that can be read."""
        with suppress(OSError, ValueError):
            answer = read_json(self.path)
            return answer if isinstance(answer, dict) else None
        return None

    def save(self, answer: Json) -> None:
        """Keep an answer in place of the former one; without room on the disk, none."""
        with suppress(MachineRefused, OSError):
            write_json(self.path, {**answer, "of": [self.kind, *map(str, self.facts)]})

    def forget(self) -> None:
        """Let the next one who asks measure."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
