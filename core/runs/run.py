"""One run: a folder that says everything about it. Its state is derived and stored nowhere.

`run.json` (dataset, revision, name, when), `recipe.yaml`, `events.jsonl`, `alive.lock` (held by
the worker while it lives), `stop` (asks the worker to stop), `checkpoint/`, `model/`,
`predictions.parquet`, `worker.log`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from core import damage
from core import recipe as recipes
from core.data import dataset as datasets
from core.data.dataset import Dataset
from core.errors import HeadstartError, NotFound, NotNow
from core.models import architecture, weights
from core.runs import queue
from core.schema import Recipe
from core.settings import settings
from core.storage import (
    Json,
    append_line,
    checked_id,
    is_held,
    new_id,
    read_json,
    whole_folder,
    write_bytes,
    write_json,
)  # fmt: skip
from core.training import events as event_log
from core.training.events import Ended, Event, Started

State = Literal["created", "queued", "starting", "running", "stopping", "interrupted", "finished",
                "stopped", "failed"]  # fmt: skip
STATES: dict[State, str] = {
    "created": "Not started yet.",
    "queued": "Waiting for a free device.",
    "starting": "The worker is starting.",
    "running": "Training.",
    "stopping": "Stopping; the best epoch so far is being scored.",
    "interrupted": "The worker died. Nothing is lost: resume goes on from the last checkpoint.",
    "finished": "Finished.",
    "stopped": "Stopped by request; the best epoch so far was kept.",
    "failed": "Failed; the reason is shown below.",
}
LIVE: frozenset[State] = frozenset(("queued", "starting", "running", "stopping"))
OVER: frozenset[State] = frozenset(("finished", "stopped", "failed"))


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    study, member: the study that it is part of, and what it is there: "7" is trial 7, "7.2" its
    fold 2. held_back: what is not measured at the end: parts of the data, or milliseconds.
    keeps_model: whether its classifier is kept. kind: training, or how it was put together from
    other runs, its members.
    """

    id: str
    name: str
    dataset: str
    dataset_name: str
    revision: int
    digest: str
    created: str
    preset: str
    folder: Path
    study: str = ""
    member: str = ""
    held_back: tuple[str, ...] = ()
    keeps_model: bool = True
    kind: str = "training"
    members: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name and id: several runs may have one name."""
        return f"{' '.join(self.name.split())[:60]} · {self.id}"

    @property
    def is_listed(self) -> bool:
        """Whether it stands in lists of runs: trials and folds stand with their study alone.

        They were made to choose, or judged by other images, and would only be mistaken for more.
        """
        return not self.study or self.member in ("winner", "outcome")

    @property
    def recipe(self) -> Recipe:
        """The recipe it was created with."""
        return recipes.from_yaml((self.folder / "recipe.yaml").read_text(encoding="utf-8"))

    @property
    def technique(self) -> str:
        """How it was made: the recipe's technique, or what it was put together by."""
        return self.recipe.technique.name if self.kind == "training" else self.kind

    @property
    def model(self) -> Path:
        """The folder of its classifier."""
        return self.folder / "model"

    @property
    def predictions(self) -> Path:
        """The file of its scores."""
        return self.folder / "predictions.parquet"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that its classifier knows, in the order of its scores.

        Raises: NotFound before there is one.
        """
        return tuple(self.config["label_names"])

    @property
    def temperature(self) -> float:
        """What its classifier's logits are divided by; 1 is nothing.

        Raises: NotFound before there is one.
        """
        return float(self.config["headstart"]["temperature"])

    @property
    def config(self) -> Json:
        """What its classifier says of itself.

        Raises: NotFound before there is one.
        """
        path = self.model / "config.json"
        if not path.exists():
            raise NotFound(
                f"{self.name} has no predictions and no classifier yet.",
                "Wait for it, or train it again.",
            )
        return read_json(path)

    @property
    def lock(self) -> Path:
        """Held by its worker while that lives."""
        return self.folder / "alive.lock"

    def events(self) -> list[Event]:
        """Everything that has happened so far, in order."""
        return list(event_log.follow(self.folder / "events.jsonl"))


def check(recipe: Recipe) -> None:
    """Refuse at once a recipe whose backbone is unknown, unfit for it or without its weights.

    Raises: RecipeRefused, WeightsMissing.
    """
    weights.check_name(recipe.backbone.name)
    if recipe.technique.name != "from_scratch":
        weights.check(recipe.backbone.name, recipe.backbone.weights)
    architecture.check(recipe)


@dataclass(frozen=True)
class Place:
    """What a run is in a study: see `Run`."""

    study: str = ""
    member: str = ""
    held_back: tuple[str, ...] = ()
    keeps_model: bool = True


ALONE = Place()


def create(
    dataset: Dataset, recipe: Recipe, preset: str = "", name: str = "", place: Place = ALONE
) -> Run:
    """A new run of a recipe on a dataset; nothing is started.

    One that stands alone is checked at once; of a study the first recipe was, and its worker says
    what is wrong with another.
    Raises: RecipeRefused, WeightsMissing.
    """
    if not place.study:
        check(recipe)
    name = name or f"{preset or recipe.technique.name} on {dataset.name}"
    return written(dataset, recipe, {"name": name, "preset": preset, **asdict(place)})


def written(
    dataset: Dataset, recipe: Recipe, facts: Json, fill: Callable[[Path], None] = lambda aside: None
) -> Run:
    """A run's folder, whole: `facts` beside those of every run, and what `fill` puts into it."""
    run_id = new_id()
    folder = settings().runs / run_id
    every = {
        "id": run_id,
        "dataset": dataset.id,
        "dataset_name": dataset.name,
        "revision": dataset.revision,
        "digest": dataset.digest,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "preset": "",
        **facts,
    }
    with whole_folder(folder) as aside:
        fill(aside)
        write_json(aside / "run.json", every)
        write_bytes(aside / "recipe.yaml", recipes.to_yaml(recipe).encode())
    return load(run_id)


