"""Runs that are like a trained one but for their names, their scores or their course."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from core.evaluation import scores as scoring
from core.evaluation.scores import Scores, softmax
from core.runs import run as runs
from core.runs.run import Run
from core.settings import settings
from core.storage import read_json, sha256_of
from tests.core.conftest import Trained

# Names that mean something to HTML, YAML, Markdown, SVG, mathtext or a spreadsheet.
HOSTILE = (
    "<script>alert(1)</script>", "</style><b>bold", "a|b & c", "$x_1$ _y_ $", "---", "two\nlines",
    "x" * 300, "😀 été 蟻", "=1+1", "`code` *star* [link](http://evil.example)", "{{ 7 * 7 }}",
    "null \x00 and \x07 bell", "'; \"quoted\": yes", "# heading", "\u202egpj.exe",
)  # fmt: skip


def altered(
    trained: Trained,
    *,
    facts: dict[str, str] | None = None,
    scores: Scores | None = None,
    config: Callable[[dict[str, Any]], None] = lambda config: None,
    recipe: dict[str, str] | None = None,
    drop_events: str = "",
    with_images: bool = False,
) -> Run:
    """A copy of a run under the present home, its files changed; its dataset too, if wanted.

    facts: laid over `run.json`. config: changes `config.json`. recipe: texts of the recipe by what
    they are replaced with. drop_events: the kind of events that are left out.
    """
    folder = settings().runs / trained.run.id
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(trained.run.folder, folder)
    if with_images:
        shutil.copytree(trained.dataset.folder, settings().datasets / trained.dataset.id)
    write(folder / "run.json", {**read_json(folder / "run.json"), **(facts or {})})
    found = read_json(folder / "model" / "config.json")
    config(found)
    write(folder / "model" / "config.json", found)
    sums = read_json(folder / "model" / "SHA256SUMS")
    sums["config.json"] = sha256_of(folder / "model" / "config.json")
    write(folder / "model" / "SHA256SUMS", sums)
    if scores is not None:
        scoring.save(scores, folder / "predictions.parquet")
    text = (folder / "recipe.yaml").read_text()
    for before, after in (recipe or {}).items():
        text = re.sub(before, after, text)
    (folder / "recipe.yaml").write_text(text)
    if drop_events:
        lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["kind"] != drop_events]
        (folder / "events.jsonl").write_text("".join(kept))
    return runs.load(trained.run.id)


def named(trained: Trained, classes: Sequence[str], each: int = 6, **others: Any) -> Run:
    """A run with these classes, and scores of as many images of each in each part."""

    def rename(config: dict[str, Any]) -> None:
        config["label_names"], config["num_classes"] = [*classes], len(classes)

    return altered(trained, config=rename, scores=scored(len(classes), each), **others)


def scored(
    n_classes: int, each: int = 6, parts: Sequence[str] = ("train", "val", "test")
) -> Scores:
    """Scores that are right more often than not, of as many images of each class in each part."""
    rng = np.random.default_rng(n_classes)
    labels = np.tile(np.repeat(np.arange(n_classes), each), len(parts))
    logits = rng.normal(size=(len(labels), n_classes))
    logits[np.arange(len(labels)), labels] += 2.5
    split = np.repeat(np.array(parts, dtype=object), n_classes * each)
    names = np.array([f"<b>{k}</b>|$.jpg" for k in range(len(labels))], dtype=object)
    return Scores(softmax(logits), labels.astype(np.int64), names, split)


def write(path: Any, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))
