"""The advisor: how much data and how alike, which backbone, which recipe, and how long it takes.

Data flow: facts of the photos -> likeness -> features of each backbone that is here -> a linear
probe ranks them -> rules propose a recipe -> its time. Only training and validation images are
looked at: the test images stay unseen until the end of a training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from core import machine
from core import recipe as recipes
from core.data import split
from core.data.dataset import Dataset
from core.models import proposals, weights
from core.models.catalog import licensed
from core.models.proposals import Facts, Proposal
from core.models.ranking import MOST_SECONDS, Doing, Ranked, ranked
from core.schema import Recipe
from core.storage import Json

if TYPE_CHECKING:
    from core.models.likeness import Likeness

PRESET_OF = {"feature_extraction": "quick", "last_stages": "balanced", "finetune": "balanced"}


@dataclass(frozen=True)
class Estimate:
    """Seconds that a training will about take, by phase, and megabytes at its peak.

    `start` is the time until a worker has loaded its libraries: the clock of the run, whose
    `seconds` stand in its result, starts after it.
    """

    phases: dict[str, float]
    memory_mb: float

    @property
    def seconds(self) -> float:
        """Of everything together."""
        return sum(self.phases.values())


Estimator = Callable[[Dataset, Recipe], Estimate]


@dataclass(frozen=True)
class Advice:
    """All that the advisor has to say; `recipe` holds its proposals, laid over a preset."""

    images: int
    classes: int
    per_class: tuple[int, int, int]
    likeness: Likeness
    method: str
    summary: str
    backbones: tuple[Ranked, ...]
    untried: tuple[str, ...]
    preset: str
    recipe: Recipe
    reasons: tuple[Proposal, ...]
    estimate: Estimate
    seconds: float

    def to_json(self) -> Json:
        """As the shell prints it."""
        likeness = {**asdict(self.likeness), "words": self.likeness.words, "method": self.method}
        return {
            "images": self.images,
            "classes": self.classes,
            "per_class": dict(zip(("min", "median", "max"), self.per_class, strict=True)),
            "likeness": likeness,
            "summary": self.summary,
            "backbones": [asdict(one) for one in self.backbones],
            "untried": list(self.untried),
            "preset": self.preset,
            "recipe": {one.field: one.value for one in self.reasons},
            "reasons": [asdict(one) for one in self.reasons],
            "estimate": {
                "seconds": round(self.estimate.seconds, 1),
                "memory_mb": round(self.estimate.memory_mb),
                "phases": {name: round(one, 1) for name, one in self.estimate.phases.items()},
            },
            "seconds": round(self.seconds, 1),
        }


def advise(dataset: Dataset, preset: str | None, estimator: Estimator) -> Iterator[Doing | Advice]:
    """Look at a dataset and propose how to train on it; last the advice.

    preset: what the proposals are laid over; None leaves that to the technique. What is computed
    on the way (features) stays in the cache, where a training finds it.
    Raises: DatasetRefused, WeightsMissing without any backbone to compare.
    """
    from core.models import likeness

    started = time.monotonic()
    machine.keep_heap()
    base = recipes.preset(preset or "quick")
    parts = split.split(dataset, base.data.split, base.seed)
    yield Doing("Comparing your photos with everyday photos", 0.0)
    seen = likeness.measure(dataset, np.nonzero(parts != "test")[0], machine.cores(), base.seed)
    facts = facts_of(dataset, parts, seen)
    (fit,) = proposals.first(proposals.FIT, facts)
    looking = recipes.changed(base, recipes.by_section({fit.field: fit.value}))
    ranking = yield from ranked(dataset, parts, looking)
    backbones = ranking.judged
    facts = with_backbone(facts, chosen(backbones))
    yield Doing("Measuring a few steps on this machine", 0.0)
    facts, draft, cost = affordable(dataset, preset, facts, backbones, estimator)
    counts = dataset.table["label"].value_counts()
    yield Advice(
        images=len(dataset.table), classes=len(dataset.classes), likeness=seen,
        per_class=spread(counts.to_numpy()), method=likeness.METHOD, backbones=backbones,
        untried=ranking.untried, summary=proposals.summary(facts), preset=draft.preset,
        recipe=draft.recipe, reasons=draft.reasons, estimate=cost,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def spread(counts: np.ndarray) -> tuple[int, int, int]:
    """The least, the middle and the largest of some numbers."""
    return int(counts.min()), int(np.median(counts)), int(counts.max())


def facts_of(dataset: Dataset, parts: np.ndarray, seen: Likeness) -> Facts:
    """What is known before any backbone is asked."""
    from core.models.likeness import MUCH

    table = dataset.table[parts != "test"]
    sides = table[["width", "height"]].to_numpy(dtype=float)
    learned = split.per_class(dataset, parts)["train"].to_numpy()
    return Facts(
        images=int((parts == "train").sum()), per_class=spread(learned), classes=dataset.classes,
        likeness=seen.words, alike=seen.score >= MUCH,
        aspect=round(float(np.median(sides.max(axis=1) / sides.min(axis=1))), 2),
        side=int(np.median(sides.min(axis=1))),
    )  # fmt: skip


def chosen(ranking: tuple[Ranked, ...]) -> Ranked:
    """The backbone that is recommended."""
    return next(one for one in ranking if one.recommended)


def with_backbone(facts: Facts, backbone: Ranked) -> Facts:
    """The facts, with what the recommended backbone adds to them."""
    import timm

    config: Any = timm.get_pretrained_cfg(weights.full_name(backbone.name))
    return replace(
        facts, accuracy=backbone.accuracy, backbone_side=int(config.input_size[-1]),
        any_side=not config.fixed_input_size,
    )  # fmt: skip


def affordable(
    dataset: Dataset,
    preset: str | None,
    facts: Facts,
    ranking: tuple[Ranked, ...],
    estimator: Estimator,
) -> tuple[Facts, Draft, Estimate]:
    """Proposals whose training does not take too long here, and what it takes.

    A technique that does is noted in the facts, and the rules are asked again.
    """
    while True:
        draft = drafted(preset, facts, ranking)
        technique = draft.recipe.technique.name
        cost = estimator(dataset, draft.recipe)
        tried = replace(facts, minutes={**facts.minutes, technique: cost.seconds / 60})
        if draft.recipe.is_frozen or not tried.takes_long(technique):
            return replace(facts, technique=technique), draft, cost
        facts = tried


@dataclass(frozen=True)
class Draft:
    """Proposals, and the recipe that they make of a preset."""

    preset: str
    recipe: Recipe
    reasons: tuple[Proposal, ...]


def drafted(preset: str | None, facts: Facts, ranking: tuple[Ranked, ...]) -> Draft:
    """What the rules propose, laid over a preset; without one, over that of the technique."""
    reasons = (because(chosen(ranking), len(ranking)), *proposals.propose(facts))
    values = {one.field: one.value for one in reasons}
    name = preset or PRESET_OF[values["technique.name"]]
    recipe = recipes.changed(recipes.preset(name), recipes.by_section(values))
    return Draft(name, recipe, reasons)


def because(backbone: Ranked, of: int) -> Proposal:
    """Why the recommended backbone is, of so many that are here."""
    grounds = (
        "Of the backbones on this machine none is more accurate on your photos beyond luck, and "
        "of those as good this is the fastest"
        if of > 1
        else "No other backbone has its weights on this machine"
    )
    return Proposal(
        "backbone.name", backbone.name,
        f"{grounds}: {backbone.accuracy:.1%} by a linear classifier ({backbone.low:.1%} to "
        f"{backbone.high:.1%}, n = {backbone.n:,}), {backbone.ms_per_image:.1f} ms an image.",
        "linear probe, five-fold; McNemar 1947",
    )  # fmt: skip


def not_tried(advice: Advice) -> str:
    """Which backbones there was no time for, and how to see them too."""
    return (
        f"Not tried, to stay within {MOST_SECONDS:.0f} seconds: {', '.join(advice.untried)}. What "
        "was computed is kept, so ask again to see more of them."
    )


def in_words(advice: Advice) -> str:
    """The advice as lines of text."""
    alike = advice.likeness
    backbones = [
        f"  {'*' if one.recommended else ' '} {one.name:<40} {one.accuracy:6.1%} "
        f"({one.low:.1%}–{one.high:.1%}, n = {one.n:,})  {one.ms_per_image:6.1f} ms  "
        f"{one.memory_mb:6.0f} MB  LogME {one.logme:6.3f}  {licensed(one.license, one.commercial)}"
        for one in advice.backbones
    ]
    reasons = [
        f"  {one.field} = {one.value}\n      {one.reason} ({one.source})" for one in advice.reasons
    ]
    return "\n".join(
        [
            advice.summary,
            f"  {advice.images:,} images of {advice.classes} classes, {advice.per_class[0]:,} to "
            f"{advice.per_class[2]:,} a class; likeness {alike.score:.2f} of 1 (confidence "
            f"{alike.confidence:.2f}, distance {alike.distance:.2f})",
            "Backbones on this machine, by a linear probe on your images:",
            *backbones,
            *([f"  {not_tried(advice)}"] if advice.untried else []),
            f"Recipe, laid over the preset {advice.preset}:",
            *reasons,
            f"A training takes about {advice.estimate.seconds:.0f} s and "
            f"{advice.estimate.memory_mb / 1000:.1f} GB here.",
        ]
    )
