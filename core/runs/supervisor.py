"""Starts a worker for each free device, in the order of the queue, and lets it finish alone.

One supervisor serves one home; it holds a lock for as long as it lives. Workers outlive the page,
the app and the supervisor, and a new supervisor finds those that are still alive. It also keeps
the drivers of studies alive, which put runs into the queue.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from core import damage
from core.errors import HeadstartError, NotFound
from core.processes import start_once
from core.runs import drivers, engine, queue
from core.runs import run as runs
from core.runs.drivers import Driver
from core.runs.engine import Engine, slots_of
from core.runs.run import Run
from core.settings import settings
from core.storage import append_line, held, is_held
from core.training.events import Ended, Started, to_json

SECONDS_BETWEEN_LOOKS = 0.2
# A worker that was asked to stop scores its best epoch first, and tells how far it is. Only one
# that has told nothing for so long is pressed.
SECONDS_OF_SILENCE, SECONDS_TO_TERMINATE = 900.0, 15.0
# A driver that died is not started again and again at once.
SECONDS_BETWEEN_STARTS = 5.0
# So often a run is begun anew after what it ran on was lost.
MOST_STARTS = 5
# So often in all a run is given to a worker when each died before it told anything new: it may have
# been killed in its first seconds, or just when it had taken the next trial of its study.
MOST_TRIES = 3


def ensure() -> None:
    """Start a supervisor in the background if none is alive and there is something to do.

    It inherits a second lock, held from before it is born: its own it takes only once it works.
    """
    if is_held(queue.supervisor_lock()) or not (queue.entries() or drivers.wanted()):
        return
    command = [sys.executable, "-m", "core", "worker", "--until-idle"]
    start_once(command, settings().home / "supervisor.log", queue.starting_lock())


def supervise(*, until_idle: bool) -> None:
    """Serve the queue until interrupted; with `until_idle`, until there was nothing for a while.

    Raises: MachineRefused when the engine cannot be had.
    """
    try:
        with held(queue.supervisor_lock(), 0):
            serve(settings().idle_seconds if until_idle else float("inf"))
    except Timeout:
        return  # Another one serves this home.


@dataclass
class Watch:
    """What the supervisor remembers between two looks.

    asked: when the run of a place was first seen to be asked to stop. drivers: those that were
    started, by the folder of their study. tries: workers that died, by run and what it had told.
    """

    engine: Engine
    places: list[str] = field(default_factory=list)
    asked: dict[str, float] = field(default_factory=dict)
    drivers: dict[Path, Driver] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)


def serve(seconds_idle: float) -> None:
    """Look, start, wait, again."""
    watch = Watch(engine.chosen())
    adopt(watch)
    busy_at = time.monotonic()
    while time.monotonic() - busy_at < seconds_idle:
        watch.places = [place for place in watch.places if still_working(watch, place)]
        fill(watch)
        if drive(watch) or watch.places:
            busy_at = time.monotonic()
        time.sleep(SECONDS_BETWEEN_LOOKS)


def fill(watch: Watch) -> None:
    """Give free slots to those who wait, in their order; who needs several waits for all."""
    while (waiting := queue.first()) is not None:
        slots = watch.engine.slots()
        taken = {slot for place in watch.places for slot in slots_of(place)}
        free = [slot for slot in slots if slot not in taken]
        try:
            run = runs.load(waiting)
            needed = min(run.recipe.processes, len(slots))
        except NotFound:
            queue.release(waiting)  # It was deleted while it waited.
            continue
        except (HeadstartError, *damage.UNREADABLE) as error:
            give_up(waiting, error)
            continue
        if not free or len(free) < needed:
            return
        place = ",".join(free[: max(1, needed)])
        if queue.claim(place, waiting):
            watch.engine.submit(run, place)
            watch.places.append(place)


def give_up(run_id: str, error: Exception) -> None:
    """Let a run that cannot be read fail with its reason, so that the queue goes on."""
    queue.release(run_id)
    what, remedy = f"The run {run_id} cannot be read ({error}).", "Delete it, and start it again."
    with suppress(OSError):
        line = to_json(Ended("failed", what=what, remedy=remedy))
        append_line(settings().runs / run_id / "events.jsonl", line)


def adopt(watch: Watch) -> None:
    """Workers of a supervisor that died: alive ones are kept in sight, dead ones let go.

    One between two trials of its study has nothing in the queue, and its place all the same.
    """
    for entry in queue.entries():
        if entry.device is None:
            continue
        try:
            watch.engine.adopt(runs.load(entry.run), entry.device)
        except NotFound:
            queue.release(entry.run)
            continue
        except HeadstartError as error:
            give_up(entry.run, error)
            continue
        watch.places.append(entry.device)
    known = {slot for place in watch.places for slot in slots_of(place)}
    between = (slot for slot in watch.engine.slots() if slot not in known)
    watch.places.extend(slot for slot in between if watch.engine.state(slot) == "working")


def given_to(place: str) -> Run | None:
    """The run that a place has now; a worker takes one trial after the other."""
    entry = next((one for one in queue.entries() if one.device == place), None)
    try:
        return runs.load(entry.run) if entry else None
    except HeadstartError:
        return None


def still_working(watch: Watch, place: str) -> bool:
    """Whether a worker goes on; one that ended leaves the queue, one asked to stop is pressed."""
    state, run = watch.engine.state(place), given_to(place)
    if state == "working":
        if run is not None:
            press(watch, place, run)
        return True
    watch.asked.pop(place, None)
    if run is not None:
        settle(watch, place, run, lost=state == "lost")
    return False


def settle(watch: Watch, place: str, run: Run, *, lost: bool) -> None:
    """Let a run whose worker is gone leave the queue, or wait again if that was lost."""
    events, words = run.events(), watch.engine.words(place)
    begun = sum(isinstance(event, Started) for event in events)
    over = bool(events) and isinstance(events[-1], Ended)
    speechless = not events and bool(words)
    told = f"{run.id} {len(events)}"
    watch.tries[told] += bool(words)
    hopeless = watch.tries[told] >= MOST_TRIES
    again = begun < MOST_STARTS if lost else speechless and not hopeless
    asked = (run.folder / "stop").exists()
    if again and not over and not asked:
        queue.put_back(run.id)
        return
    if speechless and asked:
        runs.append(run, Ended("stopped"))
    elif hopeless and runs.state_of(run, events) != "finished":
        what = f"The worker could not start ({words})."
        remedy = "The run's log says why; `python -m core doctor` checks the installation."
        runs.append(run, Ended("failed", what=what, remedy=remedy))
    queue.release(run.id)


def press(watch: Watch, place: str, run: Run) -> None:
    """End a worker that was asked to stop and has been silent since: SIGTERM, then SIGKILL."""
    if not (run.folder / "stop").exists():
        watch.asked.pop(place, None)
        return
    asked = watch.asked.setdefault(place, time.monotonic())
    log = run.folder / "events.jsonl"
    silent = time.time() - log.stat().st_mtime if log.exists() else float("inf")
    seconds = min(silent, time.monotonic() - asked)
    if seconds > SECONDS_OF_SILENCE:
        watch.engine.stop(place, hard=seconds > SECONDS_OF_SILENCE + SECONDS_TO_TERMINATE)


def drive(watch: Watch) -> bool:
    """See that each study which goes on has a driver; whether there is any."""
    wanted = drivers.wanted()
    for folder in wanted:
        driver = watch.drivers.get(folder)
        over = driver is None or driver.is_over(SECONDS_BETWEEN_STARTS)
        if over and not is_held(drivers.lock_of(folder)):
            watch.drivers[folder] = drivers.start(folder)
    return bool(wanted)
