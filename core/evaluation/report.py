"""All that the Evaluate page shows of one part of one run, from its stored predictions alone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from core.errors import HeadstartError
from core.evaluation import baseline, curves, metrics, mistakes
from core.evaluation.curves import Curve, thinned
from core.evaluation.intervals import Figure
from core.evaluation.scores import Scores
from core.machine import late_pandas as pd
from core.storage import Json, read_json, write_json

# Of what is kept: another one is computed anew.
VERSION = 1


@dataclass(frozen=True)
class Said:
    """What a classifier said of one image: the classes, the most probable first."""

    true: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """Figures of one part. confusion: counts C×C, row true, column predicted.

    curves: of each kind in `curves.CURVES`: each class that has one, then the averages.
    baseline: what always answering the most common class reaches, as `baseline.facts` has it.
    """

    classes: tuple[str, ...]
    scores: Scores
    figures: dict[str, Figure]
    per_class: pd.DataFrame
    curves: dict[str, list[Curve]]
    confusion: np.ndarray
    baseline: Json

    @property
    def beside_baseline(self) -> Json:
        """The accuracy with its baseline, as `baseline.sentence` reads them."""
        found = self.figures["accuracy"]
        return {"accuracy": found.value, "accuracy_low": found.low, **self.baseline}

    def has(self, name: str) -> bool:
        """Whether an image is among those scored."""
        return bool((self.scores.images == name).any())

    def said_of(self, name: str) -> Said:
        """What was said of one image."""
        position = int(np.nonzero(self.scores.images == name)[0][0])
        found = self.scores.probabilities[position]
        order = np.argsort(-found, kind="stable")
        return Said(
            self.classes[self.scores.labels[position]],
            tuple(self.classes[k] for k in order),
            tuple(float(found[k]) for k in order),
        )


def evaluate(predictions: Path, classes: tuple[str, ...], part: str) -> Evaluation | None:
    """Figures of one part (train, val, test, …) of a `predictions.parquet`; None without images.

    classes: those that its class numbers mean. What takes more than a moment is kept beside it.
    Raises: NotFound before there are predictions.
    """
    scores = mistakes.stored(predictions)  # Raises before there are any.
    if not len(scores.part(part)):
        return None
    return _evaluate(predictions, classes, part, predictions.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _evaluate(predictions: Path, classes: tuple[str, ...], part: str, written: int) -> Evaluation:
    every = mistakes.stored(predictions)
    scores = every.part(part)
    matrix = metrics.confusion(scores.labels, scores.predicted, len(classes))
    always = baseline.facts(baseline.of_part(every, part, classes))
    return Evaluation(classes, scores, *computed(predictions, scores, classes), matrix, always)


Computed = tuple[dict[str, Figure], pd.DataFrame, dict[str, list[Curve]]]


def computed(predictions: Path, scores: Scores, classes: tuple[str, ...]) -> Computed:
    """Figures, those of each class, and curves: read if they are kept, else computed and kept."""
    part = str(scores.split[0])
    path = predictions.parent / f"{predictions.stem}-figures" / f"{part}.json"
    known = {"version": VERSION, "predictions": digest_of(scores), "classes": list(classes)}
    with suppress(OSError, ValueError, KeyError, TypeError):  # None yet, or of other predictions.
        found = read_json(path)
        if {key: found[key] for key in known} == known:
            return from_json(found)
    ranks = curves.ranks(scores)
    areas = curves.areas(scores, ranks)
    figures = metrics.figures(scores, areas)
    per_class = metrics.per_class(scores, classes, areas)
    drawn = {kind: curves.drawn(kind, ranks, classes) for kind in curves.CURVES}
    content = known | to_json(figures, per_class, drawn)
    with suppress(HeadstartError, OSError):  # A full disk only means to compute it again.
        write_json(path, content)
    return from_json(content)


def digest_of(scores: Scores) -> str:
    """What tells these scores from all others."""
    found = sha256(scores.probabilities.tobytes())
    found.update(scores.labels.tobytes())
    return found.hexdigest()


def to_json(
    figures: dict[str, Figure], per_class: pd.DataFrame, drawn: dict[str, list[Curve]]
) -> Json:
    """What is kept of an evaluation."""
    return {
        "figures": {name: asdict(figure) for name, figure in figures.items()},
        "per_class": per_class.to_dict("list"),
        "curves": {
            kind: [{**vars(c), "x": c.x.tolist(), "y": c.y.tolist()} for c in map(thinned, found)]
            for kind, found in drawn.items()
        },
    }


def from_json(found: Json) -> Computed:
    """What `to_json` wrote."""
    return (
        {name: Figure(**figure) for name, figure in found["figures"].items()},
        # As objects, so that None stays None and does not become NaN.
        pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in found["per_class"].items()}),
        {
            kind: [Curve(**{**c, "x": np.array(c["x"]), "y": np.array(c["y"])}) for c in some]
            for kind, some in found["curves"].items()
        },
    )
