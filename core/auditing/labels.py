"""Labels that are probably wrong: what a probe makes of each image that it has not learned from.

A linear probe on the features of a frozen backbone, five folds, copies kept on one side; its
calibrated probabilities go to confident learning (Northcutt, Jiang and Chuang 2021), as the library
cleanlab has it.
"""

from __future__ import annotations

import numpy as np

from core.auditing.findings import Finding, Group
from core.auditing.outliers import nearest_of
from core.evaluation import calibration
from core.models import probe

# Penalties of the ridge that are tried, as shares of the features' total variance.
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
# Below this share of labels that the probe agrees with, it is too weak to accuse anybody: only
# labels less probable than SURE are named. Measured on textiles that it tells apart to 79 %:
# confident learning alone would have named 13 % of labels that are all right.
TRUSTED, SURE = 0.8, 0.05
# What confident learning accuses is left out where the label is more than this share as probable
# as the best one.
LEAST_DOUBT = 0.25
SMALLEST_CLASS = 5
NEAREST = 4


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
    heat = calibration.temperature(scores, labels)
    return np.asarray(np.exp(calibration.log_softmax(scores, heat)))


def out_of_fold(vectors: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Ridge regression's scores for each image when its fold is left out of the fit: N×C.

    Only sums over images are solved, F×F, whatever their number.
    """
    targets = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    targets -= targets.mean(axis=0)
    both, with_targets = vectors.T @ vectors, vectors.T @ targets
    total = float(np.trace(both))
    tried = np.empty((len(STRENGTHS), *targets.shape), dtype=np.float32)
    for part in np.unique(parts):
        rows = vectors[parts == part]
        squares, axes = np.linalg.eigh((both - rows.T @ rows).astype(np.float64))
        learned = axes.T @ (with_targets - rows.T @ targets[parts == part])
        for place, share in enumerate(STRENGTHS):
            shrunk = learned / (np.maximum(squares, 0) + share * total / len(squares))[:, None]
            tried[place][parts == part] = rows @ (axes @ shrunk)
    errors = [float(((scores - targets) ** 2).sum()) for scores in tried]
    return np.asarray(tried[int(np.argmin(errors))])


def suspects(probable: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows whose label is probably wrong, the least probable label first.

    probable: N×C, out of fold and calibrated. labels: N int64.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    own, best = probable[np.arange(len(labels)), labels], probable.max(axis=1)
    differs = probable.argmax(axis=1) != labels
    if differs.mean() > 1 - TRUSTED:
        accused = differs & (own < SURE)
    else:
        found = find_label_issues(labels, probable, filter_by="prune_by_class", n_jobs=1)
        accused = differs & (found & (own < LEAST_DOUBT * best) | (own < SURE))
    quality = get_label_quality_scores(labels, probable, method="self_confidence")
    rows = np.flatnonzero(accused)
    return np.asarray(rows[np.argsort(quality[rows], kind="stable")])


def found(
    names: np.ndarray, given: np.ndarray, vectors: np.ndarray, copies: np.ndarray, seed: int
) -> tuple[list[Finding], list[str]]:
    """The finding about labels, if there is one, and what could not be judged.

    names, given: name and label of each image, N text. vectors: N×F, each of length 1. copies: the
    group of copies of each image, N text, "" for none.
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
        best = int(probable[row].argmax())
        near = nearest_of(vectors, row, np.flatnonzero(trusted & (numbers == best)), NEAREST)
        groups.append(
            Group(
                (str(names[row]),),
                f"labelled {classes[numbers[row]]} ({probable[row, numbers[row]]:.0%} probable), "
                f"looks like {classes[best]} ({probable[row, best]:.0%})",
                to=str(classes[best]),
                near=tuple(map(str, names[near])),
            )
        )
    return groups
