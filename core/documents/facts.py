"""What there is to say of a run, gathered once for the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from core import recipe as recipes
from core.data import split
from core.data.dataset import Dataset
from core.errors import NotFound
from core.evaluation import familiarity, metrics, mistakes, report, thresholds
from core.evaluation.intervals import Figure, of_share
from core.evaluation.report import Evaluation
from core.evaluation.tables import Results
from core.models import catalog, weights
from core.runs import run as runs
from core.runs import scored
from core.runs.run import Run
from core.runs.scored import Scored
from core.schema import Recipe
from core.storage import Json
from core.training.events import Ended, Started, epochs_of

# The part that figures are told of first: that which the run has of these.
PARTS = ("test", "val", "train")


@dataclass(frozen=True)
class License:
    """Under which license the weights are that a training began with.

    name: as the catalogue writes it, "" where nobody knows. about: what to know of it, a sentence.
    """

    name: str
    about: str


@dataclass(frozen=True)
class Facts:
    """All that documents say of a run.

    evaluations: by part, test first, of those that have images. dataset: None where it was removed
    since. started: its latest start. ended: how it ended. thresholds: by class, those that are
    kept. views: what whoever predicts with it averages over beside the photo. strange_from: the
    strangeness beyond which an image counts as unlike training.
    """

    run: Run
    dataset: Dataset | None
    evaluations: Mapping[str, Evaluation]
    results: Mapping[str, Results]
    started: Started | None
    ended: Ended | None
    license: License
    thresholds: Mapping[str, float]
    views: tuple[str, ...]
    strange_from: float | None

    @property
    def part(self) -> str:
        """The part that figures are told of first."""
        return next(iter(self.evaluations))

    @property
    def main(self) -> Evaluation:
        """The evaluation of that part."""
        return self.evaluations[self.part]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the classifier knows."""
        return self.main.classes

    @property
    def images(self) -> dict[str, np.ndarray]:
        """Images of each class by part: C int64 each, in the order of training."""
        n = len(self.classes)
        return {
            part: np.bincount(self.evaluations[part].scores.labels, minlength=n)
            for part in split.PARTS
            if part in self.evaluations
        }

    @property
    def result(self) -> Json:
        """The figures that it ended with; empty for a run that is not over."""
        return {} if self.ended is None else self.ended.result

    @property
    def decided(self) -> Figure | None:
        """The accuracy with the thresholds that are kept; None where none is."""
        if not self.thresholds:
            return None
        scores = self.main.scores
        given = thresholds.decided(scores.probabilities, self.classes, self.thresholds)
        return of_share(int((given == scores.labels).sum()), len(scores))


def gathered(run: Run) -> Facts:
    """What there is to say of a run.

    Raises: NotFound before it was scored.
    """
    from core.evaluation import averaging

    own = scored.own(run)
    found = {part: results_of(run, own, part) for part in PARTS if has(run, part)}
    events = run.events()
    familiar = familiarity.read(run.model)
    return Facts(
        run=run,
        dataset=dataset_of(run),
        evaluations={part: one.evaluation for part, one in found.items()},
        results=found,
        started=next((e for e in reversed(events) if isinstance(e, Started)), None),
        ended=runs.ended(events),
        license=license_of(run),
        thresholds=thresholds.kept(run.model),
        views=tuple(averaging.VIEWS[name].title for name in averaging.kept(run.model)),
        strange_from=None if familiar is None else familiar.threshold,
    )


def has(run: Run, part: str) -> bool:
    """Whether a run has scored images of a part."""
    return bool(len(mistakes.stored(run.predictions).part(part)))


def results_of(run: Run, images: Scored, part: str) -> Results:
    """What plates draw of one part of the images that a run has scored.

    Raises: NotFound where it has scored no such images.
    """
    found = report.evaluate(images.predictions, run.classes, part)
    if found is None:
        raise NotFound(
            f"{run.name} has no {split.IN_WORDS.get(part, part)} images.", "Choose another part."
        )
    return Results(part, found, run.temperature, epochs_of(run.events()))


def dataset_of(run: Run) -> Dataset | None:
    """The revision that a run learned from; None where it was removed since."""
    with suppress(NotFound):
        return runs.data_of(run)
    return None


def license_of(run: Run) -> License:
    """The license of the weights that a run began with, from the catalogue; or its members' did."""
    if run.members:
        found = dict.fromkeys(license_of(runs.load(one)) for one in run.members)
        names = dict.fromkeys(one.name for one in found if one.name)
        return License(" and ".join(names), " ".join(dict.fromkeys(one.about for one in found)))
    recipe = run.recipe
    if not recipe.is_pretrained:
        return License("", "No pretrained weights were used: the network began at random.")
    if recipe.backbone.weights != "pretrained":
        return License(
            "", "The weights came from a file of yours: its license is not known to Headstart."
        )
    known = catalog.backbone(weights.full_name(recipe.backbone.name))
    written = str(run.config.get("pretrained_cfg", {}).get("license") or "")
    if known is None:
        about = "It is what the weights' own configuration says; the catalogue does not know them."
        return License(written, about if written else "Their license is not known to Headstart.")
    about = {
        "yes": "It allows commercial use.",
        "no": "It forbids commercial use.",
        "unknown": "It does not say whether commercial use is allowed.",
    }[known.commercial]
    return License(known.license, f"{about} What the photos allow is for their owners to say.")


def settings_of(run: Run) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """The recipe by section: name, value and whether it differs from the preset of each field.

    Fields that say nothing beside the others are left out, and augmentation where images are seen
    once as they are. Without a preset, it differs from the defaults.
    """
    recipe = run.recipe
    changed = recipes.differences(recipe, base_of(run))
    values = {name: recipes.value_of(recipe, name) for name, _ in recipes.fields()}
    sections: dict[str, list[tuple[str, str, bool]]] = {}
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        unused = section == "augmentation" and recipe.is_frozen
        if recipes.applies(name, values) and not unused:
            row = (field, written(value), name in changed)
            sections.setdefault(section or "seed", []).append(row)
    return list(sections.items())


def base_of(run: Run) -> Recipe:
    """The recipe of a run's preset; the defaults where it has none that is known."""
    return recipes.preset(run.preset) if run.preset in recipes.PRESETS else Recipe()


def written(value: object) -> str:
    """A value of a recipe as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return " / ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def told(name: str, figure: Figure) -> str:
    """A figure with its interval and n, as in a sentence."""
    kind = metrics.KINDS[name]
    interval = kind.interval(figure)
    return f"{kind.written(figure.value)} (95 % interval {interval}, n = {figure.n:,})"
