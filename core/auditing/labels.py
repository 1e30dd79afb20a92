"""Labels that are probably wrong: what a probe makes of each image that it has not learned from.

A linear probe on the features of a frozen backbone, five folds, copies kept on one side; its
calibrated probabilities go to confident learning (Northcutt, Jiang and Chuang 2021), as the library
cleanlab has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.auditing.findings import Finding, Group
from core.auditing.outliers import nearest_of
from core.evaluation import calibration
from core.machine import late_pandas as pd
from core.models import probe

# Penalties of the ridge that are tried, as shares of the features' total variance.
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
# Below this share of labels that the probe agrees with, it is too weak to accuse anybody: only
# labels less probable than SURE are named. Measured on textiles that it tells apart to 79 %:
# confident learning alone would have named 13 % of labels that are all right.
TRUSTED, SURE = 0.8, 0.05
# What confident learning accuses is left out where the label is more than this share as probable
# as the best one.
SMALLEST = 1e-7
LEAST_DOUBT = 0.25
SMALLEST_CLASS = 5
# One number, the temperature, is told from as many images as surely as from all.
MOST_FOR_HEAT = 10_000
# Of more probabilities (images times classes) cleanlab goes through a part at a time and names as
# many labels as it estimates to be wrong, the least probable ones, instead of so many a class.
MOST_AT_ONCE = 20_000_000
NEAREST = 4
BLOCK = 1024


def folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each image, N int64: classes spread evenly, a group on one side.

    groups: N text, "" for an image that stands alone.
    """
    own = np.where(groups == "", np.arange(len(groups)).astype(str), np.char.add("g", groups))
    _, first, member = np.unique(own, return_index=True, return_inverse=True)
    return np.asarray(probe.folds(labels[first], seed)[member])


def probabilities(
    vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int
) -> np.ndarray:
    """Probability of each class for each image by a probe that has not learned from it: N×C.

    vectors: N×F, see `seen.unit`. labels: N int64, each class of 0…C-1 there.
    The probe is ridge regression on one-hot classes (Rifkin, Yeo and Poggio 2003), its penalty the
    one with the least squared error; a temperature makes its scores probabilities (Guo et al.
    2017), so that they mean what they say.
    """
    scores = out_of_fold(vectors, labels, folds(labels, groups, seed))
    some = np.random.default_rng(seed).permutation(len(labels))[:MOST_FOR_HEAT]
    heat = calibration.temperature(scores[some], labels[some])
    for start in range(0, len(labels), BLOCK):  # In place, for N×C may be gigabytes.
        block = slice(start, start + BLOCK)
        scores[block] = np.exp(calibration.log_softmax(scores[block], heat))
    return scores


