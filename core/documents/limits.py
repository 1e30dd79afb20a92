"""What a classifier cannot do, in sentences that follow from the facts of its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from core.data import split
from core.documents.facts import Facts, told
from core.evaluation import baseline, confusions
from core.text import line

# Below it an interval is so wide that a figure says little.
FEW_IMAGES = 30
# A class of which more than every fourth image is missed is named.
WEAK_RECALL = 0.75
# How many times more images the largest class has than the smallest.
UNEVEN = 5
MOST_NAMES = 12
LONGEST_NAME = 60


Named = Callable[[Sequence[str]], str]


def limits(facts: Facts, plain: Callable[[object], str] = line) -> list[str]:
    """The limits of a run's classifier, the gravest first.

    plain: how a name is written, so that the kind of document shows it literally.
    """
    named = partial(listed, plain)
    return [sentence for rule in RULES for sentence in rule(facts, named)]


def listed(plain: Callable[[object], str], names: Sequence[str]) -> str:
    """Names in a sentence; of many, the first ones."""
    shown = ", ".join(plain(line(name, LONGEST_NAME)) for name in names[:MOST_NAMES])
    rest = len(names) - MOST_NAMES
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def untested(facts: Facts, named: Named) -> Iterator[str]:
    """Whether the figures come from images that took part in the training."""
    if facts.part == "val":
        yield (
            "There were no test images. The figures are those of validation images, by which the "
            "best epoch and the temperature were chosen: on new photos it will do worse."
        )
    if facts.part == "train":
        yield (
            "There were neither test nor validation images. The figures only show how much was "
            "learned by heart, and say nothing of new photos."
        )


def no_better(facts: Facts, named: Named) -> Iterator[str]:
    """Whether it is better than always answering the most common class."""
    known = facts.main.beside_baseline
    if "baseline" in known and (known["accuracy_low"] or 0.0) <= known["baseline"]:
        yield baseline.sentence({**known, "baseline_class": named([known["baseline_class"]])})


def few_images(facts: Facts, named: Named) -> Iterator[str]:
    """Classes whose figures rest on few images, or on none."""
    table, words = facts.main.per_class, split.IN_WORDS[facts.part]
    none = table.loc[table["images"] == 0, "class"].tolist()
    few = table[(table["images"] > 0) & (table["images"] < FEW_IMAGES)]
    if none:
        yield f"Of these classes there was no {words} image at all: {named(none)}."
    if len(few) == len(table):
        yield (
            f"Every class has under {FEW_IMAGES} {words} images, {len(facts.main.scores):,} in "
            "all: the figures are rough, and the intervals say how rough."
        )
    elif len(few):
        rough = [f"{name} ({n})" for name, n in zip(few["class"], few["images"], strict=True)]
        yield (
            f"Classes with under {FEW_IMAGES} {words} images, whose figures are rough: "
            f"{named(rough)}."
        )


def weak_classes(facts: Facts, named: Named) -> Iterator[str]:
    """Classes that are often missed, and the two that are confused most."""
    found, words = facts.main, split.IN_WORDS[facts.part]
    table = found.per_class.dropna(subset="recall").sort_values("recall", kind="stable")
    weak = table[table["recall"] < WEAK_RECALL]
    if len(weak):
        hits = dict(zip(found.classes, np.diagonal(found.confusion).tolist(), strict=True))
        missed = [
            f"{name} ({hits[name]} of {n} found)"
            for name, n in zip(weak["class"], weak["images"], strict=True)
        ]
        yield f"It misses more than a quarter of the {words} images of: {named(missed)}."
    for _, pair in confusions.pairs(found.confusion, found.classes, 1).iterrows():
        yield (
            f"The commonest confusion: {named([pair['true class']])} taken for "
            f"{named([pair['classified as']])}, {pair['images']:,} {words} image"
            f"{'s' * (pair['images'] > 1)} ({pair['share']:.0%} of the true class)."
        )


def only_these(facts: Facts, named: Named) -> Iterator[str]:
    """Whatever it is shown, it names one of its classes."""
    yield (
        f"It knows {len(facts.classes)} classes and always names one of them, also for a photo of "
        "something else."
    )
    if facts.strange_from is None:
        yield "It keeps nothing of its training images: it cannot tell a photo that is unlike them."
    else:
        yield (
            "A photo that is unlike all training images is flagged, but not every such photo is, "
            "and now and then an ordinary one is flagged too."
        )


def same_collection(facts: Facts, named: Named) -> Iterator[str]:
    """What the images it was judged on have in common with those it learned from."""
    words = split.IN_WORDS[facts.part]
    yield (
        f"The {words} images come from the same collection as the training images. For photos of "
        "another camera, place or time the figures may be worse; measure them there."
    )
    if facts.dataset is not None and split.is_given(facts.dataset):
        yield (
            "The dataset brought its split: near-copies that lie on both sides of it were left "
            "where they were."
        )
    if facts.part == "test":
        yield (
            "Where several trainings were compared by these test images, the figures of the one "
            "that was chosen flatter it."
        )


def by_heart(facts: Facts, named: Named) -> Iterator[str]:
    """Whether it does much better on what it learned from."""
    train = facts.evaluations.get("train")
    if train is None or facts.part == "train":
        return
    before, after = train.figures["accuracy"], facts.main.figures["accuracy"]
    if before.value is not None and after.high is not None and before.value > after.high:
        words = split.IN_WORDS[facts.part]
        yield (
            "It does better on the images that it learned from: accuracy "
            f"{before.value:.1%} there; on {words} images {told('accuracy', after)}."
        )


def uneven(facts: Facts, named: Named) -> Iterator[str]:
    """Whether some classes had far more images to learn from."""
    counts = facts.images.get("train")
    if counts is None or counts.max() < UNEVEN * max(1, counts.min()):
        return
    least, most = int(counts.argmin()), int(counts.argmax())
    yield (
        f"The classes had unequal numbers of training images, from {counts[least]:,} "
        f"({named([facts.classes[least]])}) to {counts[most]:,} "
        f"({named([facts.classes[most]])}): rare classes are the likelier to be missed."
    )


def uncalibrated(facts: Facts, named: Named) -> Iterator[str]:
    """Whether its probabilities mean what they say."""
    if facts.run.temperature == 1:
        yield "Its probabilities were not calibrated: 90 % need not mean nine of ten."


def cut_short(facts: Facts, named: Named) -> Iterator[str]:
    """Whether the training was stopped."""
    ended = facts.ended
    if ended is not None and ended.reason == "stopped":
        yield "The training was stopped by request; the best epoch until then was kept."


RULES: tuple[Callable[[Facts, Named], Iterator[str]], ...] = (
    untested, no_better, few_images, weak_classes, by_heart, only_these, same_collection, uneven,
    uncalibrated, cut_short,
)  # fmt: skip
