"""The report of a run: one HTML file that holds everything it shows and loads nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.data import split
from core.documents import facts as gathering
from core.documents.facts import Facts
from core.documents.limits import FEW_IMAGES, limits
from core.documents.loading import loading
from core.documents.pictures import MOST_MISTAKES, data_address, worst
from core.evaluation import baseline, confusions, metrics, plates, report, tables
from core.runs import run as runs
from core.runs import scored
from core.runs.run import Run
from core.storage import Json
from core.text import line

FIRST = ("accuracy", "balanced_accuracy", "macro_f1", "auc")
OF_CLASSES = {"recall": "Recall", "precision": "Precision", "f1": "F1", "auc": "AUC",
              "average_precision": "Average precision"}  # fmt: skip
NOTES = {
    "test": "They were never seen in training.",
    "val": "By these images the best epoch and the temperature were chosen.",
    "train": "From these images it learned: they show how much was learned by heart.",
}
MOST_PAIRS = 10
LONGEST_NAME = 80


@cache
def templates() -> Environment:
    """The templates beside this file. In HTML every value is escaped; no value may be missing."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def html(run: Run) -> str:
    """The report of a run, whole; the same run gives the same report.

    Raises: NotFound before the run was scored.
    """
    facts = gathering.gathered(run)
    return templates().get_template("report.html").render(
        run=run, facts=facts, **figures(facts), **described(facts),
        drawn=drawn(facts), mistakes=worst(facts), mistakes_in_all=mistakes_of(facts),
        most_mistakes=MOST_MISTAKES, line=line, shown=shown, code=loading(run),
    )  # fmt: skip


def figures(facts: Facts) -> Json:
    """The figures as the report writes them."""
    main = facts.main
    return {
        "words": split.IN_WORDS[facts.part],
        "n": len(main.scores),
        "first": metrics.table({name: main.figures[name] for name in FIRST}),
        "all_figures": metrics.table(main.figures),
        "baseline": beside(facts, shown),
        "other_figures": [*of_other_parts(facts), *of_other_data(facts)],
        "classes": class_rows(facts),
        "few_images": FEW_IMAGES,
        "pairs": pairs(facts),
        "calibrations": calibrations(facts),
        "with_thresholds": with_thresholds(facts),
    }


def beside(facts: Facts, written: Callable[[object], str]) -> str:
    """What always answering the most common class reaches, in words. written: how a name is."""
    known = facts.main.beside_baseline
    name = {"baseline_class": written(known["baseline_class"])} if "baseline" in known else {}
    return baseline.sentence({**known, **name})


def of_other_parts(facts: Facts) -> list[Json]:
    """The figures of the parts that do not count, with what they mean."""
    return [
        {
            "title": f"the {split.IN_WORDS[part]} images", "note": NOTES[part],
            "rows": metrics.table(found.figures),
        }
        for part, found in facts.evaluations.items()
        if part != facts.part
    ]  # fmt: skip


def of_other_data(facts: Facts) -> list[Json]:
    """The figures of labelled datasets that the run was tried on."""
    run = facts.run
    tried = [(one, report.evaluate(one.predictions, run.classes, scored.NEW))
             for one in scored.others(run)]  # fmt: skip
    return [
        {
            "title": f"the dataset {line(one.name, LONGEST_NAME)}, revision {one.revision}",
            "note": "Other labelled images, on which it was tried after its training.",
            "rows": metrics.table(found.figures),
        }
        for one, found in tried
        if found is not None
    ]


def described(facts: Facts) -> Json:
    """Data, recipe, machine and limits as the report writes them."""
    run = facts.run
    return {
        "limits": limits(facts),
        "purpose": purpose(facts, shown),
        "date": run.created[:10],
        "images": {split.IN_WORDS[part]: int(n.sum()) for part, n in facts.images.items()},
        "settings": gathering.settings_of(run),
        "preset": run.preset,
        "recipe_text": runs.recipe_text(run),
        "machine": machine_rows(facts),
    }


