"""Work in a process of its own, while pages only look: `python -m core.jobs FOLDER`.

A job is one folder: `job.json` (kind, values, name, when), `steps.jsonl` (how far it is, last how
it ended), `alive.lock` (held by its process while it lives), `stop` (asks it to stop), `job.log`
(what it printed). Its state is derived from the last line and the lock, and stored nowhere.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import psutil
from filelock import Timeout

from core import damage, processes, storage
from core.errors import HeadstartError, NotFound
from core.settings import settings
from core.storage import Json

# kind -> "module:function". The function takes the job's values as keywords, and `stop`, which
# says whether it should end early; it yields `Step`s, the last one with a `result`.
KINDS: dict[str, str] = {
    "audit": "core.auditing.audit:steps",
    "map": "core.auditing.map:steps",
    "import": "core.serving.uploads:importing_steps",
    "look": "core.serving.uploads:looking_steps",
    "pack": "core.serving.packing:packing_steps",
    "score": "core.serving.scoring:steps",
    "views": "core.serving.averaged:steps",
    "run_map": "core.evaluation.run_map:steps",
    "combine": "core.studies.ensemble:steps",
}
# Kinds that load a network and keep every core busy: of these a home does one at a time.
HEAVY = ("audit", "map", "score", "views", "run_map", "combine")
WAITING = "Waiting for other work of this kind to end."
State = Literal["waiting", "running", "done", "refused", "failed", "cancelled", "died"]
STATES: dict[State, str] = {
    "waiting": "Starting.",
    "running": "At work.",
    "done": "Done.",
    "refused": "Refused; the reason is shown below.",
    "failed": "Headstart made a mistake; the reason is shown below.",
    "cancelled": "Cancelled by request.",
    "died": "The work was ended from outside, perhaps because memory or disk were full.",
}
LIVE: frozenset[State] = frozenset(("waiting", "running"))
COMMAND = (sys.executable, "-m", "core.jobs")
# A process found without its lock may still be importing what it needs.
SECONDS_TO_START = 30.0
SECONDS_TO_GET_THE_LOCK = 5.0
SECONDS_BETWEEN_STEPS = 0.2
SECONDS_TO_OBEY = 10.0
HOURS_KEPT = 24
# What an addition to a dataset leaves there when it is killed.
ADDING = "[!.]*/adding.json"
REPORT = "The job's log has the details; please report them."
# Processes started from here, which are asked for themselves, so that they are reaped.
started_here: dict[str, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Step:
    """How far a job is: `done` of `total` (0 if unknown), in words.

    seconds: since these words were first said, with `first` done: each part of the work has a pace
    of its own. result: what came out, as JSON; the last step alone has one.
    """

    done: int
    total: int
    text: str = ""
    seconds: float = 0.0
    result: Json | None = None
    first: int = 0

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None where that cannot be said."""
        new = self.done - self.first
        if not (self.total and self.seconds) or new <= 0:
            return None
        return self.seconds * max(0, self.total - self.done) / new


