"""The sets of images that a run has scored: its own, and labelled datasets that it was tried on.

Each is a folder with `predictions.parquet` and `features.safetensors`: the run's own folder, or
`on/<dataset>-<revision>` in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.data import dataset as datasets
from core.data.dataset import Dataset
from core.errors import NotFound
from core.evaluation.seen import FILE
from core.runs.run import Run
from core.storage import Json, checked_id, read_json, write_json

FACTS = "on.json"
# The part that all images of another dataset are.
NEW = "new"


@dataclass(frozen=True)
class Scored:
    """Images that a run has scored. key: "" for its own, else `<dataset>-<revision>`."""

    key: str
    name: str
    dataset: str
    revision: int
    folder: Path

    @property
    def predictions(self) -> Path:
        """The file of the scores."""
        return self.folder / "predictions.parquet"

    @property
    def features(self) -> Path:
        """The file of the features, in the order of the scores."""
        return self.folder / FILE

    def data(self) -> Dataset:
        """The revision that was scored.

        Raises: NotFound.
        """
        return datasets.load(self.dataset, self.revision)


def own(run: Run) -> Scored:
    """The images that a run was trained, validated and tested on."""
    return Scored("", run.dataset_name, run.dataset, run.revision, run.folder)


def others(run: Run) -> list[Scored]:
    """The datasets that a run was tried on, the newest first."""
    paths = run.folder.glob(f"on/[!.]*/{FACTS}")
    newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    return [read(path.parent) for path in newest]


def of(run: Run, key: str) -> Scored:
    """The images with this key.

    Raises: NotFound.
    """
    if not key:
        return own(run)
    dataset, _, revision = key.partition("-")
    folder = (
        run.folder / "on" / f"{checked_id(dataset)}-{int(revision) if revision.isdigit() else 0}"
    )
    if not (folder / FACTS).exists():
        raise NotFound(f"{run.name} was not tried on {key[:80]}.", "Score it first.")
    return read(folder)


def folder_for(run: Run, dataset: Dataset) -> Path:
    """Where the scores of another dataset go."""
    return run.folder / "on" / f"{dataset.id}-{dataset.revision}"


def note(folder: Path, dataset: Dataset) -> None:
    """Say what was scored; last, so that a half-done one is none."""
    facts: Json = {"name": dataset.name, "dataset": dataset.id, "revision": dataset.revision}
    write_json(folder / FACTS, facts)


def read(folder: Path) -> Scored:
    """What lies in a folder of `on`."""
    facts = read_json(folder / FACTS)
    return Scored(folder.name, facts["name"], facts["dataset"], facts["revision"], folder)
