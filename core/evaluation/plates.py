"""The figures of an evaluation as files for a paper or a talk: SVG, PNG, and their data as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from core.data.cells import safe_cell
from core.evaluation import drawings, tables
from core.evaluation.tables import Results
from core.machine import late_pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plate:
    """A figure: its title, what it shows, its data as a table, and how it is drawn.

    has_data: whether there is anything to draw; only then the others are asked.
    """

    title: str
    help: str
    table: Callable[[Results], pd.DataFrame]
    draw: Callable[[Results], Figure]
    has_data: Callable[[Results], bool] = lambda results: True


def of_curves(kind: str, title: str, help_: str) -> Plate:
    """The plate of a kind of curves; it has data where there are any."""
    return Plate(
        title, help_, tables.curves_table(kind), drawings.curves_drawn(kind),
        lambda results: bool(results.evaluation.curves[kind]),
    )  # fmt: skip


PLATES: dict[str, Plate] = {
    "confusion": Plate(
        "Confusion matrix",
        "Rows are true classes, columns what the classifier said; blue is right, orange wrong, and "
        "the stronger the larger the share of the true class.",
        tables.confusion_table, drawings.confusion_drawn,
    ),
    "recall": Plate(
        "Recall of each class",
        "The share of a class's images that are found, with its 95 % interval; the weakest on top.",
        tables.classes_table, drawings.classes_drawn,
    ),
    "roc": of_curves(
        "ROC",
        "ROC curves",
        "At every threshold: how many images of a class are found, against how many of the others "
        "are taken for it. The area is 1 for perfect, 0.5 for guessing (dotted).",
    ),
    "precision-recall": of_curves(
        "Precision and recall",
        "Precision and recall",
        "At every threshold: how many images of a class are found, against how many of those "
        "chosen are of it. The area is the average precision.",
    ),
    "reliability": Plate(
        "Reliability",
        "Where 90 % of the predictions that are 90 % sure are right, the point is on the dotted "
        "line; below it the classifier is too sure.",
        tables.reliability_table, drawings.reliability_drawn,
    ),
    "course": Plate(
        "Course of the training",
        "Mean cross-entropy and accuracy by epoch; the best epoch is the one that was kept.",
        tables.course_table, drawings.course_drawn,
        lambda results: bool(results.epochs),
    ),
}  # fmt: skip


class Form(NamedTuple):
    """A kind of file: its title and its media type."""

    title: str
    media_type: str


FORMS = {
    "svg": Form("SVG", "image/svg+xml"),
    "png": Form("PNG", "image/png"),
    "csv": Form("CSV", "text/csv; charset=utf-8"),
}
# Neither when a file was made nor by what: the same figure is the same file.
NO_METADATA = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "png": {"Software": None},
}


def made(name: str, results: Results, form: str) -> bytes | None:
    """The file of a plate: its name in `PLATES`, a form of `FORMS`; None if nothing is to draw."""
    plate = PLATES[name]
    if not plate.has_data(results):
        return None
    if form == "csv":
        return csv_of(plate.table(results))
    with drawings.drawing():
        figure, buffer = plate.draw(results), io.BytesIO()
        figure.savefig(buffer, format=form, dpi=drawings.DOTS_PER_INCH, metadata=NO_METADATA[form])
    return buffer.getvalue()


def csv_of(table: pd.DataFrame) -> bytes:
    """A table as a CSV that spreadsheets read rightly; what is not defined is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([safe_cell(str(name)) for name in table.columns])
    for row in table.itertuples(index=False, name=None):
        writer.writerow([cell(value) for value in row])
    return buffer.getvalue().encode("utf-8-sig", "replace")


def cell(value: Any) -> Any:
    """One value of a table as a cell."""
    if isinstance(value, str):
        return safe_cell(value)
    return "" if value is None or value != value else value