@dataclass(frozen=True)
class Job:
    """A job as its folder tells it."""

    kind: str
    values: Json
    name: str
    created: str
    folder: Path

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """The lines that it writes while it works."""
        return self.folder / "steps.jsonl"

    @property
    def lock(self) -> Path:
        """Held by its process for as long as that lives."""
        return self.folder / "alive.lock"

    @property
    def stop_file(self) -> Path:
        """A file that asks it to stop."""
        return self.folder / "stop"

    @property
    def state(self) -> State:
        """From its last line and from whether its process is alive."""
        alive = storage.is_held(self.lock)
        last = storage.last_line(self.log) or {}
        if "ended" in last:
            return last["ended"]  # type: ignore[no-any-return]
        # Asked again: it may have begun since the first look.
        if alive or storage.is_held(self.lock):
            return "running"
        if not last and is_starting(self):
            return "waiting"
        return "cancelled" if self.stop_file.exists() else "died"

    def latest(self) -> Step:
        """How far it is; nothing of nothing before its first word."""
        last = storage.last_line(self.log) or {}
        names = ("done", "total", "text", "seconds", "first")
        known = {name: last[name] for name in names if name in last}
        return Step(**{"done": 0, "total": 0, **known}, result=last.get("result"))

    @property
    def result(self) -> Json | None:
        """What came out; None unless it is done."""
        return self.latest().result

    @property
    def refusal(self) -> tuple[str, str] | None:
        """What went wrong and what to do, if it was refused, failed or died."""
        state = self.state
        if state == "died":
            return STATES[
                "died"
            ], "Start it again; free some memory or disk space if it dies again."
        if state not in ("refused", "failed"):
            return None
        last = storage.last_line(self.log) or {}
        return last["what"], last["remedy"]

    def cancel(self) -> None:
        """Ask it to stop; one that was asked before and took no notice is killed."""
        if self.state not in LIVE:
            return
        if (
            self.stop_file.exists()
            and time.time() - self.stop_file.stat().st_mtime > 2 * SECONDS_TO_OBEY
        ):
            kill(self)
        else:
            self.stop_file.touch()


def start(kind: str, values: Json, name: str = "") -> Job:
    """Begin a piece of work in the background; `name` is how people know it."""
    if kind not in KINDS:
        raise ValueError(f"{kind} is no kind of job; there are {', '.join(KINDS)}")
    clean_up()
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    facts = {"kind": kind, "values": values, "name": name or kind, "created": created}
    job_id = storage.new_id()
    with storage.whole_folder(settings().jobs / job_id) as folder:
        storage.write_json(folder / "job.json", facts)
    job = load(job_id)
    command = [*COMMAND, str(job.folder)]
    started_here[job.id] = processes.detached(command, job.folder / "job.log", {})
    return job


def load(job_id: str) -> Job:
    """The job with this id.

    Raises: NotFound.
    """
    folder = settings().jobs / storage.checked_id(job_id)
    if not (folder / "job.json").exists():
        raise NotFound(f"There is no job {job_id}.", "It may be over for long; start it again.")
    facts = storage.read_json(folder / "job.json")
    return Job(facts["kind"], facts["values"], facts["name"], facts["created"], folder)


def of(kind: str, **values: Any) -> list[Job]:
    """The jobs of a kind that have these among their values, the newest first."""
    found = []
    for path in settings().jobs.glob("[!.]*/job.json"):
        # It is just being removed, or damaged: such a one hides no other.
        with suppress(NotFound, *damage.UNREADABLE):
            job = load(path.parent.name)
            if job.kind == kind and values.items() <= job.values.items():
                found.append(job)
    return sorted(found, key=lambda job: job.created, reverse=True)


def clean_up() -> None:
    """Remove what dead jobs left half-done, and jobs that are over for a day."""
    for folder in (settings().datasets, settings().jobs, settings().runs, settings().studies):
        storage.remove_unfinished(folder)
    if any(settings().datasets.glob(ADDING)):
        import_module("core.data.appending").clean_up()
    for path in settings().jobs.glob("[!.]*/job.json"):
        with suppress(OSError):
            touched = max(p.stat().st_mtime for p in path.parent.iterdir())
            over = not storage.is_held(path.parent / "alive.lock")
            if over and time.time() - touched > HOURS_KEPT * 3600:
                shutil.rmtree(path.parent, ignore_errors=True)
                started_here.pop(path.parent.name, None)


def is_starting(job: Job) -> bool:
    """Whether a job without a word may still begin."""
    child = started_here.get(job.id)
    if child is not None:
        return child.poll() is None
    created = (job.folder / "job.json").stat().st_mtime
    return time.time() - created < SECONDS_TO_START


