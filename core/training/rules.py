"""The doctor's rules: each looks at a History and says one thing, with a change, or nothing.

Thresholds are chosen so that a sound training on 30 validation images, where one image is 3 %, is
left in peace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from core.schema import Recipe
from core.storage import Json
from core.training import remedies
from core.training.events import EpochEnded, Note
from core.training.history import History, column, jitter, number, smooth

# Fewer epochs than this show no course, only a start.
ENOUGH_EPOCHS = 4
# A single leap is no harm; this many, and this share of all, are a habit.
LEAPS, SHARE_OF_LEAPS = 3, 0.02
# Training loss falls, in a sound training, but for luck: to rise by half again is none, if it is
# also a good part of the loss of guessing.
RISE, RISE_OF_GUESSING = 1.5, 0.25
# The first epochs after the head's: what they destroy was learned on a million photos.
FIRST_EPOCHS, FORGOTTEN = 3, 0.1
# So much of the loss at the start is there still, at the end and before it: little was learned.
STILL_THERE, MUCH_STILL_THERE = 0.5, 0.8
# With steps that are too short, the loss falls in a straight line (correlation) and the second half
# of the way brings about as much as the first one. Measured on hymenoptera with lite0 at 96 px.
STRAIGHT, EVEN = 0.98, 0.6
# Steps of a useful length move the loss by more than this share, up or down. There, with a rate of
# 0.0002, it moved by four times its first value; with 0.000001 by 5 %.
STUCK = 0.1
# Training images are as good as learned: more of the same brings nothing.
WELL_LEARNED = 0.99
# A share by which a loss falls that is still going on.
FALLING = 0.02
# Both accuracies below this leave something to learn, whatever the images.
UNDERFITTED = 0.85
# Validation loss this many times its lowest value, and this much above it. A head on few images
# grows more certain all the time and its loss by a fifth; that costs no accuracy.
OVERFIT_RISE, LEAST_RISE = 1.3, 0.05
# In so many epochs in a row: one bad epoch is no trend.
OVERFIT_EPOCHS = 3
# And training loss by as much lower: else it is no learning by heart.
TRAINING_FALL = 0.8
# A rise this many times larger than the usual unrest of the curve is none of it.
BEYOND_JITTER = 3.0
# Epochs in which nothing moves before that is worth a word; the share that is no movement; a loss
# as good as none, of which any share is nothing.
PLATEAU_EPOCHS, FLAT, NOTHING = 10, 0.05, 0.02
# From this share of its peak on, a rate can still be lowered for something.
RATE_LEFT = 0.3
# Training images are changed and seen with dropout, so a gap of some percent is as it should be.
AUGMENTATION_GAP = 0.15
# A class is said to be never predicted if luck alone would do that less often than this.
LUCK = 0.01
# Epochs in a row for which a class is not predicted; before, the head has hardly begun.
UNSEEN_EPOCHS = 3
# Share of the time spent waiting that is worth a change, and reports before it can be judged.
WAITING, REPORTS = 0.3, 5
# With fewer validation images, one of them is more than 5 %.
FEW_VALIDATION = 20


def note(history: History, kind: str, text: str, *changes: Json, level: str = "warning") -> Note:
    """A rule's words with the first of the changes that gives another, valid recipe."""
    return Note(text, level, kind, remedies.first_valid(history.recipe, changes))


def rate_too_high(h: History) -> Note | None:
    """The loss leaps, rises, is no number any more, or the head start is lost."""
    slower = [remedies.rate(h, share) for share in (1 / 10, 1 / 3)]
    broken, kept = broken_at(h), f"epoch {h.best.epoch}" if h.best else "nothing"
    at = f"at a learning rate of {h.peak_rate:.2g}"
    if broken:
        return note(
            h, "rate_too_high",
            f"The loss stopped being a number in {broken}, {at}; training was ended and {kept} is "
            "kept. The steps were too long: take a tenth of that rate.", slower[0],
        )  # fmt: skip
    seen = leaps(h) or risen(h) or forgotten(h)
    if not seen:
        return None
    return note(
        h, "rate_too_high",
        f"{seen}, {at}. The steps are too long: take a third of that rate.", slower[1],
    )  # fmt: skip


def broken_at(h: History) -> str:
    """Where the loss was no number; "" if it always was one."""
    if h.steps.broken_at:
        return "epoch {}, step {}".format(*h.steps.broken_at)
    bad = [e for e in h.learned if not math.isfinite(number(e.val.get("loss")))]
    return f"validation after epoch {bad[0].epoch}" if bad else ""


