"""What to propose for a dataset, and why: rules as data, each with its reason and its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Fewer training images than this are few: what VTAB allows a task (Zhai et al. 2019).
FEW = 1_000
MANY = 10_000
# With fewer images in the middle class than this, tuning has next to nothing to follow.
HANDFUL = 8
# A probe that gets this many right leaves tuning little to win.
NEARLY_ALL = 0.98
# Longer than this, and people would rather wait for something simpler first.
LONG_MINUTES = 30.0
# The largest class beside the smallest. Below, accuracy hardly suffers (Buda et al. 2018).
UNEVEN, VERY_UNEVEN = 3.0, 50.0
# Long side to short: what is above 16:9 loses nearly half of itself to a middle square.
WIDE = 1.8
# Photos smaller than this share of the backbone's size are blown up for nothing but time.
SMALL, STEP = 0.6, 32
HEAD_EPOCHS, HEAD_EPOCHS_OF_MANY = 40, 15
# Those of the preset balanced; and BiT-HyperRule's shortest schedule (Kolesnikov et al. 2020).
EPOCHS, STEPS = 4, 500
BIT = "BiT-HyperRule, Kolesnikov et al. 2020"
MIRRORED = re.compile(r"\d+|[a-z]|.*(?<![a-z])(left|right|counter-?clockwise|clockwise)(?![a-z]).*")


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset before anything is trained on it.

    images: of the training part. per_class: the least, the middle and the most images of a class.
    likeness: in words, "much like everyday photos"; alike: whether they are those. aspect, side:
    the middle ratio of long to short side, and the middle short side in pixels. backbone_side:
    what the backbone was trained on; any_side: whether it takes others. accuracy: of the linear
    probe, 0–1. minutes: what techniques would take on this machine, where that was measured.
    """

    images: int
    per_class: tuple[int, int, int]
    classes: tuple[str, ...]
    likeness: str
    alike: bool
    aspect: float
    side: int
    backbone_side: int = 224
    any_side: bool = True
    accuracy: float = 0.0
    technique: str = ""
    minutes: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_frozen(self) -> bool:
        """Whether only a head learns."""
        return self.technique == "feature_extraction"

    @property
    def ratio(self) -> float:
        """How many times more images the largest class has than the smallest."""
        return self.per_class[2] / max(1, self.per_class[0])

    @property
    def amount(self) -> str:
        """How many images, in a word."""
        return "few" if self.images < FEW else "many" if self.images >= MANY else "some"

    @property
    def smaller_side(self) -> int:
        """The photos' own size, rounded up to what convolutions halve evenly."""
        return max(2 * STEP, -(-self.side // STEP) * STEP)

    @property
    def blown_up(self) -> float:
        """How many times more pixels the backbone's own size has."""
        return (self.backbone_side / self.smaller_side) ** 2

    @property
    def mirrored(self) -> list[str]:
        """Class names that a mirror image may not keep: letters, numerals, sides."""
        return [name for name in self.classes if MIRRORED.fullmatch(name.strip().lower())]

    def takes_long(self, technique: str) -> bool:
        """Whether a technique was found to take too long here."""
        return self.minutes.get(technique, 0.0) > LONG_MINUTES


@dataclass(frozen=True)
class Proposal:
    """A value for a recipe field, why, and who says so."""

    field: str
    value: Any
    reason: str
    source: str


@dataclass(frozen=True)
class Rule:
    """If `applies`, `value` for `field`; `reason` may name facts in braces, as {f.images}."""

    field: str
    value: Any  # or a function of the facts
    applies: Callable[[Facts], bool]
    reason: str
    source: str

    def proposal(self, facts: Facts) -> Proposal:
        """What the rule says of these facts."""
        value = self.value(facts) if callable(self.value) else self.value
        return Proposal(self.field, value, self.reason.format(f=facts), self.source)


# Of several rules for one field the first that applies speaks.
FIT = (
    Rule(
        "image.fit", "letterbox", lambda f: f.aspect >= WIDE,
        "Half of your photos are at least {f.aspect:.1f} times as long as they are wide: a middle "
        "square would cut most of them off.",
        "shapes of your photos",
    ),
    Rule(
        "image.fit", "crop", lambda f: True,
        "Your photos are nearly as wide as they are high ({f.aspect:.1f} : 1), so that the middle "
        "square shows most of them, as when the backbone was trained.",
        "shapes of your photos",
    ),
)  # fmt: skip
TECHNIQUE = (
    Rule(
        "technique.name", "feature_extraction", lambda f: f.per_class[1] < HANDFUL,
        "With {f.per_class[1]} images in the middle class, more than a head would be learned by "
        "heart.",
        "Kumar et al. 2022",
    ),
    Rule(
        "technique.name", "feature_extraction", lambda f: f.accuracy >= NEARLY_ALL,
        "A linear classifier on the frozen backbone already gets {f.accuracy:.1%} right, so that "
        "tuning could win little.",
        "measured on your images",
    ),
    Rule(
        "technique.name", "feature_extraction", lambda f: f.images < FEW and f.alike,
        "{f.images:,} training images are few, and they are {f.likeness}: the backbone knows such "
        "pictures better than so few images could teach it.",
        "Yosinski et al. 2014; Kumar et al. 2022; on 200 photos of ants and bees tuning was no "
        "better",
    ),
    Rule(
        "technique.name", "finetune", lambda f: not f.alike and not f.takes_long("finetune"),
        "Your images are {f.likeness}, and a frozen backbone gets {f.accuracy:.1%} right: what it "
        "learned elsewhere must be adapted.",
        "Kornblith et al. 2019; on 1,400 photos of hand signs tuning raised 94 % to over 99 %",
    ),
    Rule(
        "technique.name", "finetune", lambda f: not f.takes_long("finetune"),
        "{f.images:,} training images are enough to adapt all layers, and a frozen backbone gets "
        "{f.accuracy:.1%} right.",
        "Kornblith et al. 2019",
    ),
    Rule(
        "technique.name", "last_stages", lambda f: not f.takes_long("last_stages"),
        "Tuning all layers would take {f.minutes[finetune]:.0f} minutes on this machine; the last "
        "stages, on what the frozen ones put out once, take a fraction of that.",
        "measured on this machine; Yosinski et al. 2014",
    ),
    Rule(
        "technique.name", "feature_extraction", lambda f: True,
        "Tuning even the last stages would take {f.minutes[last_stages]:.0f} minutes on this "
        "machine; features are computed once.",
        "measured on this machine",
    ),
)  # fmt: skip
# These may ask which technique was chosen.
OTHERS = (
    Rule(
        "image.size", lambda f: f.smaller_side,
        lambda f: not f.is_frozen and f.any_side and f.side < SMALL * f.backbone_side,
        "Your photos are {f.side} pixels high or wide: blown up to {f.backbone_side} they would "
        "show no more and take {f.blown_up:.1f} times as long.",
        "sizes of your photos",
    ),
    Rule(
        "image.size", "auto", lambda f: True,
        "The size at which the backbone was trained shows things as large as it knows them.",
        "Touvron et al. 2019",
    ),
    Rule(
        "augmentation.policy", "none", lambda f: f.is_frozen,
        "A frozen backbone looks at every image once, as it is.",
        "computed once, kept on the disk",
    ),
    Rule(
        "augmentation.policy", "none", lambda f: f.technique == "last_stages",
        "Without random changes the frozen stages are passed only once, and every step after that "
        "is about four times as fast.",
        "measured with EfficientNet-Lite0 on two cores",
    ),
    Rule(
        "augmentation.policy", "medium", lambda f: f.images < FEW,
        "{f.images:,} training images are few, and each should look different every time.",
        "Shorten and Khoshgoftaar 2019",
    ),
    Rule(
        "augmentation.policy", "light", lambda f: True,
        "Gentle changes suit nearly everything; strong ones need many more epochs.",
        BIT,
    ),
    Rule(
        "augmentation.horizontal_flip", 0.0,
        lambda f: f.technique in ("finetune", "gradual") and bool(f.mirrored),
        "The class {f.mirrored[0]} may be a letter, a numeral or a side, whose mirror image means "
        "something else.",
        "names of your classes",
    ),
    Rule(
        "balance.method", "class_weights", lambda f: f.is_frozen and f.ratio >= UNEVEN,
        "The largest class has {f.ratio:.0f} times as many images as the smallest: mistakes on "
        "rare classes should cost more.",
        "King and Zeng 2001; Buda et al. 2018",
    ),
    Rule(
        "balance.method", "oversample", lambda f: f.ratio >= UNEVEN,
        "The largest class has {f.ratio:.0f} times as many images as the smallest; rare ones are "
        "shown more often, each time changed at random.",
        "Buda et al. 2018",
    ),
    Rule(
        "balance.method", "none", lambda f: True,
        "The classes are of similar size: the largest has {f.ratio:.1f} times as many images as "
        "the smallest.",
        "Buda et al. 2018",
    ),
    Rule(
        "balance.strength", 0.5, lambda f: f.ratio >= VERY_UNEVEN,
        "All the way to equal classes would repeat a few images {f.ratio:.0f} times; the square "
        "root is safer.",
        "Mahajan et al. 2018",
    ),
    Rule(
        "schedule.epochs", HEAD_EPOCHS_OF_MANY, lambda f: f.is_frozen and f.images >= MANY,
        "With {f.images:,} images every epoch takes many steps.",
        "learning curves of linear heads here",
    ),
    Rule(
        "schedule.epochs", HEAD_EPOCHS, lambda f: f.is_frozen,
        "On kept features an epoch takes a fraction of a second, so that there may be many.",
        "measured: the preset quick",
    ),
    Rule(
        "schedule.epochs", EPOCHS, lambda f: True,
        "Pretrained layers need few rounds, and more of them are a long wait for little.",
        "measured: the preset balanced",
    ),
    Rule(
        "schedule.min_steps", STEPS, lambda f: not f.is_frozen,
        f"Where images are few an epoch is short; under {STEPS} steps tuning ends before it pays.",
        BIT,
    ),
    Rule(
        "stopping.patience", 0, lambda f: not f.is_frozen,
        "The learning rate falls to zero along a cosine, so that the last epochs are mostly the "
        "best; the best one is kept in any case.",
        "Loshchilov and Hutter 2017",
    ),
    Rule(
        "regularization.dropout", 0.2, lambda f: not f.is_frozen and f.images < FEW,
        "{f.images:,} training images are soon known by heart.",
        "Srivastava et al. 2014",
    ),
)  # fmt: skip


def first(rules: Iterable[Rule], facts: Facts) -> list[Proposal]:
    """What the first rule that applies says of each field."""
    spoken: dict[str, Proposal] = {}
    for rule in rules:
        if rule.field not in spoken and rule.applies(facts):
            spoken[rule.field] = rule.proposal(facts)
    return list(spoken.values())


def propose(facts: Facts) -> list[Proposal]:
    """A proposal for each field that there is a rule for, the technique first."""
    (technique,) = first(TECHNIQUE, facts)
    return [technique, *first((*FIT, *OTHERS), replace(facts, technique=technique.value))]


def summary(facts: Facts) -> str:
    """The data and what follows from it, in one sentence."""
    what = {
        "feature_extraction": "keep the backbone frozen and train a head on it",
        "last_stages": "tune the last stages",
        "finetune": "tune all layers gently",
    }[facts.technique]
    return (
        f"{facts.amount.capitalize()} images ({facts.images:,} to learn from, "
        f"{facts.per_class[1]} in the middle class), {facts.likeness}: {what}."
    )
