"""What is done so that rare classes are learned as well as common ones, one method at a time.

A method draws other images for an epoch, weighs the loss, or makes new features; `METHODS` says
which. `strength` s moves the counts n_c, or their weights, toward equality as n_c^(1 - s).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.data.augment import strengthened
from core.data.loader import training_order
from core.schema import Augmentation, Balance, Recipe

# The exponent of focal loss that its authors found best (Lin et al. 2017).
FOCUS = 2.0
# An image is never more certain than this: with γ < 1 the slope of (1 - p)^γ has no end at p = 1.
SMALLEST_DOUBT = 1e-6
# How much stronger the changes to images of the rarest class are, at most: with twice the strong
# policy a person no longer knows some of the pictures.
MOST_STRENGTHENED = 1.5
# A class with less than this share of the largest one's images is rare.
RARE = 0.6
# Of all images, one in so many is changed as much as those of the rarest class.
ONE_IN = 4
NEIGHBORS = 5
FLIPS = ("horizontal_flip", "vertical_flip")


@dataclass(frozen=True)
class Method:
    """toward: the count that all classes are brought to, from the counts that there are.

    weighted: whether the loss weighs classes. focused: whether it weighs hard images.
    augmented: whether rare classes are changed more. on_features: whether features are made.
    """

    toward: Callable[[np.ndarray], float] | None = None
    weighted: bool = False
    focused: bool = False
    augmented: bool = False
    on_features: bool = False


METHODS: dict[str, Method] = {
    "none": Method(),
    "class_weights": Method(weighted=True),
    "focal": Method(weighted=True, focused=True),
    "oversample": Method(toward=np.max),
    "undersample": Method(toward=np.min),
    "augment_minority": Method(toward=np.max, augmented=True),
    "smote": Method(toward=np.max, on_features=True),
}


def counts_of(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Images of each class: C int64."""
    return np.bincount(labels, minlength=n_classes)


def wanted(counts: np.ndarray, balance: Balance) -> np.ndarray:
    """How many images of each class an epoch holds: C int64; absent classes stay absent."""
    toward = METHODS[balance.method].toward
    if toward is None or not counts.any():
        return counts
    present = counts > 0
    goal = float(toward(counts[present]))
    mixed = np.where(present, counts, 1) ** (1 - balance.strength) * goal**balance.strength
    return np.where(present, np.maximum(1, np.rint(mixed)), 0).astype(np.int64)


def positions(
    labels: np.ndarray, n_classes: int, balance: Balance, rng: np.random.Generator
) -> np.ndarray:
    """Which images an epoch is made of, as positions in `labels`, in no special order.

    Each class has as many as `wanted` says: every image as often as whole rounds allow, and of the
    rest a random part, another one in each epoch.
    """
    counts = counts_of(labels, n_classes)
    goals = wanted(counts, balance)
    if (goals == counts).all() or METHODS[balance.method].on_features:
        return np.arange(len(labels))
    chosen = []
    for number in np.nonzero(counts)[0]:
        own = np.nonzero(labels == number)[0]
        rounds, rest = divmod(int(goals[number]), len(own))
        chosen += [np.tile(own, rounds), rng.permutation(own)[:rest]]
    return np.concatenate(chosen)


def order(
    labels: np.ndarray, n_classes: int, recipe: Recipe, batch: int, epoch: int
) -> list[np.ndarray]:
    """The images of one epoch as positions in `labels`, in random order, cut into steps."""
    rng = np.random.default_rng([recipe.seed, epoch, len(labels)])
    drawn = positions(labels, n_classes, recipe.balance, rng)
    per_step = batch * recipe.compute.accumulate
    return [drawn[step] for step in training_order(len(drawn), per_step, recipe.seed, epoch)]


def class_weights(counts: np.ndarray, balance: Balance) -> np.ndarray:
    """The weight of each class in the loss: C float64, 1 on average over the images."""
    present = np.maximum(counts, 1).astype(float)
    if not METHODS[balance.method].weighted:
        return np.ones(len(counts))
    raw = present**-balance.strength
    return np.asarray(raw * counts.sum() / max(1e-12, float((raw * counts).sum())))