def leaps(h: History) -> str:
    """Whether the training loss keeps jumping above that of guessing."""
    steps = h.steps
    if steps.overshot < max(LEAPS, SHARE_OF_LEAPS * steps.stretches):
        return ""
    return (
        f"The training loss leaped {steps.overshot} times far above that of guessing "
        f"({h.guessing:.2f}), to {steps.highest:.2f} at worst"
    )


def risen(h: History) -> str:
    """Whether the training loss of two epochs in a row is far above that of an earlier one."""
    losses = column(h.learned, "train", "loss")
    if len(losses) < 3:
        return ""
    # A mean over n images whose losses differ by about 1 is sure to one part in the root of n.
    luck = 3 / math.sqrt(max(1, h.images.get("train", 1)))
    low = np.minimum.accumulate(losses)
    least = np.maximum(RISE * low, low + max(RISE_OF_GUESSING * h.guessing, luck))
    worse = losses > least
    twice = np.nonzero(worse[1:] & worse[:-1])[0]
    if not len(twice):
        return ""
    after = int(twice[0]) + 1
    before = int(np.argmin(losses[: after + 1]))
    return (
        f"The training loss rose from {losses[before]:.2f} in epoch {h.learned[before].epoch} to "
        f"{losses[after]:.2f} in epoch {h.learned[after].epoch}"
    )


def forgotten(h: History) -> str:
    """Whether the first epochs of fine-tuning are clearly worse than the head they began with."""
    first = h.learned[:FIRST_EPOCHS]
    if h.recipe.is_frozen or not h.recipe.is_pretrained or not h.start or len(first) < 2:
        return ""
    was, now = h.start.val["accuracy"], float(column(first, "val", "accuracy").mean())
    training = float(column(first, "train", "accuracy").mean())
    # By luck the head may have looked better than it is, so the training images are asked too.
    if was - now < max(FORGOTTEN, h.chance(was, "val")) or was - training < FORGOTTEN:
        return ""
    return (
        f"Validation accuracy was {was:.0%} with the head alone and is {now:.0%} in the first "
        f"{len(first)} epochs: the backbone forgets what it knew"
    )


def rate_too_low(h: History) -> Note | None:
    """Little is learned, and as much at the end of the way as at its beginning."""
    done = h.learned
    if not h.start or len(done) < ENOUGH_EPOCHS or not (h.over or late(h)):
        return None
    losses = column([h.start, *done], "val", "loss")
    # Where the head has learned them, no step of any length finds more in these images.
    if not h.recipe.is_frozen and column(done, "train", "accuracy")[-3:].mean() > WELL_LEARNED:
        return None
    left = STILL_THERE if h.over else MUCH_STILL_THERE
    if not stuck(losses) and not (losses[-1] > left * losses[0] and evenly(done, losses)):
        return None
    return note(
        h, "rate_too_low",
        f"Validation loss went from {losses[0]:.2f} no further than {losses[-1]:.2f} in "
        f"{len(done)} epochs at a learning rate of {h.peak_rate:.2g}: learning has hardly begun. "
        "The steps are too short: take five times that rate.",
        remedies.rate(h, 5),
    )  # fmt: skip


def late(h: History) -> bool:
    """Whether half of the epochs are over."""
    return h.learned[-1].epoch >= h.learned[-1].epochs / 2


def evenly(done: Sequence[EpochEnded], losses: np.ndarray) -> bool:
    """Whether each stretch of the way lowers the loss as much as any other.

    The way is the sum of the learning rates: under a falling rate, later epochs go less far.
    losses: of validation, before the first epoch and after each.
    """
    rates = np.array([e.learning_rate for e in done])
    way = np.r_[0.0, np.cumsum((np.r_[rates[:1], rates[:-1]] + rates) / 2)]
    halfway = float(np.interp(way[-1] / 2, way, losses))
    first, second = losses[0] - halfway, halfway - losses[-1]
    straight = -float(np.corrcoef(way, losses)[0, 1]) if np.ptp(losses) else 0.0
    return straight > STRAIGHT and second >= EVEN * first


def stuck(losses: np.ndarray) -> bool:
    """Whether the network is as it was: the validation loss, always of the same images, is."""
    return bool(np.ptp(losses) < STUCK * losses[0])


