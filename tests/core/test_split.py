from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data import split as splitting
from core.data.dataset import Dataset
from core.errors import DatasetRefused

SHARES = (0.70, 0.15, 0.15)
SIZES = st.lists(st.integers(2, 60), min_size=2, max_size=5).filter(lambda sizes: max(sizes) > 3)


def images_of(rows: list[tuple[str, str, str]]) -> Dataset:
    """A dataset of (label, part, content) rows."""
    table = pd.DataFrame(rows, columns=["label", "part", "sha256"])
    table["name"] = [f"{number:04d}.jpg" for number in range(len(rows))]
    classes = tuple(sorted(set(table["label"])))
    return Dataset("x", "x", 1, "x", "", classes, table, (), Path("x"))


def classes_of(*sizes: int, copies: int = 1) -> Dataset:
    """Classes c0, c1, … of so many images, each content `copies` times."""
    return images_of(
        [
            (f"c{number}", "", f"{number}-{image // copies}")
            for number, size in enumerate(sizes)
            for image in range(size)
        ]
    )


def presplit(**parts: int) -> Dataset:
    """Two classes with so many images in each of the user's parts."""
    return images_of(
        [
            (label, part, f"{label}-{part}-{image}")
            for label in ("ants", "bees")
            for part, size in parts.items()
            for image in range(size)
        ]
    )


def by_content(images: Dataset, parts: np.ndarray) -> dict[str, set[str]]:
    """The parts in which each content lies."""
    found: dict[str, set[str]] = {}
    for content, part in zip(images.table["sha256"], parts, strict=True):
        found.setdefault(content, set()).add(str(part))
    return found


@given(sizes=SIZES, seed=st.integers(0, 2**31 - 1))
def test_every_image_is_in_exactly_one_part(sizes: list[int], seed: int):
    parts = splitting.split(classes_of(*sizes), SHARES, seed)
    assert len(parts) == sum(sizes)
    assert set(parts) <= set(splitting.PARTS)


