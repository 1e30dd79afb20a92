from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.data import importing, loader
from core.data.augment import Preprocessing, fitted
from core.data.dataset import Dataset
from core.data.loader import Pictures
from core.errors import ImageRefused
from core.schema import Augmentation

PREPROCESSING = Preprocessing(24, "crop", 28, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
CHANGED = Augmentation(rotation=20, noise=0.1)


@pytest.fixture
def insects(photo, make_zip) -> Dataset:
    """Ten photos of two classes, of different sizes and shapes."""
    sizes = [(64, 48), (48, 64), (40, 40), (90, 30), (33, 57)]
    layout = {
        f"{label}/{number}.jpg": photo(number, size=size, kind=kind)
        for kind, label in enumerate(("ants", "bees"))
        for number, size in enumerate(sizes)
    }
    return importing.import_all(make_zip(layout))


def decoded(dataset: Dataset, preprocessing: Preprocessing = PREPROCESSING) -> Pictures:
    *_, pictures = loader.decoded(dataset, preprocessing, threads=2)
    assert callable(pictures)
    return pictures


def training_batches(dataset: Dataset, threads: int, epoch: int = 0) -> list[torch.Tensor]:
    rows = np.arange(1, 10)
    order = loader.training_order(len(rows), 4, seed=5, epoch=epoch)
    steps = [rows[positions] for positions in order]
    return list(augmented(dataset, steps, epoch=epoch, threads=threads))


def augmented(
    dataset: Dataset,
    steps: list,
    augmentation: Augmentation = CHANGED,
    epoch: int = 0,
    threads: int = 2,
    first: int = 0,
) -> Iterator[torch.Tensor]:
    pictures = loader.from_files(dataset, PREPROCESSING)
    return loader.augmented_batches(
        pictures, PREPROCESSING, lambda row, turn: augmentation, steps, (5, epoch), threads, first
    )


def cached(home: Path) -> list[Path]:
    return list((home / "cache").rglob("*.*"))


@pytest.mark.parametrize("threads", [2, 5])
def test_the_same_batches_come_out_whatever_the_number_of_threads(insects: Dataset, threads: int):
    alone, together = training_batches(insects, 1), training_batches(insects, threads)
    assert [len(batch) for batch in alone] == [4, 5]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_each_epoch_has_versions_of_its_own(insects: Dataset):
    first, second = (torch.cat(training_batches(insects, 2, epoch)) for epoch in (0, 1))
    versions = {version.numpy().tobytes() for version in torch.cat([first, second])}
    assert len(versions) == 18


def test_a_training_batch_holds_the_pictures_that_the_order_names(insects: Dataset):
    batches = augmented(insects, [[7, 3], [5]], Augmentation(policy="none"))
    pictures = loader.from_files(insects, PREPROCESSING)
    expected = [fitted(pictures(row), PREPROCESSING) for row in (7, 3, 5)]
    assert torch.equal(torch.cat(list(batches)), torch.stack(expected))


def test_an_image_that_comes_twice_in_an_epoch_comes_in_two_versions(insects: Dataset):
    versions = torch.cat(list(augmented(insects, [[3, 3], [4, 3]])))
    assert len({version.numpy().tobytes() for version in versions}) == 4


def test_an_epoch_that_goes_on_in_its_middle_shows_what_it_would_have_shown(insects: Dataset):
    steps = [[3, 3], [4, 3], [3, 5]]
    whole = list(augmented(insects, steps))
    for first in (0, 1, 2, 3):
        rest = list(augmented(insects, steps, first=first))
        assert len(rest) == 3 - first
        assert all(torch.equal(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_each_image_can_be_changed_in_a_way_of_its_own(insects: Dataset):
    pictures = loader.from_files(insects, PREPROCESSING)
    ways = {3: Augmentation(policy="none"), 4: Augmentation(policy="none", grayscale=1)}
    batches = loader.augmented_batches(
        pictures, PREPROCESSING, lambda row, turn: ways[row + turn], [[3, 3]], (5, 0), threads=2
    )
    as_it_is, gray = torch.cat(list(batches))
    assert torch.equal(as_it_is, fitted(pictures(3), PREPROCESSING))
    assert torch.equal(gray[0], gray[1])


@pytest.mark.parametrize("batch", [1, 3, 10, 99])
@pytest.mark.parametrize("threads", [1, 3])
def test_squares_come_in_the_order_of_their_rows(insects: Dataset, batch: int, threads: int):
    pictures = loader.from_files(insects, PREPROCESSING)
    rows = [9, 0, 4, 4, 1]
    batches = list(loader.squares(pictures, rows, PREPROCESSING, batch, threads))
    assert all(len(found) == batch for found in batches[:-1])
    expected = torch.stack([fitted(pictures(row), PREPROCESSING) for row in rows])
    assert torch.equal(torch.cat(batches), expected)


def test_no_rows_give_no_batches(insects: Dataset):
    assert (
        list(loader.squares(loader.from_files(insects, PREPROCESSING), [], PREPROCESSING, 4, 2))
        == []
    )


def test_pictures_decoded_once_are_those_of_the_files(insects: Dataset):
    files, once = loader.from_files(insects, PREPROCESSING), decoded(insects)
    for row in (9, *range(10)):
        assert torch.equal(once(row), files(row))


def test_a_picture_that_was_decoded_once_can_be_changed_without_harm(insects: Dataset):
    pictures = decoded(insects)
    pictures(3).zero_()
    assert torch.equal(pictures(3), loader.from_files(insects, PREPROCESSING)(3))


def test_decoding_tells_how_many_are_done_and_ends_with_the_pictures(insects: Dataset):
    *steps, pictures = loader.decoded(insects, PREPROCESSING, threads=2)
    assert steps == list(range(1, 11))
    assert callable(pictures)


def test_what_was_decoded_once_is_not_decoded_again(insects: Dataset):
    first = decoded(insects)
    shutil.rmtree(insects.folder / "images")
    assert len(list(loader.decoded(insects, PREPROCESSING, threads=2))) == 1
    assert all(torch.equal(decoded(insects)(row), first(row)) for row in range(10))


@pytest.mark.parametrize("change", [{"short_side": 30}, {"interpolation": "bicubic"}])
def test_another_preprocessing_has_pictures_of_its_own(insects: Dataset, change: dict):
    decoded(insects)
    other = Preprocessing(**{**PREPROCESSING.to_dict(), **change})
    assert torch.equal(decoded(insects, other)(0), loader.from_files(insects, other)(0))


@pytest.mark.parametrize("change", [{"size": 20}, {"fit": "letterbox"}])
def test_pictures_serve_every_square_that_is_cut_from_them(insects: Dataset, change: dict):
    decoded(insects)
    other = Preprocessing(**{**PREPROCESSING.to_dict(), **change})
    assert len(list(loader.decoded(insects, other, threads=2))) == 1


def test_an_abandoned_decoding_leaves_nothing_behind_and_can_be_done_again(insects, home: Path):
    steps = loader.decoded(insects, PREPROCESSING, threads=2)
    next(steps)
    steps.close()
    assert cached(home) == []
    assert torch.equal(decoded(insects)(0), loader.from_files(insects, PREPROCESSING)(0))


@pytest.mark.parametrize(
    "limit", ["HEADSTART_MAX_PIXEL_CACHE_BYTES=1000", "HEADSTART_MIN_FREE_BYTES=1" + "0" * 18]
)
def test_where_there_is_no_room_pictures_come_from_their_files(
    insects, home, monkeypatch, limit: str
):
    monkeypatch.setenv(*limit.split("="))
    (pictures,) = loader.decoded(insects, PREPROCESSING, threads=2)
    assert callable(pictures)
    assert torch.equal(pictures(2), loader.from_files(insects, PREPROCESSING)(2))
    assert cached(home) == []


def test_the_room_that_pictures_need_is_known_beforehand(insects: Dataset, home: Path):
    expected = loader.expected_bytes(insects, PREPROCESSING)
    decoded(insects)
    (found,) = (path.stat().st_size for path in cached(home) if path.suffix == ".bin")
    assert found == pytest.approx(expected, rel=0.02)


def test_a_cache_that_lost_its_pictures_is_made_again(insects: Dataset, home: Path):
    decoded(insects)
    for path in cached(home):
        if path.suffix == ".bin":
            path.unlink()
    assert torch.equal(decoded(insects)(0), loader.from_files(insects, PREPROCESSING)(0))


def test_an_image_that_vanished_is_named(insects: Dataset):
    row = 4
    insects.path_of(insects.table["sha256"].iloc[row]).unlink()
    with pytest.raises(ImageRefused, match=insects.table["name"].iloc[row]):
        loader.from_files(insects, PREPROCESSING)(row)


def test_an_image_that_vanished_ends_the_decoding_with_nothing_left(insects: Dataset, home: Path):
    insects.path_of(insects.table["sha256"].iloc[4]).unlink()
    with pytest.raises(ImageRefused):
        decoded(insects)
    assert cached(home) == []


@given(
    n=st.integers(1, 200),
    batch=st.integers(1, 50),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
)
def test_every_image_is_seen_once_an_epoch_and_none_alone(n, batch, seed, epoch):
    order = loader.training_order(n, batch, seed, epoch)
    assert sorted(np.concatenate(order)) == list(range(n))
    assert all(len(one) == batch for one in order[:-1])
    assert batch == 1 or n == 1 or all(len(one) > 1 for one in order)
    assert len(order[-1]) <= batch + 1


def test_a_last_batch_of_one_is_joined_to_the_one_before():
    assert [len(batch) for batch in loader.training_order(33, 16, 0, 0)] == [16, 17]
    assert [len(batch) for batch in loader.training_order(34, 16, 0, 0)] == [16, 16, 2]


def test_the_order_is_new_in_every_epoch_and_the_same_for_a_seed():
    orders = {
        (seed, epoch): tuple(np.concatenate(loader.training_order(50, 8, seed, epoch)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(np.concatenate(loader.training_order(50, 8, 2, 1))) == orders[2, 1]


def test_threads_give_results_in_order():
    assert list(loader.threaded(lambda n: n * n, range(100), 4, 8)) == [n * n for n in range(100)]


def test_threads_work_ahead_no_further_than_they_may():
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = loader.threaded(lambda n: n, items(), 4, 8)
    for taken in range(5):
        assert next(results) == taken
        assert len(drawn) <= taken + 8
    results.close()
    assert len(drawn) <= 4 + 8


def test_a_failure_in_a_thread_is_that_of_the_caller():
    def fail_at_three(n: int) -> int:
        if n == 3:
            raise ImageRefused("It is damaged.", "Save it again.")
        return n

    results = loader.threaded(fail_at_three, range(10), 2, 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ImageRefused):
        next(results)


def test_threads_end_with_their_work():
    before = threading.active_count()
    results = loader.threaded(lambda n: n, range(10), 4, 8)
    next(results)
    results.close()
    assert threading.active_count() == before