def start(dataset: Dataset, recipe: Recipe, preset: str = "") -> Run:
    """Create a run and put it in the queue; one that trains the same already is enough.

    That of a study is none: it keeps no model, or has seen other images.

    Raises: what `create` raises.
    """
    data = (dataset.id, dataset.revision)
    same = (r for r in all_runs() if (r.dataset, r.revision) == data and not r.study)
    twin = next((r for r in same if r.recipe == recipe and state_of(r) in LIVE), None)
    if twin is not None:
        return twin
    run = create(dataset, recipe, preset)
    enqueue(run)
    return run


def again(run: Run, change: Json) -> Run:
    """Start a run on the same revision with a change of the recipe, values by dotted name.

    Raises: RecipeRefused for a change that cannot be, and what `create` raises.
    """
    recipe = recipes.changed(run.recipe, recipes.by_section(change))
    return start(data_of(run), recipe)


def load(run_id: str) -> Run:
    """The run with this id.

    Raises: NotFound.
    """
    folder = settings().runs / checked_id(run_id)
    if not (folder / "run.json").exists():
        raise NotFound(f"There is no run {run_id}.", "`python -m core runs` lists all of them.")
    known = {f.name for f in dataclass_fields(Run)} - {"folder"}
    with damage.reading("run", folder):
        facts = {k: v for k, v in read_json(folder / "run.json").items() if k in known}
        facts |= {name: tuple(facts.get(name, ())) for name in ("held_back", "members")}
        return Run(**facts, folder=folder)


def data_of(run: Run) -> Dataset:
    """The revision that a run is pinned to, whatever was corrected since.

    Raises: NotFound.
    """
    return datasets.load(run.dataset, run.revision)


def all_runs() -> list[Run]:
    """All runs that can be read, the newest first."""
    found = []
    for path in settings().runs.glob("[!.]*/run.json"):
        # One folder that another version wrote, or that is just being removed, stops nobody.
        with suppress(HeadstartError):
            found.append(load_readable(path.parent))
    return sorted(found, key=lambda run: run.created, reverse=True)


def load_readable(folder: Path) -> Run:
    """The run in a folder; NotFound or Damaged if lists could not read all they show of it."""
    run = load(folder.name)
    with damage.reading("run", folder):
        _ = run.recipe, datetime.fromisoformat(run.created)
    return run