def kill(job: Job) -> None:
    """End a job's process and all that it started, if it is still the one that wrote its number."""
    with suppress(OSError, psutil.NoSuchProcess):
        facts = storage.read_json(job.folder / "process.json")
        # The clock that the system tells this by may have been set a little since then.
        if abs(psutil.Process(facts["pid"]).create_time() - facts["since"]) < 2.0:
            processes.kill_with_children(facts["pid"])


# --- in the job's own process ----------------------------------------------------------------


def happening(job: Job) -> Iterator[Json]:
    """The lines of a job's log: steps now and then, last how it ended."""
    began = time.monotonic()
    last = Step(0, 0)
    told = float("-inf")
    try:
        for step in explained(work_of(job)):
            first, new = last.first, step.text != last.text
            if new:
                began, first = time.monotonic(), step.done
            last = replace(step, seconds=round(time.monotonic() - began, 3), first=first)
            due = new or time.monotonic() - told > SECONDS_BETWEEN_STEPS
            if last.result is None and due:
                told = time.monotonic()
                yield line_of(last)
        stopped = job.stop_file.exists() and last.result is None
        yield {"ended": "cancelled" if stopped else "done", **line_of(last)}
    except HeadstartError as error:
        yield {"ended": "refused", "what": error.what, "remedy": error.remedy}
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        what = f"Headstart made a mistake ({type(error).__name__}: {error})."
        yield {"ended": "failed", "what": what, "remedy": REPORT}


def explained(steps: Iterator[Step]) -> Iterator[Step]:
    """The steps of a job; what a full or read-only disk raises is one sentence."""
    with damage.disk_errors():
        yield from steps


def line_of(step: Step) -> Json:
    """A step as a line of the log; only the last one has a result to tell."""
    return {name: value for name, value in asdict(step).items() if value is not None}


def work_of(job: Job) -> Iterator[Step]:
    """The steps of a job until it is done or asked to stop; what it began is then put away."""
    with ExitStack() as stack:
        if job.kind in HEAVY:
            yield from turn(job, stack)
        if job.stop_file.exists():
            return
        module, _, function = KINDS[job.kind].partition(":")
        work: Callable[..., Any] = getattr(import_module(module), function)
        steps = stack.enter_context(closing(work(**job.values, stop=job.stop_file.exists)))
        for step in steps:
            yield step
            if job.stop_file.exists():
                return


def turn(job: Job, stack: ExitStack) -> Iterator[Step]:
    """Wait until no other heavy job is at work, or until asked to stop; `stack` then has the lock.

    Nothing has been imported yet that takes much memory.
    """
    while not job.stop_file.exists():
        try:
            stack.enter_context(storage.held(settings().jobs / "heavy.lock", 0))
            return
        except Timeout:
            yield Step(0, 0, WAITING)
            time.sleep(SECONDS_BETWEEN_STEPS)


def end_if_it_does_not_obey(job: Job) -> None:
    """Wait for the wish to stop, then give the work some seconds, then end it as it stands."""
    while not job.stop_file.exists():
        time.sleep(SECONDS_BETWEEN_STEPS)
    time.sleep(SECONDS_TO_OBEY)
    processes.kill_with_children(os.getpid())


def main(folder: Path) -> int:
    """Do the job in a folder; SIGTERM is the same as the stop file."""
    job = load(folder.resolve().name)

    def stop(number: int, frame: FrameType | None) -> None:
        job.stop_file.touch()

    signal.signal(signal.SIGTERM, stop)
    with storage.held(job.lock, SECONDS_TO_GET_THE_LOCK):
        me = psutil.Process()
        storage.write_json(
            job.folder / "process.json", {"pid": os.getpid(), "since": me.create_time()}
        )
        threading.Thread(target=end_if_it_does_not_obey, args=[job], daemon=True).start()
        for line in happening(job):
            storage.append_line(job.log, line, durable="ended" in line)
    return 0


if __name__ == "__main__":
    # By its other name, so that its steps and those of the work are of one class.
    from core.jobs import main as work

    sys.exit(work(Path(sys.argv[1])))
