"""All runs of a revision side by side: how good, how long trained, how large, how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

from core import recipe as recipes
from core.evaluation.intervals import Figure
from core.runs import run as runs
from core.runs.run import Run
from core.runs.status import status_of
from core.storage import Json
from core.training.remedies import shown

WEIGHTS = "model.safetensors"
# What batch norms remember of the images is counted, not learned.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Each column of a leaderboard, and what it says.
COLUMNS = {
    "accuracy": "Share of the run's test images that it classifies right.",
    "low": "Lower end of the accuracy's 95 % interval.",
    "high": "Upper end of the accuracy's 95 % interval.",
    "n": "Test images.",
    "baseline": "Accuracy of always answering the most common class of the training images.",
    "macro_f1": "Mean of the classes' F1 on the test images: a rare class counts the same.",
    "seconds": "Time that the training took; of one that was resumed, since then.",
    "size_mb": "What the classifier's folder takes on the disk, in millions of bytes.",
    "parameters_m": "Numbers that the classifier has learned or was given, in millions. None: its "
    "file is damaged.",
    "milliseconds": "Time that one image takes on the device that trained it, measured at the end "
    "of the training: the fastest of a few, since other work on the machine only slows them. "
    "Reading the file is not counted. None: the run is older than this measurement.",
    "milliseconds_busy": "Whether other work had the machine meanwhile: an image then takes that "
    "time at most.",
}


@dataclass(frozen=True)
class Entry:
    """One run of a leaderboard.

    milliseconds: None where that was not measured. parameters_m: None where its file is damaged.
    """

    run: Run
    accuracy: Figure
    macro_f1: Figure
    seconds: float | None
    size_mb: float
    parameters_m: float | None
    milliseconds: float | None
    milliseconds_busy: bool
    device: str
    baseline: float | None = None

    def row(self) -> Json:
        """As plain numbers, for a table or a program."""
        return {
            "name": self.run.name,
            "run": self.run.id,
            "accuracy": self.accuracy.value,
            "low": self.accuracy.low,
            "high": self.accuracy.high,
            "n": self.accuracy.n,
            "baseline": self.baseline,
            "macro_f1": self.macro_f1.value,
            "milliseconds": self.milliseconds,
            "milliseconds_busy": self.milliseconds_busy,
            "seconds": self.seconds,
            "size_mb": self.size_mb,
            "parameters_m": self.parameters_m,
            "backbone": self.run.recipe.backbone.name,
            "technique": self.run.technique,
            "device": self.device,
        }


def scored_runs(dataset_id: str) -> list[Run]:
    """The runs on any revision of a dataset that have scored their images, the newest first."""
    return [r for r in runs.listed() if r.dataset == dataset_id and r.predictions.exists()]


def leaderboard(found: Sequence[Run], revision: int) -> list[Entry]:
    """Those of some runs that learned from a revision and have test images, the best first."""
    entries = (entry(run) for run in found if run.revision == revision)
    known = [one for one in entries if one is not None]
    return sorted(known, key=lambda one: one.accuracy.value or 0.0, reverse=True)


def entry(run: Run) -> Entry | None:
    """A run as a leaderboard has it; None without test images or without its classifier.

    Of one that was put together all members count.
    """
    events = run.events()
    result = runs.result_of(events)
    test = result.get("test", {})
    folders = [runs.load(one).model for one in run.members] or [run.model]
    weights = [folder / WEIGHTS for folder in folders]
    if not test.get("n") or not all(path.exists() for path in weights):
        return None
    counts = [parameters(path, path.stat().st_mtime_ns) for path in weights]
    files = [path for folder in {*folders, run.model} for path in folder.iterdir()]
    return Entry(
        run, figure_of(test, "accuracy"), figure_of(test, "macro_f1"), result.get("seconds"),
        round(sum(path.stat().st_size for path in files) / 1e6, 2),
        None if None in counts else millions(sum(count or 0 for count in counts)),
        result.get("milliseconds"), bool(result.get("milliseconds_busy")),
        status_of(run, events).device, test.get("baseline"),
    )  # fmt: skip


def figure_of(figures: Json, name: str) -> Figure:
    """A figure as a run's last event keeps it."""
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return Figure(figures.get(name), low, high, figures["n"])


def millions(number: int | None) -> float | None:
    """A number in millions; None if it is not known."""
    return None if number is None else round(number / 1e6, 3)


@lru_cache(maxsize=256)
def parameters(weights: Path, written: int) -> int | None:
    """How many numbers a safetensors file holds but the statistics of batch norms.

    None where the file is damaged: one such run hides no other. written: when, so that another file
    under the same name is read anew.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "np") as file:
            names = [name for name in file.keys() if not name.endswith(STATISTICS)]  # noqa: SIM118
            return int(sum(prod(file.get_slice(name).get_shape()) for name in names))
    except (SafetensorError, OSError):
        return None


def recipe_rows(found: Sequence[Run]) -> dict[str, list[object]]:
    """The recipe fields in which some runs differ, by dotted name: each run's value."""
    known = [run.recipe for run in found]
    rows = {name: [recipes.value_of(one, name) for one in known] for name, _ in recipes.fields()}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def recipe_table(found: Mapping[str, Run]) -> list[Json]:
    """What differs in the recipes of some runs, by what each is called, as rows in words."""
    help_of = {name: info.description for name, info in recipes.fields()}
    return [
        {"field": name, **dict(zip(found, map(shown, row), strict=True)), "meaning": help_of[name]}
        for name, row in recipe_rows([*found.values()]).items()
    ]
