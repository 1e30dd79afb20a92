from __future__ import annotations

from dataclasses import replace
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
# Second letters of the parts that the first version gave.
OF_THE_FIRST_VERSION = "rreerrrrrrrrrrrrrrrrrraaaarreerrrraarreeaarrrrrrrrrrrreerreeaar"
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


def grouped(sizes: dict[str, list[int]], alone: int = 0, part: str = "") -> Dataset:
    """Classes of groups of so many images, and so many images that are in no group."""
    rows, groups = [], []
    for label, of_class in sizes.items():
        for number, size in enumerate(of_class):
            rows += [(label, part, f"{label}{number}/{image}") for image in range(size)]
            groups += [f"{label}{number}"] * size
        rows += [(label, part, f"{label}-{image}") for image in range(alone)]
        groups += [""] * alone
    images = images_of(rows)
    return replace(images, table=images.table.assign(group=groups))


def parts_of_groups(images: Dataset, parts: np.ndarray) -> pd.Series:
    """In how many parts each group lies."""
    in_group = images.table["group"] != ""
    return pd.Series(parts[in_group]).groupby(list(images.table["group"][in_group])).nunique()


@given(
    sizes=st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=12), min_size=2, max_size=4),
    single=st.integers(0, 30),
    seed=st.integers(0, 99),
)
def test_a_group_is_never_on_two_sides(sizes: list[list[int]], single: int, seed: int):
    images = grouped({f"c{number}": of_class for number, of_class in enumerate(sizes)}, single)
    parts = splitting.split(images, SHARES, seed)
    assert set(parts) <= set(splitting.PARTS)
    assert (parts_of_groups(images, parts) == 1).all()


@given(seed=st.integers(0, 99), size=st.integers(2, 4))
def test_small_groups_leave_the_shares_as_they_were(seed: int, size: int):
    images = grouped({"ants": [size] * 12, "bees": [size] * 25}, alone=40)
    counts = splitting.per_class(images, splitting.split(images, SHARES, seed))
    wanted = np.outer([40 + 12 * size, 40 + 25 * size], SHARES)
    assert np.abs(counts.to_numpy() - wanted).max() < 1


@given(seed=st.integers(0, 99))
def test_groups_alone_come_as_near_to_the_shares_as_they_can(seed: int):
    images = grouped({"ants": [5] * 20, "bees": [10] * 20})
    counts = splitting.per_class(images, splitting.split(images, SHARES, seed))
    wanted = np.outer([100, 200], SHARES)
    assert (np.abs(counts.to_numpy() - wanted) <= [[5], [10]]).all()


@pytest.mark.parametrize("size", [2, 30])
def test_three_groups_of_a_class_serve_all_three_parts(size: int):
    images = grouped({"ants": [size] * 3, "bees": [size] * 3})
    counts = splitting.per_class(images, splitting.split(images, SHARES, 0))
    assert (counts.to_numpy() == size).all()


def test_a_group_of_two_classes_stays_together():
    images = grouped({"ants": [3] * 10, "bees": [3] * 10})
    table = images.table.assign(group=images.table["group"].str[4:])  # "ants3" and "bees3" are "3".
    parts = splitting.split(replace(images, table=table), SHARES, 0)
    assert (parts_of_groups(replace(images, table=table), parts) == 1).all()


def test_a_group_named_after_an_image_holds_that_image():
    """So an added copy joins an image that was alone, without a change to its row."""
    images = classes_of(30, 30)
    rows = images.table.assign(group="")
    copies = rows.assign(sha256="copy of " + rows["sha256"], group=rows["sha256"])
    both = replace(images, table=pd.concat([rows, copies], ignore_index=True))
    parts = splitting.split(both, SHARES, 0)
    assert (parts[:60] == parts[60:]).all()


