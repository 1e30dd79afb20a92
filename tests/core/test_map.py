from __future__ import annotations

import numpy as np
import pytest

from core import jobs
from core.auditing import map as maps
from core.errors import DatasetRefused
from tests.core.conftest import Trained


def clouds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    points = 4 * np.eye(3, 20)[labels] + rng.normal(0, 0.3, (n, 20))
    return points.astype(np.float32), labels


def share_beside_own_class(points: np.ndarray, labels: np.ndarray) -> float:
    apart = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    return float((labels[apart.argmin(axis=1)] == labels).mean())


@pytest.mark.parametrize("n", [4, 7, 120])
def test_alike_images_lie_together_however_few_there_are(n: int):
    vectors, labels = clouds(n)
    points = maps.placed(vectors, seed=0)
    assert points.shape == (n, 2) and np.isfinite(points).all()
    if n > 50:
        assert share_beside_own_class(points, labels) > 0.95


def test_the_same_images_give_the_same_map():
    vectors, _ = clouds(60)
    assert np.array_equal(maps.placed(vectors, 0), maps.placed(vectors, 0))


def test_images_beyond_the_limit_lie_among_those_of_their_kind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(maps, "MOST_PLACED", 60)
    vectors, labels = clouds(150)
    assert share_beside_own_class(maps.placed(vectors, 0), labels) > 0.95
    assert maps.note(150).startswith("60 images")


def test_a_map_is_kept_with_its_revision_and_shown_for_later_ones(served: Trained):
    dataset = served.dataset
    assert maps.load(dataset) is None
    *_, last = maps.mapped(dataset)
    assert last.result is not None and last.result["images"] == len(dataset.table)
    table = maps.load(dataset)
    assert table is not None and list(table["name"]) == list(dataset.table["name"])
    assert len(list(maps.mapped(dataset))) == 1  # Nothing is drawn again.


def test_a_map_of_a_handful_of_images_is_refused(served: Trained, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(maps, "FEWEST", 10_000)
    with pytest.raises(DatasetRefused, match="make no map"):
        next(maps.mapped(served.dataset))


def test_the_map_is_a_kind_of_job(served: Trained):
    assert jobs.KINDS["map"] == "core.auditing.map:steps"
    *_, last = maps.steps(lambda: False, dataset=served.dataset.id)
    assert last.result is not None and last.result["note"] == ""
