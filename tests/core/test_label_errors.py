"""Wrong labels that were planted, and what is asked of those that find them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from core.auditing import labels, outliers, seen
from core.data import importing

SEED = 4


def clouds(n: int, apart: float, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Directions N×F of classes that lie `apart`, and their labels."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % classes
    return seen.unit(rng.normal(size=(n, 24)) + apart * np.eye(classes, 24)[truth]), truth


def planted(truth: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which some were changed to another class, and which were."""
    rng = np.random.default_rng(SEED)
    rows = rng.choice(len(truth), round(share * len(truth)), replace=False)
    classes = int(truth.max()) + 1
    given = truth.copy()
    given[rows] = (truth[rows] + rng.integers(1, classes, len(rows))) % classes
    wrong = np.zeros(len(truth), dtype=bool)
    wrong[rows] = True
    return given, wrong


def named(vectors: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Numbers of the images that the audit names."""
    names = np.arange(len(given)).astype(str)
    alone = np.full(len(given), "")
    found, _ = labels.found(names, given.astype(str), vectors, alone, 0)
    return np.array([int(group.names[0]) for one in found for group in one.groups], dtype=int)


@pytest.mark.parametrize("at_once", [labels.MOST_AT_ONCE, 0])
def test_planted_label_errors_are_found(at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(labels, "MOST_AT_ONCE", at_once)
    vectors, truth = clouds(400, apart=5.0)
    given, wrong = planted(truth, 0.05)
    rows = named(vectors, given)
    assert wrong[rows].sum() >= 0.8 * wrong.sum()
    assert wrong[rows].mean() >= 0.5


def test_planted_label_errors_are_found_among_real_photos(test_data: Path):
    dataset = importing.import_all(test_data / "data" / "sign-digits.zip")
    every = np.arange(len(dataset.table))
    looking = seen.features(dataset, every)
    try:
        while True:
            next(looking)
    except StopIteration as ended:
        vectors = seen.unit(ended.value)
    given, wrong = planted(dataset.labels.to_numpy(), 0.05)
    rows = named(vectors, given)
    assert wrong[rows].sum() >= 0.8 * wrong.sum()
    assert wrong[rows].mean() >= 0.5


def test_labels_that_are_right_are_left_alone():
    vectors, truth = clouds(400, apart=5.0)
    assert len(named(vectors, truth)) <= 4


def test_a_probe_that_is_weak_accuses_hardly_anybody_and_says_so():
    vectors, truth = clouds(400, apart=0.8)
    names = np.arange(400).astype(str)
    found, notes = labels.found(names, truth.astype(str), vectors, np.full(400, ""), 0)
    assert sum(len(one.groups) for one in found) <= 8
    assert any("can be told from the images" in note for note in notes)


def test_classes_too_small_to_judge_are_said():
    vectors, truth = clouds(40, apart=5.0, classes=2)
    given = truth.astype(str)
    given[:3] = "rare"
    found, notes = labels.found(np.arange(40).astype(str), given, vectors, np.full(40, ""), 0)
    assert notes[0].startswith("Labels of rare were not judged")
    assert all("rare" not in group.about for one in found for group in one.groups)


def test_scores_are_those_of_a_fit_that_has_not_seen_the_fold():
    vectors, truth = clouds(60, apart=3.0)
    parts = labels.folds(truth, np.full(60, ""), 0)
    scores = labels.out_of_fold(vectors, truth, parts)
    targets = np.eye(4)[truth] - np.eye(4)[truth].mean(axis=0)
    total = float((vectors**2).sum()) / vectors.shape[1]

    def slowly(share: float) -> np.ndarray:
        result = np.empty_like(targets)
        for part in range(5):
            ridge = Ridge(alpha=share * total, fit_intercept=False)
            ridge.fit(vectors[parts != part], targets[parts != part])
            result[parts == part] = ridge.predict(vectors[parts == part])
        return result

    tried = [slowly(share) for share in labels.STRENGTHS]
    best = min(tried, key=lambda values: float(((values - targets) ** 2).sum()))
    assert np.allclose(scores, best, atol=1e-4)


def test_scores_of_many_classes_are_made_once_and_not_for_each_penalty():
    n, classes = 20_000, 500
    rng = np.random.default_rng(0)
    vectors, truth = rng.normal(size=(n, 8)).astype(np.float32), np.arange(n) % classes
    tracemalloc.start()
    scores = labels.out_of_fold(vectors, truth, np.arange(n) % 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scores.shape == (n, classes) and peak < 2 * scores.nbytes


def test_probabilities_of_many_images_and_classes_are_gone_through_in_parts():
    n, classes = 40_000, 600
    rng = np.random.default_rng(0)
    truth = np.arange(n) % classes
    vectors = seen.unit(rng.normal(size=(n, 16)) + 4 * rng.normal(size=(classes, 16))[truth])
    alone = np.full(n, "")
    tracemalloc.start()
    probable = labels.probabilities(vectors.astype(np.float32), truth, alone, 0)
    labels.suspects(probable, truth)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.allclose(probable.sum(axis=1), 1, atol=1e-3) and probable.size > labels.MOST_AT_ONCE
    assert peak < 3 * probable.nbytes


@pytest.mark.parametrize(
    ("probability", "said"),
    [(0.0, "under 1 %"), (0.0099, "under 1 %"), (0.014, "1%"), (0.5, "50%"), (1.0, "over 99 %")],
)
def test_nothing_is_said_to_be_certain(probability: float, said: str):
    assert labels.percent(probability) == said


def test_doubts_say_how_probable_the_classes_are():
    vectors, truth = clouds(400, apart=9.0)
    given, _ = planted(truth, 0.05)
    alone = np.full(400, "")
    found, _ = labels.found(np.arange(400).astype(str), given.astype(str), vectors, alone, 0)
    said = [group.about for one in found for group in one.groups]
    assert any("(under 1 % probable), looks like" in about for about in said)
    assert all("(0%" not in about and "(100%" not in about for about in said)


def test_copies_are_never_on_both_sides_of_a_fold():
    truth = np.arange(90) % 3
    groups = np.array([f"g{k // 6}" if k < 60 else "" for k in range(90)])
    parts = labels.folds(truth, groups, 0)
    assert all(len(set(parts[groups == f"g{k}"])) == 1 for k in range(10))
    assert len(set(parts)) == 5


@pytest.mark.parametrize("most", [20_000, 100])
def test_a_few_strangers_stand_apart_and_come_first(most: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outliers, "MOST_COMPARED", most)
    rng = np.random.default_rng(0)
    usual = rng.normal(size=(300, 16)) + 6 * np.eye(16)[0]
    strange = rng.normal(size=(4, 16)) - 6 * np.eye(16)[1]
    vectors = seen.directions(np.concatenate([usual, strange]))
    (finding,) = outliers.found(np.arange(304).astype(str), vectors, 0)
    first = {name for group in finding.groups[:4] for name in group.names}
    assert first == {"300", "301", "302", "303"}
    assert len(finding.groups) <= 12
