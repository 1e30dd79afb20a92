"""Figures as files: their data, their names, and that the same run gives the same file."""

from __future__ import annotations

import csv
import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from core.data.cells import plain_cell, safe_cell
from core.documents import facts
from core.evaluation import drawings, plates, tables
from core.evaluation.plates import FORMS, PLATES
from core.evaluation.tables import Results
from core.runs.run import Run
from core.runs.scored import own
from core.text import line
from tests.core.altered import HOSTILE, altered, named, scored
from tests.core.conftest import Trained

SVG = "{http://www.w3.org/2000/svg}"


def results_of(run: Run, part: str) -> Results:
    return facts.results_of(run, own(run), part)


def made(run: Run, name: str, form: str, part: str = "test") -> bytes:
    content = plates.made(name, results_of(run, part), form)
    assert content is not None
    return content


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def texts_of(content: bytes) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(content).iter(f"{SVG}text")]


@pytest.fixture
def results(trained: Trained) -> Results:
    return results_of(trained.run, "test")


# --- the data ------------------------------------------------------------------------------------


def test_the_confusion_csv_has_the_counts_that_the_run_has(trained: Trained, results: Results):
    rows = rows_of(made(trained.run, "confusion", "csv"))
    assert [row["true class"] for row in rows] == ["ants", "bees"]
    counts = [[int(row[name]) for name in ("ants", "bees")] for row in rows]
    assert counts == results.evaluation.confusion.tolist()


@pytest.mark.parametrize(
    ("name", "kind"), [("roc", "ROC"), ("precision-recall", "Precision and recall")]
)
def test_the_csv_of_curves_has_every_point(
    trained: Trained, results: Results, name: str, kind: str
):
    rows = rows_of(made(trained.run, name, "csv"))
    x, y = tables.CURVE_AXES[kind]
    for title, points in itertools.groupby(rows, key=lambda row: row["curve"]):
        (curve,) = [c for c in results.evaluation.curves[kind] if c.title == title]
        found = [(float(row[x]), float(row[y]), float(row["area"])) for row in points]
        wanted = [(a, b, curve.area) for a, b in zip(curve.x, curve.y, strict=True)]
        assert found == wanted
    assert len({row["curve"] for row in rows}) == 3


def test_the_csv_of_classes_has_their_figures_the_weakest_first(trained: Trained, results: Results):
    rows = rows_of(made(trained.run, "recall", "csv"))
    recalls = [float(row["recall"]) for row in rows]
    assert recalls == sorted(recalls)
    by_name = results.evaluation.per_class.set_index("class")
    for row in rows:
        for column in by_name.columns:
            assert float(row[column]) == by_name.loc[row["class"], column]


def test_the_bins_of_the_reliability_csv_hold_every_image_before_and_after(
    trained: Trained, results: Results
):
    rows = rows_of(made(trained.run, "reliability", "csv"))
    for name in tables.calibrations(results):
        bins = [row for row in rows if row["probabilities"] == name]
        assert sum(int(row["images"]) for row in bins) == len(results.evaluation.scores)
        right = (results.evaluation.scores.predicted == results.evaluation.scores.labels).sum()
        assert sum(int(row["right"]) for row in bins) == right
        for row in bins:
            low, share, high = (float(row[f"share right{end}"]) for end in (" low", "", " high"))
            assert low - 1e-9 <= share <= high + 1e-9


def test_the_csv_of_the_course_has_a_row_for_each_epoch_and_an_empty_cell_for_none(
    trained: Trained, results: Results
):
    rows = rows_of(made(trained.run, "course", "csv"))
    assert [int(row["epoch"]) for row in rows] == [e.epoch for e in results.epochs]
    assert [float(row["validation loss"]) for row in rows] == [
        e.val["loss"] for e in results.epochs
    ]
    assert rows[0]["training loss"] == ""  # Before the first step nothing was trained.


def test_no_cell_starts_a_formula_and_names_come_back_as_they_were(trained: Trained):
    run = named(trained, HOSTILE)
    for name in PLATES:
        for row in csv.reader(io.StringIO(made(run, name, "csv").decode("utf-8-sig"), newline="")):
            assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)
    rows = rows_of(made(run, "confusion", "csv"))
    for row, name in zip(rows, HOSTILE, strict=True):
        found = row["true class"]
        assert (plain_cell(found) if safe_cell(name) != name else found) == name


