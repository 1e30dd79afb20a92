"""One study: a folder that says everything about it; its runs name it, its state is derived.

`study.json` (kind, dataset, revision, name, when, plan), `recipe.yaml` (what its runs begin from),
`trials.jsonl` (a search's trials that are over), `clock.json` (seconds at work), `alive.lock` (held
by its driver), `pause` and `stop` (what it was asked), `result.json` (once it is over),
`driver.log`.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from core import damage
from core import recipe as recipes
from core.data import dataset as datasets
from core.data.dataset import Dataset
from core.errors import HeadstartError, NotFound, NotNow
from core.runs import drivers, queue, supervisor
from core.runs import run as runs
from core.runs.run import Run
from core.schema import Recipe
from core.settings import settings
from core.storage import (
    Json,
    checked_id,
    is_held,
    new_id,
    read_json,
    whole_folder,
    write_bytes,
    write_json,
)  # fmt: skip

Kind = Literal["search", "crossval"]
State = Literal["running", "pausing", "paused", "stopping", "interrupted", "finished", "stopped",
                "failed"]  # fmt: skip
STATES: dict[State, str] = {
    "running": "Under way.",
    "pausing": "Nothing new is begun; what is being trained comes to its end.",
    "paused": "Nothing is begun until it is resumed.",
    "stopping": "Stopping; what has been found so far is judged.",
    "interrupted": "Nobody works on it. Nothing is lost: looked at, it goes on by itself.",
    "finished": "Finished.",
    "stopped": "Stopped by request; what was found until then was kept.",
    "failed": "Failed; the reason is shown below.",
}
LIVE: frozenset[State] = frozenset(("running", "pausing", "stopping", "interrupted"))
OVER: frozenset[State] = frozenset(("finished", "stopped", "failed"))


@dataclass(frozen=True)
class Study:
    """A study as its folder tells it. plan: what its kind needs to know, as JSON."""

    id: str
    kind: Kind
    name: str
    dataset: str
    dataset_name: str
    revision: int
    created: str
    plan: Json
    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe that its runs begin from."""
        return recipes.from_yaml((self.folder / "recipe.yaml").read_text(encoding="utf-8"))

    @property
    def result(self) -> Json:
        """What it came to: `reason`, and what its kind says; empty before it is over."""
        path = self.folder / "result.json"
        return read_json(path) if path.exists() else {}

    @property
    def asked_to_pause(self) -> bool:
        """Whether nothing new is to begin."""
        return (self.folder / "pause").exists()

    @property
    def asked_to_stop(self) -> bool:
        """Whether it is to end with what there is."""
        return (self.folder / "stop").exists()

    def data(self) -> Dataset:
        """The revision that all its runs are pinned to.

        Raises: NotFound.
        """
        return datasets.load(self.dataset, self.revision)


def create(kind: Kind, dataset: Dataset, recipe: Recipe, plan: Json, name: str) -> Study:
    """A new study; its driver starts as soon as there is a supervisor.

    Raises: RecipeRefused, WeightsMissing for a recipe that could not be trained.
    """
    runs.check(recipe)
    study_id = new_id()
    folder = settings().studies / study_id
    facts = {
        "id": study_id,
        "kind": kind,
        "name": " ".join(name.split())[:200],
        "dataset": dataset.id,
        "dataset_name": dataset.name,
        "revision": dataset.revision,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "plan": plan,
    }
    with whole_folder(folder) as aside:
        write_bytes(aside / "recipe.yaml", recipes.to_yaml(recipe).encode())
        write_json(aside / "study.json", facts)
    supervisor.ensure()
    return load(study_id)


def load(study_id: str) -> Study:
    """The study with this id.

    Raises: NotFound.
    """
    folder = settings().studies / checked_id(study_id)
    if not (folder / "study.json").exists():
        raise NotFound(
            f"There is no study {study_id}.", "`python -m core studies` lists all of them."
        )
    with damage.reading("study", folder):
        return Study(**read_json(folder / "study.json"), folder=folder)


def all_studies(kind: Kind | None = None) -> list[Study]:
    """All studies that can be read, or those of a kind, the newest first."""
    found = []
    for path in settings().studies.glob("[!.]*/study.json"):
        with suppress(HeadstartError, ValueError, TypeError, OSError):
            found.append(load(path.parent.name))
    chosen = (study for study in found if kind in (None, study.kind))
    return sorted(chosen, key=lambda study: study.created, reverse=True)


def members(study: Study) -> dict[str, Run]:
    """Its runs by what they are in it: see `Run.member`."""
    return {run.member: run for run in runs.all_runs() if run.study == study.id}


def state_of(study: Study) -> State:
    """The state of a study, from its result, what it was asked, and its driver's lock."""
    result = study.result
    if result:
        reasons: dict[str, State] = {"finished": "finished", "stopped": "stopped"}
        return reasons.get(str(result.get("reason")), "failed")
    alive = is_held(drivers.lock_of(study.folder))
    if study.asked_to_pause:
        return "pausing" if alive else "paused"
    if study.asked_to_stop:
        return "stopping"
    return "running" if alive or is_held(queue.supervisor_lock()) else "interrupted"


def attend(study: Study) -> None:
    """See that somebody works on a study that goes on."""
    if state_of(study) in LIVE:
        supervisor.ensure()


def pause(study: Study) -> None:
    """Let nothing new begin.

    Raises: NotNow when it is over.
    """
    refuse_if_over(study)
    write_bytes(study.folder / "pause", b"")


def resume(study: Study) -> None:
    """Let a paused study go on.

    Raises: NotNow when it is over.
    """
    refuse_if_over(study)
    (study.folder / "pause").unlink(missing_ok=True)
    supervisor.ensure()


def stop(study: Study) -> None:
    """Ask a study to end with what there is; its driver stops the runs that are under way.

    Raises: NotNow when it is over.
    """
    refuse_if_over(study)
    write_bytes(study.folder / "stop", b"")
    (study.folder / "pause").unlink(missing_ok=True)
    supervisor.ensure()


def refuse_if_over(study: Study) -> None:
    """Raises: NotNow when a study is over."""
    if study.result:
        raise NotNow(f"{study.name} is over.", "Start a new one instead.")


def delete(study: Study) -> None:
    """Remove a study that is over or paused, with its trials, folds and what was made of these.

    The run of a search's winner stays. Raises: NotNow while it is under way, or an ensemble needs
    one of its runs.
    """
    if state_of(study) in LIVE:
        raise NotNow(f"{study.name} is under way.", "Stop it first.")
    runs.delete(*(run for run in members(study).values() if not run.is_listed or run.members))
    shutil.rmtree(study.folder, ignore_errors=True)


def end(study: Study, reason: str, **facts: object) -> None:
    """Write down what a study came to; from now on it is over."""
    write_json(study.folder / "result.json", {"reason": reason, **facts})