def listed() -> list[Run]:
    """The runs that lists and pickers show, the newest first."""
    return [run for run in all_runs() if run.is_listed]


def state_of(run: Run, events: Iterable[Event] | None = None) -> State:
    """The state of a run, from its last event, its worker's lock and its place in the queue.

    events: what is known of it; of a worker that seems to be dead they are read again.
    """
    asked = (run.folder / "stop").exists()
    if is_held(run.lock):
        return "stopping" if asked else "running"
    known = run.events() if events is None else list(events)
    waiting = queue.entry(run.id)
    if waiting and not waiting.claimed:
        return "queued"
    last = next((e for e in reversed(known) if isinstance(e, Started | Ended)), None)
    # A claim means something only while the supervisor that made it lives.
    if waiting and is_held(queue.supervisor_lock()) and not isinstance(last, Ended):
        return "starting"
    if isinstance(last, Ended):
        ended: dict[str, State] = {"finished": "finished", "stopped": "stopped"}
        return ended.get(last.reason, "failed")
    if events is not None:
        return state_of(run)  # It may have ended since they were read.
    return "created" if last is None else "interrupted"


def append(run: Run, event: Event) -> None:
    """Add an event; what ends or begins a run is on the disk before this returns."""
    durable = isinstance(event, Started | Ended)
    append_line(run.folder / "events.jsonl", event_log.to_json(event), durable=durable)


def ask_to_stop(run: Run) -> None:
    """Ask a run to stop: a waiting one leaves the queue, a running one scores its best epoch.

    Raises: NotNow when it is over already.
    """
    if state_of(run) in OVER | {"created", "interrupted"}:
        raise NotNow(f"{run.name} is not running.", "There is nothing to stop.")
    if queue.withdraw(run.id):
        if not run.events():
            append(run, Ended("stopped"))
        return
    write_bytes(run.folder / "stop", b"")


def ready_to_resume(run: Run) -> None:
    """Clear what an earlier attempt left, so that a worker can go on.

    Raises: NotNow when it is running, or finished.
    """
    state = state_of(run)
    if state in LIVE:
        raise NotNow(f"{run.name} is {state}.", "Wait for it, or stop it first.")
    if state == "finished":
        raise NotNow(f"{run.name} is finished.", "Start a new run from its recipe instead.")
    (run.folder / "stop").unlink(missing_ok=True)
    queue.release(run.id)  # A claim of a supervisor that died.


def delete(*doomed: Run) -> None:
    """Remove runs with their models: all of them, or none.

    Raises: NotNow while one is running, or an ensemble that stays needs it.
    """
    ids = {run.id: run.name for run in doomed}
    for run in doomed:
        if state_of(run) in LIVE:
            raise NotNow(f"{run.name} is running.", "Stop it first.")
    for other in all_runs():
        needed = ids.keys() & set(other.members) if other.id not in ids else ()
        if needed:
            name = ids[next(iter(needed))]
            raise NotNow(f"{name} is a member of {other.name}.", "Delete that one first.")
    for run in sorted(doomed, key=lambda one: not one.members):  # None is left without its members.
        shutil.rmtree(run.folder, ignore_errors=True)


def enqueue(run: Run) -> None:
    """Put a run at the end of the queue and see that somebody works on the queue."""
    from core.runs import supervisor

    ready_to_resume(run)
    queue.add(run.id)
    supervisor.ensure()


def ended(events: Iterable[Event]) -> Ended | None:
    """How a run ended, if it did."""
    return next((e for e in reversed(list(events)) if isinstance(e, Ended)), None)


def result_of(events: Iterable[Event]) -> Json:
    """The latest figures of a run; empty before it was ever scored."""
    known = reversed(list(events))
    return next((e.result for e in known if isinstance(e, Ended) and e.result), {})


LOG_TAIL = 20_000


def log_of(run: Run) -> str:
    """The end of what the worker printed."""
    path = run.folder / "worker.log"
    return path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:] if path.exists() else ""


def recipe_text(run: Run) -> str:
    """The run's recipe as YAML."""
    return recipes.to_yaml(run.recipe)