@given(sizes=st.lists(st.integers(10, 80), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_each_class_is_divided_in_the_given_shares(sizes: list[int], seed: int):
    images = classes_of(*sizes)
    counts = splitting.per_class(images, splitting.split(images, SHARES, seed))
    wanted = np.outer(sizes, SHARES)
    assert np.abs(counts.to_numpy() - wanted).max() < 1


@given(
    n=st.integers(0, 200),
    weights=st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(lambda w: w[0] and w[1]),
)
def test_no_image_is_lost_or_counted_twice(n: int, weights: list[int]):
    shares = np.array(weights) / sum(weights)
    counts = splitting.counts(n, shares)
    assert counts.sum() == n and (counts >= 0).all()
    assert (counts[shares == 0] == 0).all()
    if n >= np.count_nonzero(shares):
        assert (counts[shares > 0] > 0).all()


def test_the_same_seed_gives_the_same_split():
    images = classes_of(20, 30)
    first = splitting.split(images, SHARES, 7)
    assert (splitting.split(images, SHARES, 7) == first).all()


def test_another_seed_gives_another_split():
    images = classes_of(20, 30)
    splits = {tuple(splitting.split(images, SHARES, seed)) for seed in range(10)}
    assert len(splits) == 10


def test_the_split_of_one_class_does_not_depend_on_the_others():
    small, large = classes_of(20, 30), classes_of(20, 30, 40)
    assert (splitting.split(large, SHARES, 0)[:50] == splitting.split(small, SHARES, 0)).all()


def test_the_order_and_the_names_of_files_do_not_matter():
    images = classes_of(20, 30, copies=2)
    order = np.random.default_rng(0).permutation(50)
    rows = images.table.iloc[order]
    shuffled = images_of(list(zip(rows["label"], rows["part"], rows["sha256"], strict=True)))
    here, there = (splitting.split(one, SHARES, 3) for one in (images, shuffled))
    assert by_content(images, here) == by_content(shuffled, there)


@given(copies=st.integers(2, 5), seed=st.integers(0, 99))
def test_exact_copies_of_an_image_stay_together(copies: int, seed: int):
    images = classes_of(30, 40, copies=copies)
    parts = splitting.split(images, SHARES, seed)
    assert all(len(found) == 1 for found in by_content(images, parts).values())


def test_exact_copies_under_two_labels_stay_together():
    rows = [("ants", "", f"a{n}") for n in range(20)] + [("bees", "", f"b{n}") for n in range(20)]
    both = [(label, "", f"both{n}") for label in ("ants", "bees") for n in range(10)]
    images = images_of(rows + both)
    parts = splitting.split(images, SHARES, 0)
    assert all(len(found) == 1 for found in by_content(images, parts).values())


def test_exact_copies_stay_together_when_validation_is_taken_out_of_train():
    rows = [(label, "train", f"{label}{n // 2}") for label in ("ants", "bees") for n in range(20)]
    images = images_of([*rows, ("ants", "test", "x"), ("bees", "test", "y")])
    parts = splitting.split(images, SHARES, 0)
    assert all(len(found) == 1 for found in by_content(images, parts).values())


def test_a_split_of_three_parts_is_kept_whatever_the_shares():
    images = presplit(train=5, val=3, test=2)
    for shares in (SHARES, (0.2, 0.4, 0.4)):
        assert list(splitting.split(images, shares, 0)) == list(images.table["part"])


def test_without_a_test_part_val_is_the_test_and_validation_comes_out_of_train():
    images = presplit(train=20, val=6)
    parts, own = splitting.split(images, SHARES, 0), images.table["part"]
    assert set(parts[own == "val"]) == {"test"}
    assert set(parts[own == "train"]) == {"train", "val"}
    # 15 parts of validation to 70 of training: 20 × 15 / 85 is 3.5.
    counts = splitting.per_class(images, parts)
    assert counts["val"].between(3, 4).all()
    assert list(counts["test"]) == [6, 6]


def test_without_a_val_part_the_test_is_kept_and_validation_comes_out_of_train():
    images = presplit(train=20, test=6)
    parts, own = splitting.split(images, SHARES, 0), images.table["part"]
    assert set(parts[own == "test"]) == {"test"}
    assert set(parts[own == "train"]) == {"train", "val"}


def test_parts_without_training_images_are_no_split():
    images = presplit(val=10, test=10)
    assert set(splitting.split(images, SHARES, 0)) == {"train", "val", "test"}


@pytest.mark.parametrize("own", [{"train": 10, "val": 4, "test": 4}, {"train": 10, "test": 4}])
def test_an_image_that_the_users_split_leaves_out_has_a_part_too(own: dict[str, int]):
    images = presplit(**own, **{"": 3})
    assert set(splitting.split(images, SHARES, 0)) <= set(splitting.PARTS)


@pytest.mark.parametrize(
    ("n", "parts"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1))]
)
def test_a_tiny_class_serves_training_first_then_the_test(n: int, parts: tuple[int, int, int]):
    images = classes_of(n, 20)
    counts = splitting.per_class(images, splitting.split(images, SHARES, 0))
    assert tuple(counts.loc["c0"]) == parts


def test_a_share_of_nothing_for_the_test_is_no_test():
    assert set(splitting.split(classes_of(20, 20), (0.8, 0.2, 0.0), 0)) == {"train", "val"}


def test_classes_of_one_or_two_images_leave_none_for_validation_and_are_refused():
    with pytest.raises(DatasetRefused, match="validation"):
        splitting.split(classes_of(1, 2), SHARES, 0)


def test_one_class_with_training_images_is_refused():
    rows = [("ants", "train", "a"), ("ants", "val", "b"), ("bees", "val", "c")]
    with pytest.raises(DatasetRefused, match="two classes"):
        splitting.split(images_of([*rows, ("bees", "test", "d")]), SHARES, 0)


def test_the_counts_of_a_split_have_a_column_for_every_part():
    images = classes_of(5, 20)
    counts = splitting.per_class(images, np.array(["train"] * 25))
    assert counts.to_dict("list") == {"train": [5, 20], "val": [0, 0], "test": [0, 0]}