def shown(name: object) -> str:
    """A name as the report shows it: one line, not too long."""
    return line(name, LONGEST_NAME)


def purpose(facts: Facts, written: Callable[[object], str]) -> str:
    """What the classifier is for, in one sentence. written: how a name is."""
    names = [written(name) for name in facts.classes]
    few = ", ".join(names[:8])
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"It says which of {len(names)} classes a photo shows: {few}{more}.{origin(facts.run)}"


def origin(run: Run) -> str:
    """That a classifier was put together from others, and whose recipe is shown; "" if not."""
    if run.kind == "training":
        return ""
    ids = ", ".join(run.members) or ", ".join(run.config["headstart"].get("soup", []))
    return (
        f" It was put together ({run.kind}) from the runs {ids}; the recipe shown is that of the "
        "first."
    )


def class_rows(facts: Facts) -> list[Json]:
    """Each class with its images by part and its figures, the weakest recall first."""
    table = facts.main.per_class.sort_values("recall", na_position="last", kind="stable")
    numbers = {name: number for number, name in enumerate(facts.classes)}
    return [
        {
            "name": row["class"],
            "images": [int(counts[numbers[row["class"]]]) for counts in facts.images.values()],
            "is_few": row["images"] < FEW_IMAGES,
            "figures": [cell(row, name) for name in OF_CLASSES],
        }
        for row in table.to_dict("records")
    ]


def cell(row: dict[Any, Any], name: str) -> tuple[str, str]:
    """A figure of a class and its interval; a dash where it is not defined."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "–", ""
    return f"{value:.3f}", "" if low is None else f"{low:.3f}–{high:.3f}"


def pairs(facts: Facts) -> list[Json]:
    """The pairs of classes that are confused most."""
    found = confusions.pairs(facts.main.confusion, facts.classes, MOST_PAIRS)
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def mistakes_of(facts: Facts) -> int:
    """How many images were classified wrongly."""
    return int((facts.main.scores.predicted != facts.main.scores.labels).sum())


def calibrations(facts: Facts) -> list[Json]:
    """The calibration error, before and after temperature scaling where there was any."""
    return [
        {
            "name": name, "error": f"{one.error.value:.3f}",
            "interval": f"{one.error.low:.3f}–{one.error.high:.3f}", "n": one.error.n,
            "chance": f"{one.by_chance:.3f}",
        }
        for name, one in tables.calibrations(facts.results[facts.part]).items()
    ]  # fmt: skip


def with_thresholds(facts: Facts) -> str:
    """The accuracy with the thresholds that are kept, in words; "" where none is."""
    decided = facts.decided
    return "" if decided is None else gathering.told("accuracy", decided)


def drawn(facts: Facts) -> Json:
    """Each plate that has something to show: title, help, and its picture as a data address."""
    results = facts.results[facts.part]
    found = {name: plates.made(name, results, "svg") for name in plates.PLATES}
    return {
        name: {
            "title": plates.PLATES[name].title, "help": plates.PLATES[name].help,
            "address": data_address(content, "image/svg+xml"),
        }
        for name, content in found.items()
        if content is not None
    }  # fmt: skip


def machine_rows(facts: Facts) -> list[tuple[str, str]]:
    """What the training ran on and took."""
    started, result = facts.started, facts.result
    pace = result.get("images_per_second") or 0.0
    rows = [
        ("Epochs", f"{result['epochs']}, the best was {result['best_epoch']}", "best_epoch"),
        ("Time", f"{result['seconds']:,.1f} s", "seconds"),
        ("Peak memory", f"{result['peak_memory_mb']:,.0f} MB", "peak_memory_mb"),
        ("Pace", f"{pace:,.0f} images a second", "images_per_second"),
    ] if result else []  # fmt: skip
    found = [(title, words) for title, words, name in rows if result.get(name) is not None]
    if started is None:
        return found
    return [
        ("Machine", started.machine), ("Device", started.device),
        ("Precision", started.precision), *found,
        ("Versions", ", ".join(f"{name} {v}" for name, v in started.versions.items())),
    ]  # fmt: skip