def probe_was_best(h: History) -> Note | None:
    """Fine-tuning ended no better than the head it started from."""
    done = h.learned
    if not h.over or h.recipe.is_frozen or not h.recipe.is_pretrained or not h.start:
        return None
    if len(done) < ENOUGH_EPOCHS or h.best is not h.start:
        return None
    was, most = h.start.val["accuracy"], float(smooth(column(done, "val", "accuracy")).max())
    if most - was > h.chance(was, "val"):
        return None
    return note(
        h, "probe_was_best",
        "Fine-tuning did not improve on the head it began with, or by no more than luck: of "
        f"{h.images.get('val', 0)} validation images {was:.0%} were right before and {most:.0%} at "
        "best after. feature_extraction is as good here and takes seconds.",
        remedies.technique(h.recipe, "feature_extraction"), level="info",
    )  # fmt: skip


def augmentation_too_strong(h: History) -> Note | None:
    """Training images are recognized far less well than validation images."""
    done = h.learned
    if len(done) < ENOUGH_EPOCHS or incomparable(h.recipe) or not (h.over or late(h)):
        return None
    # Over an epoch training accuracy is a mean, so validation is taken from before and after it.
    validation = column(done, "val", "accuracy")
    validation = ((validation[1:] + validation[:-1]) / 2)[-3:].mean()
    training = column(done, "train", "accuracy")[-3:].mean()
    luck = h.chance(validation, "val") + h.chance(training, "train")
    if validation - training < max(AUGMENTATION_GAP, luck):
        return None
    return note(
        h, "augmentation_too_strong",
        f"The network gets {training:.0%} of the training images right and {validation:.0%} of the "
        "validation images, which are shown as they are: too much of the training images is "
        "changed or hidden, by augmentation or dropout. Make that weaker.",
        *remedies.gentler(h.recipe),
    )  # fmt: skip


def incomparable(recipe: Recipe) -> bool:
    """Whether training images are blends, or rare classes come more often than in validation."""
    return mixes(recipe) or recipe.balance.method in ("oversample", "undersample")


def mixes(recipe: Recipe) -> bool:
    """Whether training images are blends of several, which no network gets right."""
    return recipe.augmentation.mixup > 0 or recipe.augmentation.cutmix > 0


