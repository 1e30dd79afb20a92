from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.__main__ import app
from core.data import dataset, importing
from core.data.dataset import Dataset
from core.errors import NotFound


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=3)), "insects")


def said(*words: str) -> dict:
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.output.splitlines()[-1])


VERBS = [
    (["relabel", "insects", "ants/0.jpg", "bees/1.jpg", "--to", "x"], "2 images relabelled to x"),
    (["exclude", "insects", "ants/0.jpg"], "ants/0.jpg excluded"),
    (["keep", "insects", "ants/0.jpg", "--finding", "dark"], "ants/0.jpg found fine (dark)"),
    (["rename-class", "insects", "ants", "--to", "Ants"], "Class ants renamed to Ants"),
    (["merge-classes", "insects", "ants", "bees", "--to", "b"], "Classes ants, bees merged into b"),
    (["split", "insects", "--shares", "0.4", "0.3", "0.3"], "Split changed to 40% / 30% / 30%"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "what"), VERBS, ids=[words[0] for words, _ in VERBS])
def test_each_verb_makes_a_revision_and_says_what_it_did(
    insects: Dataset, words: list[str], what: str
):
    result = said(*words, "--who", "Ada")
    assert (result["dataset"], result["revision"], result["what"]) == (insects.id, 2, what)
    assert result["digest"] == dataset.load(insects.id).digest
    (line,) = said("journal", "insects")["lines"]
    assert (line["revision"], line["who"], line["what"]) == (2, "Ada", what)
    assert not line["undone"]


def test_an_exclusion_is_taken_back_by_include_and_a_revision_by_undo(insects: Dataset):
    assert said("exclude", "insects", "bees/0.jpg")["images"] == 8
    assert said("include", "insects", "bees/0.jpg")["images"] == 9
    assert said("undo", "insects")["images"] == 8
    assert said("undo", "insects", "--revision", "2")["images"] == 9
    undone = {line["revision"]: line["undone"] for line in said("journal", "insects")["lines"]}
    assert undone == {2: True, 3: True, 4: False, 5: False}


def test_two_revisions_are_compared(insects: Dataset):
    said("relabel", "insects", "ants/0.jpg", "--to", "bees")
    found = said("compare", "insects", "1", "2")
    assert found["sentence"] == "From revision 1 to 2: 1 image relabelled."
    assert found["rows"] == [
        {"change": "relabelled", "image": "ants/0.jpg", "from": "ants", "to": "bees"}
    ]


def test_the_list_of_datasets_and_a_second_import_know_the_newest_revision(
    insects: Dataset, class_photos, make_zip
):
    said("exclude", "insects", "ants/0.jpg")
    (facts,) = said("datasets")["datasets"]
    assert (facts["revision"], facts["images"]) == (2, 8)
    again = said("import", str(make_zip(class_photos("ants", "bees", "wasps", each=3))))
    assert (again["dataset"], again["revision"], again["images"]) == (insects.id, 2, 8)


def test_a_refusal_changes_nothing(insects: Dataset):
    with pytest.raises(NotFound):
        said("relabel", "insects", "ants/9.jpg", "--to", "bees")
    assert said("journal", "insects")["lines"] == []


def test_a_refused_correction_ends_with_status_2_and_two_sentences(insects: Dataset):
    done = subprocess.run(
        [sys.executable, "-m", "core", "exclude", "insects", "nowhere.jpg"],
        cwd=Path(__file__).parents[2], env={**os.environ, "HEADSTART_TRACEBACK": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "has no image nowhere.jpg." in done.stderr and "Traceback" not in done.stderr