def synthesized(
    features: np.ndarray, labels: np.ndarray, n_classes: int, balance: Balance, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features N×F and labels N with SMOTE's added (Chawla et al. 2002; imbalanced-learn).

    A class with one image has no neighbor to go toward: its image is repeated.
    """
    if not METHODS[balance.method].on_features:
        return features, labels
    from imblearn.over_sampling import SMOTE, RandomOverSampler

    counts = counts_of(labels, n_classes)
    goals = wanted(counts, balance)
    alone = {k: 2 for k in np.nonzero((counts == 1) & (goals > 1))[0]}
    if alone:
        repeat = RandomOverSampler(sampling_strategy=alone, random_state=seed)
        features, labels = repeat.fit_resample(features, labels)
    counts = counts_of(labels, n_classes)
    for n_neighbors, rare in groups(counts, goals):
        smote = SMOTE(sampling_strategy=rare, k_neighbors=n_neighbors, random_state=seed)
        features, labels = smote.fit_resample(features, labels)
    return features.astype(np.float32), labels.astype(np.int64)


def groups(counts: np.ndarray, goals: np.ndarray) -> list[tuple[int, dict[int, int]]]:
    """The classes to fill up, with their goals, by the number of neighbors that they have."""
    found: dict[int, dict[int, int]] = {}
    for k in np.nonzero(goals > counts)[0]:
        found.setdefault(min(NEIGHBORS, int(counts[k]) - 1), {})[int(k)] = int(goals[k])
    return sorted(found.items())


def augmentation_of(
    augmentation: Augmentation, labels: np.ndarray, n_classes: int, balance: Balance
) -> list[Augmentation]:
    """How images of each class are changed: C settings, all the same unless the method differs.

    Rare classes begin from at least the medium policy: the same few pictures again and again,
    hardly changed, would be learned by heart. What was set by hand stays, and so do flips, which
    know whether a mirror image is another class.
    """
    if not METHODS[balance.method].augmented:
        return [augmentation] * n_classes
    counts = np.maximum(counts_of(labels, n_classes), 1)
    extra = balance.strength * (1 - counts / counts.max()) * (MOST_STRENGTHENED - 1)
    rare = counts < RARE * counts.max()
    bases = [lively(augmentation) if one else augmentation for one in rare]
    return [
        strengthened(base, 1 + more) if more > 0 else augmentation
        for base, more in zip(bases, extra, strict=True)
    ]


def changes(
    usual: Augmentation, labels: np.ndarray, n_classes: int, balance: Balance
) -> Callable[[int, int, int], Augmentation]:
    """How an image is changed, by its class, a number of its own, and how often it came before.

    Images of rare classes come several times in an epoch: every second time they are changed as
    `augmentation_of` says, else as usual; and one in four of all images is changed as the rarest
    class is. Otherwise how much a picture is changed would tell its class: measured, that made the
    rare class less well known than without any of this.
    """
    by_class = augmentation_of(usual, labels, n_classes, balance)
    counts = counts_of(labels, n_classes)
    rarest = by_class[int(np.argmin(np.where(counts > 0, counts, counts.max() + 1)))]

    def of(label: int, number: int, turn: int) -> Augmentation:
        if turn % 2:
            return by_class[label]
        return rarest if number % ONE_IN == 0 else usual

    return of


def lively(augmentation: Augmentation) -> Augmentation:
    """The medium policy in the place of none or light, with what was set by hand beside those."""
    if augmentation.policy not in ("none", "light"):
        return augmentation
    usual = Augmentation(policy=augmentation.policy)
    kept = {
        name: value
        for name, value in augmentation.model_dump(exclude={"policy"}).items()
        if value != getattr(usual, name) or name in FLIPS
    }
    return Augmentation(**{"policy": "medium", **kept})


class Loss(nn.Module):
    """Cross-entropy with class weights, doubt about the labels and a focus on hard images.

    With focus γ each image's loss is multiplied by (1 - p)^γ, p being the probability that its true
    class has now (Lin et al. 2017). Targets are class numbers, B int64, or shares, B×C float.

    Without weights it is torch's CrossEntropyLoss. With them, all of an image's loss counts as much
    as its own class: torch weighs the doubt by the classes that it falls on, which would teach to
    name rare classes, and divides shares by the number of images.
    """

    def __init__(self, weights: Tensor, label_smoothing: float, focus: float) -> None:
        """weights: of the classes, C float32."""
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", weights)
        self.label_smoothing = label_smoothing
        self.focus = focus

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, weighted: images of heavy classes count more in it."""
        shares = targets
        if targets.ndim == 1:
            shares = functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        weight = shares @ self.weights
        smooth = shares * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        logs = functional.log_softmax(logits, dim=1)
        losses = -(smooth * logs).sum(dim=1)
        if self.focus:
            doubt = 1 - (shares * logs.exp()).sum(dim=1)
            losses = losses * doubt.clamp_min(SMALLEST_DOUBT) ** self.focus
        return (losses * weight).sum() / weight.sum()


def loss_of(
    counts: np.ndarray, balance: Balance, label_smoothing: float, device: torch.device
) -> Loss:
    """What is made small, for a training whose classes have these counts."""
    weights = torch.tensor(class_weights(counts, balance), dtype=torch.float32)
    focus = FOCUS * balance.strength if METHODS[balance.method].focused else 0.0
    return Loss(weights, label_smoothing, focus).to(device)