def test_images_without_groups_are_divided_as_in_the_first_version():
    """Runs of old datasets go on with the images they had."""
    parts = splitting.split(classes_of(40, 23, copies=2), SHARES, 3)
    letters = "".join(part[1] for part in parts)
    assert letters == OF_THE_FIRST_VERSION
    images = classes_of(40, 23, copies=2)
    empty = replace(images, table=images.table.assign(group=""))
    assert (splitting.split(empty, SHARES, 3) == parts).all()


def test_validation_is_taken_out_of_train_by_whole_groups():
    images = grouped({"ants": [4] * 8, "bees": [4] * 8}, alone=10, part="train")
    images.table.loc[images.table["group"].isin(["ants7", "bees7"]), "part"] = "test"
    parts = splitting.split(images, SHARES, 0)
    assert (parts_of_groups(images, parts) == 1).all()
    assert set(parts) == {"train", "val", "test"}


def test_what_the_user_put_on_two_sides_stays_there_and_is_said():
    images = grouped({"ants": [4] * 8, "bees": [4] * 8}, alone=20, part="train")
    first = ~images.table["group"].duplicated() & (images.table["group"] != "")
    images.table.loc[first, "part"] = "test"
    for seed in range(5):
        parts = splitting.split(images, SHARES, seed)
        assert (parts[first] == "test").all()
        assert (parts[(images.table["group"] != "") & ~first] == "train").all()
        assert (parts == "val").sum() > 5
    assert "48 training images have a copy in another part" in splitting.how(images, 0)


def test_a_new_split_does_not_care_what_the_dataset_brought():
    images = presplit(train=30, test=10)
    parts, groups = splitting.made(images, SHARES, 0)
    assert (splitting.per_class(images, parts).to_numpy() == [[28, 6, 6]] * 2).all()
    assert set(groups) == {""}


def test_a_new_split_joins_groups_of_the_name_with_near_duplicates():
    images = grouped({"ants": [2] * 20, "bees": [2] * 20})
    names = [f"p{number // 3}_{number}.jpg" for number in range(80)]
    images = replace(images, table=images.table.assign(name=names))
    parts, groups = splitting.made(images, SHARES, 0, "before_")
    patients = [name.partition("_")[0] for name in names]
    assert (pd.Series(parts).groupby(patients).nunique() == 1).all()
    assert (parts_of_groups(images, parts) == 1).all()
    assert (pd.Series(groups).groupby(patients).nunique() == 1).all()
    again = replace(images, table=images.table.assign(group=groups))
    assert (splitting.split(again, SHARES, 0) == parts).all()


@given(seed=st.integers(0, 99), count=st.integers(2, 6))
def test_folds_keep_groups_whole_and_are_equally_large(seed: int, count: int):
    images = grouped({"ants": [2] * 10, "bees": [3] * 10}, alone=31)
    folds = splitting.folds(images.table, count, seed)
    assert set(folds) == set(range(count))
    assert (parts_of_groups(images, folds) == 1).all()
    sizes = pd.crosstab(images.table["label"], folds).to_numpy()
    assert (sizes.max(axis=1) - sizes.min(axis=1) <= 1).all()
    assert sizes.sum(axis=0).max() - sizes.sum(axis=0).min() <= 2


def test_a_class_too_small_for_a_part_is_said_in_words():
    images = classes_of(1, 2, 40)
    said = splitting.too_small(images, splitting.split(images, SHARES, 0))
    assert said == [
        "c0 has 1 image: none for validation and test.",
        "c1 has 2 images: none for validation.",
    ]
    images = grouped({"ants": [30], "bees": [3] * 10, "wasps": [20, 20]})
    said = splitting.too_small(images, splitting.split(images, SHARES, 0))
    assert said == [
        "ants has 30 images in 1 group: none for validation and test.",
        "wasps has 40 images in 2 groups: none for validation.",
    ]


def test_a_split_without_a_test_lacks_none():
    images = classes_of(20, 20)
    assert splitting.too_small(images, splitting.split(images, (0.8, 0.2, 0.0), 0)) == []
