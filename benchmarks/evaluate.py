"""Opening an evaluation of 50,000 predictions of 100 classes, against reading and counting them.

The reference is what nobody can do without: pandas reads the file, and scikit-learn makes the
confusion matrix of it. Both start in a process that has imported what they need.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.pairs import Line, in_turns, seconds_of
from core.evaluation import mistakes, report
from core.evaluation import scores as scoring
from core.evaluation.scores import Scores, softmax

IMAGES, CLASSES, RAISED = 50_000, 100, 3.0


def measured(data: Path, repeat: int) -> Line:
    """Seconds from nothing in memory to all that the Evaluate page shows."""
    import pandas as pd
    from sklearn.metrics import confusion_matrix

    classes = tuple(f"class {number}" for number in range(CLASSES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        scoring.save(simulated(), path)

        def opened() -> float:
            forget()
            return seconds_of(lambda: report.evaluate(path, classes, "test"))

        def counted() -> float:
            def work() -> None:
                table = pd.read_parquet(path)
                confusion_matrix(table["label"], table["predicted"])

            return seconds_of(work)

        first = opened()  # Computes and keeps what it computed.
        pairs = in_turns(opened, counted, repeat)
    return Line(
        "evaluate", "seconds", "lower", "pandas.read_parquet and sklearn's confusion_matrix", pairs,
        f"{IMAGES:,} simulated predictions of {CLASSES} classes",
        {"first_seconds": round(first, 2)},
    )  # fmt: skip


def forget() -> None:
    """What a server that has just started does not have in memory."""
    report._evaluate.cache_clear()
    mistakes._stored.cache_clear()


def simulated() -> Scores:
    """Normal logits, that of the true class raised."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, IMAGES)
    logits = rng.normal(size=(IMAGES, CLASSES))
    logits[np.arange(IMAGES), labels] += RAISED
    names = np.array([f"{number}.jpg" for number in range(IMAGES)], dtype=object)
    return Scores(softmax(logits), labels, names, np.full(IMAGES, "test", dtype=object))
