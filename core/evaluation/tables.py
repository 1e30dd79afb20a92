"""What the figures of an evaluation show, as tables: each is drawn from its own, and its CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.data.split import IN_WORDS
from core.evaluation.intervals import wilson
from core.evaluation.reliability import Reliability, reliability
from core.evaluation.report import Evaluation
from core.machine import late_pandas as pd
from core.storage import Json
from core.training.events import PHASES, EpochEnded

CURVE_AXES = {
    "ROC": ("false positive rate", "true positive rate"),
    "Precision and recall": ("recall", "precision"),
}


@dataclass(frozen=True)
class Results:
    """What there is to draw of one part (train, val, test, or another dataset: new) of one run.

    temperature: what the logits of these scores were divided by. epochs: of the run.
    """

    part: str
    evaluation: Evaluation
    temperature: float
    epochs: Sequence[EpochEnded]

    def headed(self, title: str) -> str:
        """A title that says which images a figure is of, and how many."""
        words = IN_WORDS.get(self.part, self.part)
        return f"{title} ({words} images, n = {len(self.evaluation.scores):,})"


def curves_table(kind: str) -> Callable[[Results], pd.DataFrame]:
    """The points of the curves of a kind, each with the area below its curve."""
    x, y = CURVE_AXES[kind]

    def table(results: Results) -> pd.DataFrame:
        points = [
            pd.DataFrame(
                {"curve": c.title, "of": "average" if c.average else "class", "area": c.area,
                 x: c.x, y: c.y}
            )
            for c in results.evaluation.curves[kind]
        ]  # fmt: skip
        return pd.concat(points, ignore_index=True)

    return table


def confusion_table(results: Results) -> pd.DataFrame:
    """Counts: a row for each true class, a column for what its images were classified as."""
    found = results.evaluation
    table = pd.DataFrame(found.confusion, columns=[*found.classes])
    table.insert(0, "true class", found.classes, allow_duplicates=True)
    return table


def calibrations(results: Results) -> dict[str, Reliability]:
    """How reliable the probabilities are, by what they are called; those that count come last."""
    scores, temperature = results.evaluation.scores, results.temperature
    if temperature == 1:
        return {"as it is": reliability(scores)}
    return {
        "before": reliability(scores, temperature),
        "after temperature scaling": reliability(scores),
    }


def reliability_table(results: Results) -> pd.DataFrame:
    """A row for each bin of confidence that has images."""
    rows: list[Json] = []
    for name, found in calibrations(results).items():
        columns = (found.confidence.tolist(), found.images.tolist(), found.right.tolist())
        for confidence, images, right in zip(*columns, strict=True):
            low, high = wilson(right, images)
            rows.append(
                {"probabilities": name, "confidence": confidence, "images": images, "right": right,
                 "share right": right / images, "share right low": low, "share right high": high}
            )  # fmt: skip
    return pd.DataFrame(rows)


def classes_table(results: Results) -> pd.DataFrame:
    """The figures of each class with the ends of their intervals, the weakest recall first."""
    found = results.evaluation.per_class
    return found.sort_values("recall", na_position="last", kind="stable", ignore_index=True)


def course_table(results: Results) -> pd.DataFrame:
    """A row for each epoch, phase by phase; epoch 0 is before the first step."""
    rows = [
        {
            "phase": PHASES[e.phase], "epoch": e.epoch,
            "training loss": e.train.get("loss"), "validation loss": e.val.get("loss"),
            "training accuracy": e.train.get("accuracy"),
            "validation accuracy": e.val.get("accuracy"),
            "validation macro-F1": e.val.get("macro_f1"),
            "learning rate": e.learning_rate, "seconds": e.seconds,
            "best so far": "yes" if e.best else "no",
        }
        for e in results.epochs
    ]  # fmt: skip
    # As objects, so that None stays None and does not become NaN.
    return pd.DataFrame(rows, dtype=object)
