from __future__ import annotations

from pathlib import Path

import pytest

from core import recipe as recipes
from core import reference

NAMES = [name for name, _ in recipes.fields()]


def test_the_documentation_of_the_recipe_is_what_the_schema_says():
    written = Path(__file__).parents[2] / "docs" / "recipe.md"
    again = "python -m core fields --markdown > docs/recipe.md"
    assert written.read_text(encoding="utf-8") == reference.markdown(), again


@pytest.mark.parametrize("one", reference.facts(), ids=NAMES)
def test_every_field_has_a_help_of_whole_sentences(one: dict[str, str]):
    assert one["help"].rstrip().endswith((".", "off", "processor")), one["help"]
    assert len(one["help"]) > 20


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("optimizer.momentum", "at least 0 and below 1"),
        ("compute.batch_size", "at least 1 and at most 4096; auto"),
        ("optimizer.learning_rate", "above 0; auto or find"),
        ("technique.freeze_batch_norm", "auto or true or false"),
        ("head.kind", "linear, mlp, logistic, svm, knn"),
        ("finish.soup", "true or false"),
    ],
)
def test_the_values_of_a_field_are_said_in_words(name: str, values: str):
    found = {one["name"]: one["values"] for one in reference.facts()}
    assert found[name] == values
