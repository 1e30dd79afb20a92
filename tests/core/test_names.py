from __future__ import annotations

import time

import pytest

from core.data import names


@pytest.mark.parametrize("same", [str, str.casefold])
def test_very_many_of_one_name_cost_no_time(same):
    began = time.process_time()
    found = names.distinct(["a/IMG.jpg"] * 30_000, same=same)
    assert time.process_time() - began < 5
    assert found[:3] == ["a/IMG.jpg", "a/IMG (2).jpg", "a/IMG (3).jpg"]
    assert len(set(found)) == len(found)


def test_no_name_is_made_that_another_has_or_that_is_taken():
    found = names.distinct(["1.jpg", "1.jpg", "1 (2).jpg", "2.jpg"], ["1 (3).jpg", "2.jpg"])
    assert found == ["1.jpg", "1 (4).jpg", "1 (2).jpg", "2 (2).jpg"]


def test_names_that_count_as_one_are_told_apart():
    assert names.distinct(["a.jpg", "A.jpg"]) == ["a.jpg", "A.jpg"]
    assert names.distinct(["a.jpg", "A.jpg"], same=str.casefold) == ["a.jpg", "A (2).jpg"]
