from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import recipe as recipes
from core.errors import RecipeRefused
from core.models import architecture


def learns(**fields: object) -> list[str]:
    recipe = recipes.made({name.replace("__", "."): value for name, value in fields.items()})
    return architecture.learns(recipe, 4)


def test_a_table_goes_from_the_stem_to_the_head():
    table = architecture.rows(recipes.preset("quick"))
    assert [row.stage for row in table] == ["stem", *(f"stage {k}" for k in range(1, 8)), "head"]
    assert table[0].output == "112 × 112 × 32"
    assert table[-2].output == "7 × 7 × 1280"
    assert sum(row.parameters or 0 for row in table) == 3_371_008
    assert table[-1].parameters is None


def test_smaller_pictures_have_smaller_maps():
    table = architecture.rows(recipes.made({"image.size": 64}))
    assert table[-2].output == "2 × 2 × 1280"


@pytest.mark.parametrize(
    ("name", "output"),
    [("vit_tiny_patch16_224", "14 × 14 × 192"), ("swin_tiny_patch4_window7_224", "7 × 7 × 768")],
)
def test_transformers_have_their_tokens_on_a_grid(name: str, output: str):
    assert architecture.rows(recipes.made({"backbone.name": name}))[-2].output == output


def test_each_stage_says_when_it_learns():
    assert learns(technique__name="feature_extraction") == ["frozen"] * 4
    assert learns(technique__name="last_stages", technique__stages=1) == ["frozen"] * 3 + ["learns"]
    assert learns(technique__name="finetune") == ["learns"] * 4
    assert learns(technique__name="gradual", technique__epochs_per_stage=3) == [
        "learns from epoch 10", "learns from epoch 7", "learns from epoch 4", "learns",
    ]  # fmt: skip


def test_a_stage_whose_turn_never_comes_is_frozen():
    few = {"technique__name": "gradual", "technique__epochs_per_stage": 2, "schedule__epochs": 4}
    assert learns(**few) == [
        "frozen: its turn would be epoch 7", "frozen: its turn would be epoch 5",
        "learns from epoch 3", "learns",
    ]  # fmt: skip
    assert learns(**few, schedule__min_steps=500)[0] == "learns from epoch 7"


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        ("feature_extraction", "The backbone's 3.4 million parameters stay as they are."),
        ("last_stages", "2.7 of the backbone's 3.4 million parameters learn."),
        ("finetune", "All of the backbone's 3.4 million parameters learn."),
    ],
)
def test_a_sentence_says_how_much_learns(technique: str, sentence: str):
    table = architecture.rows(recipes.made({"technique.name": technique}))
    assert architecture.summary(table) == sentence


def test_what_was_seen_once_is_shown_at_once():
    architecture.rows(recipes.preset("quick"))
    started = time.perf_counter()
    architecture.rows(recipes.preset("balanced"))
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize(
    ("name", "size"), [("no_such_network", "auto"), ("vit_small_patch14_dinov2", 225)]
)
def test_what_cannot_be_made_is_refused(name: str, size: int | str):
    with pytest.raises(RecipeRefused):
        architecture.rows(recipes.made({"backbone.name": name, "image.size": size}))


def test_importing_it_imports_no_torch():
    code = "import sys, core.models.architecture; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert answer.stdout.strip() == "False", answer.stderr
