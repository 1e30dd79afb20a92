from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from core.data import grouping
from core.errors import DatasetRefused

NAMES = [
    "train/ants/patient12_left.jpg",
    "train/ants/patient12_right.jpg",
    "train/bees/patient3_left_2.jpg",
    "bees/clip7_0001.jpg",
    "bees/clip7_0002.jpg",
    "alone.jpg",
]


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("", ["", "", "", "", "", ""]),
        ("before_", ["patient12", "patient12", "patient3", "clip7", "clip7", ""]),
        ("before-", ["", "", "", "", "", ""]),
        (
            "without_number",
            ["", "", "train/bees/patient3_left", "bees/clip7", "bees/clip7", ""],
        ),
        ("folder:1", ["train", "train", "train", "bees", "bees", ""]),
        ("folder:2", ["train/ants", "train/ants", "train/bees", "", "", ""]),
        (r"pattern:(patient\d+|clip\d+)_", ["patient12"] * 2 + ["patient3"] + ["clip7"] * 2 + [""]),
        (r"pattern:patient(?:\d+)_(left)?", ["left", "", "left", "", "", ""]),
    ],
)
def test_the_group_is_what_the_name_says(group_by: str, expected: list[str]):
    assert list(grouping.named(NAMES, group_by)) == expected


@pytest.mark.parametrize("name", ["ants/0012.jpg", "0012.jpg", "ants/name.jpg"])
def test_a_number_alone_names_no_group(name: str):
    assert list(grouping.named([name], "without_number")) == [""]


def test_every_grouping_takes_names_of_any_kind():
    odd = ["", "/", "a//b", ".jpg", "é/名_1.png", "a\nb_c.jpg", "_", "x" * 5000]
    for group_by in (*grouping.GROUPINGS, "folder:3", "pattern:(.)$"):
        found = grouping.named(odd, group_by)
        assert found.shape == (len(odd),) and found.dtype.kind == "U"


@pytest.mark.parametrize(
    ("group_by", "reason"),
    [
        ("vowels", "no way to group"),
        ("folder:0", "no level"),
        ("folder:x", "no level"),
        ("pattern:(", "none"),
        ("pattern:abc", "0 pairs"),
        ("pattern:(a)(b)", "2 pairs"),
        ("pattern:(" + "a" * 300 + ")", "302 characters"),
        ("pattern:(a{99999999999})", "none"),
    ],
)
def test_what_is_no_grouping_is_refused_in_words(group_by: str, reason: str):
    with pytest.raises(DatasetRefused, match=reason):
        grouping.named(NAMES, group_by)


def test_a_pattern_that_would_never_end_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grouping, "PATTERN_SECONDS", 1.0)
    start = time.monotonic()
    with pytest.raises(DatasetRefused, match="too long"):
        grouping.named(["a" * 60], "pattern:^(a+)+$x")
    assert time.monotonic() - start < 5


def table_of(contents: list[str], groups: list[str]) -> pd.DataFrame:
    names = [f"{number}.jpg" for number in range(len(contents))]
    return pd.DataFrame({"name": names, "sha256": contents, "group": groups})


def test_a_unit_joins_over_any_number_of_steps():
    table = table_of(list("abbcdef"), ["", "", "g", "g", "h", "", ""])
    places = np.array(["", "", "", "x", "x", "y", ""])
    assert list(grouping.units(table)) == ["a", "b", "b", "b", "d", "e", "f"]
    assert list(grouping.units(table, [places])) == ["a", "b", "b", "b", "b", "e", "f"]


def test_a_table_of_an_older_version_has_no_groups_but_copies():
    table = table_of(list("abb"), [""] * 3).drop(columns="group")
    assert list(grouping.units(table)) == ["a", "b", "b"]


def test_the_number_of_groups_is_told():
    assert grouping.told(np.array(["", ""])) == "No image is in a group."
    assert grouping.told(np.array(["a", "a", ""])) == (
        "1 group, the largest of 2 images; 1 images are in none."
    )