def out_of_fold(vectors: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Ridge regression's scores for each image when its fold is left out of the fit: N×C.

    Only sums over images are solved, F×F, whatever their number; scores are kept for the chosen
    penalty alone, since N×C may be gigabytes.
    """
    n, classes = len(labels), int(labels.max()) + 1
    means = np.bincount(labels, minlength=classes) / n
    both, with_targets = vectors.T @ vectors, sums(vectors, labels, means)
    total = float(np.trace(both))
    solved = {}
    errors = np.zeros(len(STRENGTHS))
    for part in np.unique(parts):
        own = parts == part
        rows, true = vectors[own], labels[own]
        squares, axes = np.linalg.eigh((both - rows.T @ rows).astype(np.float64))
        learned = axes.T @ (with_targets - sums(rows, true, means))
        solved[part] = (squares, axes, learned)
        for place, share in enumerate(STRENGTHS):
            weights = fitted(*solved[part], share * total)
            errors[place] += squared_error(rows, true, weights, means)
    share = STRENGTHS[int(np.argmin(errors))]
    scores = np.empty((n, classes), dtype=np.float32)
    for part, fit in solved.items():
        scores[parts == part] = vectors[parts == part] @ fitted(*fit, share * total)
    return scores


def sums(vectors: np.ndarray, labels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Features times one-hot classes less their means, F×C, without making N×C.

    vectors: N×F. labels: N int64. means: the share of each class in all images, C.
    """
    of_class = np.zeros((len(means), vectors.shape[1]))
    np.add.at(of_class, labels, vectors)
    return np.asarray(of_class.T - np.outer(vectors.sum(axis=0, dtype=np.float64), means))


def fitted(
    squares: np.ndarray, axes: np.ndarray, learned: np.ndarray, penalty: float
) -> np.ndarray:
    """Weights of the ridge F×C float32, from the eigenvalues and axes of what it learned from."""
    shrunk = learned / (np.maximum(squares, 0) + penalty / len(squares))[:, None]
    return np.asarray((axes @ shrunk).astype(np.float32))


def squared_error(
    vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray, means: np.ndarray
) -> float:
    """Summed over images and classes, a block of images at a time."""
    error = 0.0
    for start in range(0, len(labels), BLOCK):
        true = labels[start : start + BLOCK]
        apart = vectors[start : start + BLOCK] @ weights + means.astype(np.float32)
        apart[np.arange(len(true)), true] -= 1
        error += float((apart**2).sum())
    return error


def suspects(probable: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows whose label is probably wrong, the least probable label first.

    probable: N×C, out of fold and calibrated. labels: N int64.
    """
    own, best = probable[np.arange(len(labels)), labels], probable.max(axis=1)
    differs = probable.argmax(axis=1) != labels
    if differs.mean() > 1 - TRUSTED:
        accused = differs & (own < SURE)
    else:
        found = confidently_wrong(probable, labels)
        accused = differs & (found & (own < LEAST_DOUBT * best) | (own < SURE))
    rows = np.flatnonzero(accused)
    return np.asarray(rows[np.argsort(own[rows], kind="stable")])


def confidently_wrong(probable: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What confident learning finds: N bool."""
    if probable.size > MOST_AT_ONCE:
        from cleanlab.experimental.label_issues_batched import find_label_issues_batched

        return np.asarray(
            find_label_issues_batched(labels, probable, verbose=False, return_mask=True)
        )
    from cleanlab.filter import find_label_issues

    return np.asarray(find_label_issues(labels, probable, filter_by="prune_by_class", n_jobs=1))


@dataclass(frozen=True)
class Said:
    """What models that had not seen them say of some images: N names, their C classes, N×C."""

    by: str
    names: np.ndarray
    classes: tuple[str, ...]
    probabilities: np.ndarray

    def over(self, probable: np.ndarray, names: np.ndarray, classes: np.ndarray) -> int:
        """Put it in the place of a probe's word M×K, where there is one; of how many images."""
        numbers = pd.Index(self.classes).get_indexer(pd.Index(classes))
        place = pd.Index(self.names).get_indexer(pd.Index(names))
        rows = np.flatnonzero(place >= 0)
        if (numbers < 0).any() or not len(rows):
            return 0
        values = self.probabilities[place[rows]][:, numbers] + SMALLEST
        probable[rows] = values / values.sum(axis=1, keepdims=True)
        return len(rows)


def found(
    names: np.ndarray, given: np.ndarray, vectors: np.ndarray, copies: np.ndarray, seed: int,
    said: Said | None = None,
) -> tuple[list[Finding], list[str]]:  # fmt: skip
    """The finding about labels, if there is one, and what could not be judged.

    names, given: name and label of each image, N text. vectors: N×F, each of length 1. copies: the
    group of copies of each image, N text, "" for none. said: counts more than the quick probe.
    """
    classes, numbers, counts = np.unique(given, return_inverse=True, return_counts=True)
    large = counts >= SMALLEST_CLASS
    notes = []
    if not large.all():
        notes.append(
            f"Labels of {listed(classes[~large])} were not judged: a class needs {SMALLEST_CLASS} "
            "images for that."
        )
    if large.sum() < 2:
        return [], notes
    rows = np.flatnonzero(large[numbers])
    classes, numbers = np.unique(given[rows], return_inverse=True)
    names, vectors = names[rows], vectors[rows]
    probable = probabilities(vectors, numbers, copies[rows], seed)
    if said is not None:
        judged = said.over(probable, names, classes)
        notes.append(f"{judged:,} labels were judged by {said.by}.")
    agreed = float((probable.argmax(axis=1) == numbers).mean())
    if agreed < TRUSTED:
        notes.append(
            f"Only {agreed:.0%} of labels can be told from the images in this quick way, so that "
            "only labels that are very improbable are named."
        )
    wrong = suspects(probable, numbers)
    groups = doubts(wrong, names, classes, numbers, vectors, probable)
    return ([Finding("label_error", tuple(groups))] if groups else []), notes


def listed(names: np.ndarray) -> str:
    """Some names in a sentence."""
    more = f" and {len(names) - 5} more classes" if len(names) > 5 else ""
    return ", ".join(map(str, names[:5])) + more


def doubts(
    wrong: np.ndarray,
    names: np.ndarray,
    classes: np.ndarray,
    numbers: np.ndarray,
    vectors: np.ndarray,
    probable: np.ndarray,
) -> list[Group]:
    """Each doubtful image with the class it probably is and the nearest images of that class."""
    trusted = np.ones(len(names), dtype=bool)
    trusted[wrong] = False
    groups = []
    for row in wrong:
        own, best = int(numbers[row]), int(probable[row].argmax())
        near = nearest_of(vectors, row, np.flatnonzero(trusted & (numbers == best)), NEAREST)
        about = (
            f"labelled {classes[own]} ({percent(probable[row, own])} probable), "
            f"looks like {classes[best]} ({percent(probable[row, best])})"
        )
        beside = tuple(map(str, names[near]))
        groups.append(Group((str(names[row]),), about, to=str(classes[best]), near=beside))
    return groups


def percent(probability: float) -> str:
    """A probability in words; never 0 % nor 100 %, since nothing learned is certain."""
    if probability < 0.01:
        return "under 1 %"
    return "over 99 %" if probability > 0.99 else f"{probability:.0%}"