def underfitting(h: History) -> Note | None:
    """At the end not even the training images are learned."""
    done = h.learned
    if not h.over or len(done) < ENOUGH_EPOCHS or mixes(h.recipe):
        return None
    training = float(column(done, "train", "accuracy")[-3:].mean())
    validation = float(column(done, "val", "accuracy")[-3:].mean())
    if training + h.chance(training, "train") > UNDERFITTED or validation > UNDERFITTED:
        return None
    losses = smooth(column(done, "val", "loss"))
    falling = losses[-1] < (1 - FALLING) * losses[-1 - len(done) // 4]
    more = "It was still learning: give it more epochs" if falling else "Let it learn more freely"
    return note(
        h, "underfitting",
        f"At the end the network gets only {training:.0%} of its own training images right, and "
        f"{validation:.0%} of the validation images. {more}.",
        *remedies.freer(h.recipe, done[-1].epochs, longer=falling),
    )  # fmt: skip


def overfitting(h: History) -> Note | None:
    """Validation loss rises for good while training loss goes on falling."""
    done = h.learned
    if len(done) < ENOUGH_EPOCHS or (h.best is h.start and not h.recipe.is_frozen):
        return None
    raw, training = column(done, "val", "loss"), column(done, "train", "loss")
    losses = smooth(raw)
    low = int(np.argmin(losses))
    risen = losses[low] + max(
        (OVERFIT_RISE - 1) * losses[low], LEAST_RISE, BEYOND_JITTER * jitter(raw)
    )
    lately = raw[low + 1 :][-OVERFIT_EPOCHS:]
    if len(lately) < OVERFIT_EPOCHS or lately.min() < risen:
        return None
    if training[-1] > TRAINING_FALL * training[low]:
        return None
    return note(
        h, "overfitting",
        f"Since epoch {done[low].epoch} validation loss rose from {losses[low]:.2f} to "
        f"{losses[-1]:.2f} while training loss fell from {training[low]:.2f} to "
        f"{training[-1]:.2f}: the training images are being learned by heart. The best epoch is "
        "kept; next time hold the network back.",
        *remedies.stricter(h.recipe, done[low].epoch),
    )  # fmt: skip


def plateau(h: History) -> Note | None:
    """For many epochs neither loss has moved."""
    half = flat(h.learned, 0.5)
    learned = bool(half) and column(half, "train", "accuracy").mean() > WELL_LEARNED
    lower = bool(half) and not learned and rate_left(h, half)
    # A rate that has fallen ends in flat curves, as it should; only very long ones are a waste.
    recent = half if lower else flat(h.learned, 0.75) if h.over else []
    if not recent or h.stopped_early:
        return None
    since, losses = recent[0].epoch, [recent[-1].train["loss"], recent[-1].val["loss"]]
    advice = "Lower the rate when that happens." if lower else "Fewer epochs do as well."
    return note(
        h, "plateau",
        f"Since epoch {since} neither training nor validation loss has moved ({losses[0]:.2f} and "
        f"{losses[1]:.2f}). {advice}",
        *remedies.livelier(h.recipe, since, lower=lower), level="info",
    )  # fmt: skip


def flat(done: Sequence[EpochEnded], share: float) -> Sequence[EpochEnded]:
    """The last epochs, at least this share of all, if both losses stand still in them.

    That is to say that the halves of that time differ little, for what the loss is and for what it
    has fallen in all.
    """
    n = max(PLATEAU_EPOCHS, math.ceil(share * len(done)))
    recent = done[-n:]
    if len(done) < n + ENOUGH_EPOCHS:
        return []
    for part in ("train", "val"):
        losses = column(done, part, "loss")
        earlier, later = losses[-n : -(n // 2)].mean(), losses[-(n // 2) :].mean()
        least = min(max(earlier, NOTHING), max(np.ptp(losses), NOTHING))
        if abs(later - earlier) > FLAT * least:
            return []
    return recent


def rate_left(h: History, recent: Sequence[EpochEnded]) -> bool:
    """Whether the rate of some epochs is high enough that a lower one may find more."""
    mean = sum(e.learning_rate for e in recent) / len(recent)
    return h.recipe.schedule.name != "plateau" and mean > RATE_LEFT * h.peak_rate


def never_predicted(h: History) -> Note | None:
    """Some classes are given to no validation image, and more than luck would do."""
    epochs = h.learned[-UNSEEN_EPOCHS:]
    if h.over and h.best:
        epochs = [h.best]  # That is the one that will be used.
    elif len(epochs) < UNSEEN_EPOCHS:
        return None
    common = set.intersection(*(set(e.never_predicted) for e in epochs))
    unseen = sorted(k for k in common if k < len(h.classes))
    if not unseen or by_luck(h, epochs[-1], len(unseen)) > LUCK:
        return None
    first = ", ".join(h.classes[k] for k in unseen[:3])
    more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
    return note(
        h, "never_predicted",
        f"No validation image is ever classified as {first}{more}. Let rare classes count as much "
        "as common ones, or add photos of them.",
        *remedies.fairer(h.recipe),
    )  # fmt: skip


def by_luck(h: History, epoch: EpochEnded, n: int) -> float:
    """The chance that n classes or more go unpredicted though all are known equally well.

    Each of a class's images is missed with the same chance, and misses are counted as rare events
    (Poisson).
    """
    each = h.images.get("val", 0) / len(h.classes)
    expected: float = len(h.classes) * (1 - epoch.val["accuracy"]) ** each
    fewer = sum(expected**k / math.factorial(k) for k in range(min(n, 100)))
    return 1 - math.exp(-expected) * fewer


def slow_input(h: History) -> Note | None:
    """The network waits for its images."""
    total, reports = h.steps.waiting
    if reports < REPORTS or total / reports < WAITING:
        return None
    return note(
        h, "slow_input",
        f"For {total / reports:.0%} of the time the network waits for images to be prepared. "
        "Prepare them with more threads, or make that cheaper.",
        *remedies.faster(h.recipe), level="info",
    )  # fmt: skip


def few_validation(h: History) -> Note | None:
    """There are too few validation images to tell one epoch from another."""
    n = h.images.get("val", FEW_VALIDATION)
    if n >= FEW_VALIDATION or not h.learned:
        return None
    return note(
        h, "few_validation",
        f"With {n} validation images, one of them is {1 / n:.0%} of accuracy: which epoch looks "
        "best is largely luck. Keep more images back for validation, or add photos.",
        *([] if h.own_split else [remedies.more_validation(h.recipe)]), level="info",
    )  # fmt: skip