def test_what_is_not_defined_is_an_empty_cell_and_is_not_drawn(trained: Trained):
    scores = scored(3)
    run = named(trained, ("ants", "bees", "wasps"))
    run = altered(
        trained, scores=scores.chosen((scores.labels < 2) | (scores.split == "train")),
        config=lambda config: config.update(label_names=["ants", "bees", "wasps"]),
    )  # fmt: skip
    last = rows_of(made(run, "recall", "csv"))[-1]
    assert (last["class"], last["images"], last["recall"], last["auc"]) == ("wasps", "0", "", "")
    drawn = " ".join(texts_of(made(run, "recall", "svg")))
    assert "ants" in drawn and "wasps" not in drawn


def test_a_run_without_epochs_has_no_course(trained: Trained):
    run = altered(trained, drop_events="EpochEnded")
    for form in FORMS:
        assert plates.made("course", results_of(run, "test"), form) is None


def test_images_of_one_class_alone_have_no_curves(trained: Trained):
    scores = scored(2)
    run = altered(trained, scores=scores.chosen((scores.labels == 0) | (scores.split != "test")))
    results = results_of(run, "test")
    assert plates.made("roc", results, "svg") is None
    for name in ("confusion", "recall", "reliability"):
        assert made(run, name, "svg")


# --- the pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLATES)
def test_names_are_literal_text_in_the_svg(trained: Trained, name: str):
    run = named(trained, HOSTILE)
    content = made(run, name, "svg")
    drawn = " ".join(texts_of(content))
    if name in ("confusion", "recall"):
        for label in HOSTILE:
            assert line(label, drawings.LONGEST_NAME) in drawn, label
    assert b"<script" not in content
    assert not list(ElementTree.fromstring(content).iter(f"{SVG}script"))


@pytest.mark.parametrize("name", PLATES)
def test_the_png_opens_at_twice_the_usual_size(trained: Trained, name: str):
    with Image.open(io.BytesIO(made(trained.run, name, "png"))) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width >= 4 * drawings.DOTS_PER_INCH
        assert round(image.info["dpi"][0]) == drawings.DOTS_PER_INCH
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert pixels.std() > 1


def test_the_same_run_gives_the_same_file_also_when_all_are_drawn_at_once(trained: Trained):
    wanted = [(name, form) for name in PLATES for form in FORMS]
    one_by_one = [made(trained.run, *each) for each in wanted]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda each: made(trained.run, *each), wanted))
    assert together == one_by_one


def test_nothing_in_an_svg_is_loaded_from_elsewhere(trained: Trained):
    for name in PLATES:
        root = ElementTree.fromstring(made(trained.run, name, "svg"))
        links = [
            value
            for element in root.iter()
            for key, value in element.attrib.items()
            if key.endswith("href")
        ]
        assert all(link.startswith(("#", "data:")) for link in links)


def test_drawing_leaves_the_settings_of_everybody_else_alone(trained: Trained):
    before = dict(matplotlib.rcParams)
    made(trained.run, "roc", "svg")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("n", "are_named"), [(60, True), (200, True), (230, False)])
def test_a_matrix_of_many_classes_has_their_names_as_long_as_they_can_be_read(
    trained: Trained, n: int, are_named: bool
):
    run = named(trained, [f"class {k:03d}" for k in range(n)], each=2)
    drawn = texts_of(made(run, "confusion", "svg"))
    assert ("class 000" in drawn) is are_named
    with Image.open(io.BytesIO(made(run, "confusion", "png"))) as image:
        assert max(image.size) < 6000


def test_of_many_curves_the_worst_are_named(trained: Trained):
    run = named(trained, [f"class {k:03d}" for k in range(60)])
    results = results_of(run, "test")
    by_area = sorted(
        (c for c in results.evaluation.curves["ROC"] if not c.average), key=lambda c: c.area
    )
    drawn = " ".join(texts_of(made(run, "roc", "svg")))
    assert by_area[0].title in drawn
    assert by_area[-1].title not in drawn
    assert "the worst of 60" in drawn


def test_without_a_temperature_there_is_one_reliability(trained: Trained):
    run = altered(trained, config=lambda config: config["headstart"].update(temperature=1.0))
    names = {row["probabilities"] for row in rows_of(made(run, "reliability", "csv"))}
    assert names == {"as it is"}
