from __future__ import annotations

import pickle

import pytest

from core import errors
from core.errors import HeadstartError

KINDS = HeadstartError.__subclasses__()


def test_an_error_reads_as_what_happened_and_then_the_way_out():
    error = errors.ArchiveRefused("pets.zip is a PDF.", "Upload a zip.")
    assert str(error) == "pets.zip is a PDF. Upload a zip."
    assert (error.what, error.remedy) == ("pets.zip is a PDF.", "Upload a zip.")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_refusal_says_its_remedy_in_its_docstring(kind: type[HeadstartError]):
    assert (kind.__doc__ or "").strip() and kind.__doc__ != HeadstartError.__doc__


def test_the_drawing_of_the_tree_names_every_kind():
    assert {kind.__name__ for kind in KINDS} <= set((errors.__doc__ or "").split())


def test_a_refusal_survives_the_way_from_one_process_to_another():
    for kind in (HeadstartError, *KINDS):
        there = pickle.loads(pickle.dumps(kind("It is full.", "Free some space.")))
        assert type(there) is kind
        assert (there.what, there.remedy) == ("It is full.", "Free some space.")
