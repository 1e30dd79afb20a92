"""The job that draws the images of a run by what its own network saw of them: PCA, then t-SNE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from core.auditing import map as maps
from core.errors import DatasetRefused
from core.evaluation import familiarity, mistakes, seen
from core.jobs import Step
from core.machine import late_pandas as pd
from core.runs import run as runs
from core.runs import scored
from core.runs.scored import Scored
from core.storage import whole_file


def path_of(images: Scored, part: str) -> Path:
    """Where the map of a part lies."""
    return images.folder / "maps" / f"{part}.parquet"


def steps(stop: Callable[[], bool], *, run: str, part: str, on: str = "") -> Iterator[Step]:
    """Draw the map of a part; the result is {"run", "part"}.

    on: the key of another dataset that the run scored; "" for its own images.
    Raises: NotFound, DatasetRefused for a handful of images.
    """
    images = scored.of(runs.load(run), on)
    scores, features = mistakes.stored(images.predictions), seen.load(images.features)
    chosen = np.flatnonzero(scores.split == part)
    if len(chosen) < maps.FEWEST:
        raise DatasetRefused(
            f"{len(chosen)} images make no map.",
            f"Choose other images; {maps.FEWEST} are the least.",
        )
    yield Step(0, len(chosen), "Laying out the map")
    points = maps.placed(familiarity.unit(features[chosen]), 0)
    table = pd.DataFrame({"name": scores.images[chosen], "x": points[:, 0], "y": points[:, 1]})
    path = path_of(images, part)
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as file:
        table.to_parquet(file, index=False)
    yield Step(len(chosen), len(chosen), "Done", result={"run": run, "part": part})


def load(images: Scored, part: str) -> pd.DataFrame | None:
    """Points `name`, `x`, `y`, with `true` and `said`, class numbers; None before it was drawn."""
    path = path_of(images, part)
    if not path.exists():
        return None
    scores = mistakes.stored(images.predictions).part(part)
    facts = pd.DataFrame({"name": scores.images, "true": scores.labels, "said": scores.predicted})
    return pd.read_parquet(path).merge(facts, on="name")
