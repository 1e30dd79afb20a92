"""The report and the model card: their numbers are the run's, and no name breaks them."""

from __future__ import annotations

import base64
import io
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image

from core.documents import card, document, facts
from core.documents.limits import limits
from core.documents.pictures import worst
from core.errors import NotFound
from core.evaluation import averaging, metrics, mistakes, report, thresholds
from core.evaluation.reliability import reliability
from core.evaluation.scores import Scores
from core.models import classifier
from core.runs import run as runs
from core.runs.run import Run
from core.text import line
from tests.core.altered import HOSTILE, altered, named, scored
from tests.core.conftest import Trained, train

VOID = {"meta", "img", "br"}
NO_NUMBER = re.compile(r"\b(nan|NaN|inf|Infinity|None|undefined)\b")


class Page(HTMLParser):
    """A document as a browser sees it: its tags, its attributes, its text and its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


# --- numbers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(trained: Trained) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(trained.home))
        return document.html(trained.run)


def test_the_figures_of_the_report_are_those_that_the_run_ended_with(trained: Trained, text: str):
    rows = [tuple(row[:4]) for row in Page(text).rows]
    ended = runs.ended(trained.run.events())
    assert ended is not None
    for part in ("test", "val", "train"):
        found = ended.result[part]
        for name, kind in metrics.KINDS.items():
            if name not in found:
                continue
            low, high = found[f"{name}_low"], found[f"{name}_high"]
            interval = f"{kind.form.format(low)} to {kind.form.format(high)}"
            row = (kind.title, kind.form.format(found[name]), interval, f"{found['n']}")
            assert row in rows, (part, name)


def test_the_figures_of_each_class_are_the_runs(trained: Trained, text: str):
    found = report.evaluate(trained.run.predictions, trained.run.classes, "test")
    rows = {row[0]: row for row in Page(text).rows if len(row) == 9}
    for one in found.per_class.to_dict("records"):
        row = rows[one["class"]]
        assert row[3] == str(one["images"])
        for cell, name in zip(row[4:], document.OF_CLASSES, strict=True):
            ends = f"{one[f'{name}_low']:.3f}–{one[f'{name}_high']:.3f}"
            assert cell == f"{one[name]:.3f}{ends}"


def test_the_report_tells_data_recipe_machine_and_calibration(trained: Trained, text: str):
    words, run = Page(text).words, trained.run
    ended = runs.ended(run.events())
    assert ended is not None
    said = (
        run.digest, "revision 1", "ants, bees", "preset quick", "apache-2.0",
        "tf_efficientnet_lite0", "It has no temperature",
        f"{ended.result['peak_memory_mb']:,.0f} MB", f"{ended.result['seconds']:,.1f} s",
        "torch", "timm",
    )  # fmt: skip
    for one in said:
        assert one in words, one
    assert yaml.safe_load(runs.recipe_text(run)) == yaml.safe_load(yaml_of(text))


def test_calibration_is_told_before_and_after_the_temperature(trained: Trained):
    run = altered(trained, config=lambda config: config["headstart"].update(temperature=1.25))
    scores = report.evaluate(run.predictions, run.classes, "test").scores
    before, after = reliability(scores, 1.25).error, reliability(scores).error
    page = Page(document.html(run))
    assert "divided by the temperature 1.250" in page.words
    errors = {row[0]: row[1:4] for row in page.rows if len(row) == 5}
    for name, error in (("before", before), ("after temperature scaling", after)):
        interval = f"{error.low:.3f}–{error.high:.3f}"
        assert errors[name] == [f"{error.value:.3f}", interval, str(error.n)]


def yaml_of(text: str) -> str:
    found = re.search(r"as YAML</summary><pre>(.*?)</pre>", text, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def test_what_differs_from_the_preset_is_marked(text: str):
    marked = re.findall(r"<mark>(.*?)</mark>", text)
    assert "size 64" in marked
    assert "epochs 3" in marked
    assert not any("weight decay" in one for one in marked)


def test_the_surest_mistakes_come_first_each_with_its_picture_and_its_map(trained: Trained):
    known = mistakes.stored(trained.run.predictions)
    # What it says of the test images is exchanged: now most of it is wrong.
    swapped = np.where(known.split[:, None] == "test", known.probabilities[:, ::-1],
                       known.probabilities)  # fmt: skip
    run = altered(trained, scores=replace(known, probabilities=swapped), with_images=True)
    part = report.evaluate(run.predictions, run.classes, "test").scores
    found = worst(facts.gathered(run))
    assert [one.name for one in found] == [
        str(part.images[k]) for k in mistakes.positions(part, run.classes, None, None)
    ]
    assert [one.confidence for one in found] == sorted((m.confidence for m in found), reverse=True)
    for one in found:
        assert one.true != one.predicted
        for address in (one.picture, one.heat):
            content = base64.b64decode(address.partition(",")[2])
            assert max(Image.open(io.BytesIO(content)).size) <= 168
    assert len(jpegs_of(Page(document.html(run)))) == 2 * len(found) > 0


def jpegs_of(page: Page) -> list[str]:
    return [value for _, _, value in page.attributes if value.startswith("data:image/jpeg")]


def test_kept_thresholds_and_the_accuracy_with_them_are_told(trained: Trained):
    run = altered(trained)
    thresholds.keep(run.model, run.classes, {"bees": 0.125})
    decided = facts.gathered(run).decided
    assert decided is not None
    for words in (Page(document.html(run)).words, card.card(run)):
        assert "0.125" in words
        assert facts.told("accuracy", decided) in words


def test_views_that_are_averaged_over_are_told(trained: Trained):
    run = altered(trained)
    for words in (Page(document.html(run)).words, card.card(run)):
        assert "averages over views" not in words
    averaging.keep(run.model, ["mirrored", "closer"])
    for words in (Page(document.html(run)).words, card.card(run)):
        assert "averages over views of each photo (mirrored, closer)" in words


# --- the file itself -----------------------------------------------------------------------------


def test_the_same_run_gives_the_same_report_and_card(trained: Trained, text: str, served: Trained):
    assert document.html(trained.run) == text
    assert card.card(trained.run) == card.card(trained.run)


def test_the_report_loads_nothing_and_runs_nothing(text: str):
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base", "form", "svg"}
    loaded = [
        v for _, name, v in page.attributes if name in ("src", "href", "srcset", "background")
    ]
    assert loaded
    assert all(address.startswith("data:image/") for address in loaded)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "url(" not in text and "@import" not in text
    assert ("meta", "content", CLOSED) in page.attributes


CLOSED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_no_document_has_a_number_that_is_none(trained: Trained, text: str):
    few = scored(3, each=1)
    sparse = altered(
        trained, scores=few.chosen((few.labels < 2) | (few.split == "train")),
        config=lambda config: config.update(label_names=["ants", "bees", "wasps"]),
        drop_events="EpochEnded",
    )  # fmt: skip
    for words in (Page(text).words, Page(document.html(sparse)).words, card.card(sparse)):
        assert not [words[m.start() - 50 : m.end()] for m in NO_NUMBER.finditer(words)]


# --- odd runs ------------------------------------------------------------------------------------


def test_names_that_mean_something_elsewhere_are_literal_in_the_report(trained: Trained):
    run = named(trained, HOSTILE, facts={"name": HOSTILE[0], "dataset_name": HOSTILE[1]})
    text = document.html(run)
    page = Page(text)
    assert "script" not in page.tags
    for name in HOSTILE:
        assert line(name, document.LONGEST_NAME) in page.words
    heads = [row[0] for row in page.rows if len(row) == 9]
    assert sorted(heads[1:]) == sorted(line(name, document.LONGEST_NAME) for name in HOSTILE)


def test_a_run_without_test_images_says_so_and_shows_those_of_validation(trained: Trained):
    run = altered(trained, scores=scored(2, parts=("train", "val")))
    words = Page(document.html(run)).words
    assert "This run has no test images" in words
    assert "There were no test images" in words
    assert "Test images" not in words
    front, _ = parts_of(card.card(run))
    assert front["model-index"][0]["results"][0]["dataset"]["split"] == "validation"


def test_a_run_of_one_epoch_has_a_report(tmp_path_factory, monkeypatch):
    one = train(tmp_path_factory.mktemp("one"), "schedule.epochs=1")
    monkeypatch.setenv("HEADSTART_HOME", str(one.home))
    page = Page(document.html(one.run))
    assert ["Epochs", "1, the best was 1"] in page.rows
    assert card.card(one.run)


def test_a_run_of_sixty_classes_has_a_row_for_each(trained: Trained):
    classes = [f"class {k:02d}" for k in range(60)]
    run = named(trained, classes)
    heads = [row[0] for row in Page(document.html(run)).rows if len(row) == 9]
    assert sorted(heads[1:]) == classes
    _, body = parts_of(card.card(run))
    assert all(f"| {name} |" in body for name in classes)


def test_a_run_whose_dataset_is_gone_has_a_report_without_pictures(trained: Trained):
    run = altered(trained, scores=scored(2))
    page = Page(document.html(run))
    assert "The dataset is not here any more" in page.words
    assert not jpegs_of(page)


def test_a_run_that_was_not_scored_has_no_report(trained: Trained):
    run = altered(trained)
    run.predictions.unlink()
    with pytest.raises(NotFound):
        document.html(run)


# --- limits --------------------------------------------------------------------------------------


def test_limits_name_the_classes_that_are_missed_and_those_with_few_images(trained: Trained):
    labels = np.repeat([0, 1, 2], [40, 40, 8])
    given = labels.copy()
    given[:12] = 1  # 12 of 40 ants are taken for bees.
    probabilities = np.full((88, 3), 0.05, dtype=np.float32)
    probabilities[np.arange(88), given] = 0.9
    names, part = np.arange(88).astype(str).astype(object), np.full(88, "test", dtype=object)
    run = altered(
        trained, scores=Scores(probabilities, labels, names, part),
        config=lambda config: config.update(label_names=["ants", "bees", "wasps"]),
    )  # fmt: skip
    said = " ".join(limits(facts.gathered(run)))
    assert "more than a quarter of the test images of: ants (28 of 40 found)." in said
    assert "ants taken for bees, 12 test images (30% of the true class)" in said
    assert "Classes with under 30 test images, whose figures are rough: wasps (8)." in said
    assert "It knows 3 classes" in said


def test_limits_say_what_the_run_lacks(trained: Trained):
    def plain(config: dict[str, Any]) -> None:
        config["headstart"]["temperature"] = 1.0

    run = altered(trained, config=plain)
    (run.model / "familiar.safetensors").unlink()
    said = " ".join(limits(facts.gathered(run)))
    assert "were not calibrated" in said
    assert "cannot tell a photo that is unlike them" in said


def test_a_training_of_few_test_images_says_that_all_is_rough(served: Trained):
    said = limits(facts.gathered(served.run))
    assert "Every class has under 30 test images" in said[0]


# --- the model card ------------------------------------------------------------------------------


def parts_of(text: str) -> tuple[dict[str, Any], str]:
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


SECTIONS = (
    "Model details", "Uses", "Bias, risks, and limitations",
    "How to get started with the model", "Training details", "Evaluation",
    "Technical specifications", "Citation",
)  # fmt: skip


def test_the_card_is_one_that_the_hub_reads_with_the_runs_figures(served: Trained):
    text = card.card(served.run)
    data = ModelCard(text).data
    assert (data.license, data.library_name) == ("apache-2.0", "timm")
    assert data.pipeline_tag == "image-classification"
    assert data.base_model == "timm/tf_efficientnet_lite0.in1k"
    ended = runs.ended(served.run.events())
    assert ended is not None
    found = {one.metric_type: one.metric_value for one in data.eval_results}
    for name, type_ in card.METRICS.items():
        assert found[type_] == round(ended.result["test"][name], 6)
    assert [h for h in re.findall(r"^## (.*)$", text, re.MULTILINE)] == list(SECTIONS)


def test_names_that_mean_something_elsewhere_are_literal_in_the_card(trained: Trained):
    run = named(trained, HOSTILE, facts={"name": HOSTILE[4], "dataset_name": HOSTILE[5]})
    front, body = parts_of(card.card(run))
    assert front["model-index"][0]["name"] == "---"
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "two lines"
    page = Page(MarkdownIt("commonmark").enable("table").render(body))
    assert not page.tags & {"script", "style", "b", "hr"}
    rows = [row for row in page.rows if len(row) == 9]
    assert sorted(row[0] for row in rows[1:]) == sorted(
        line(name, card.LONGEST_NAME) for name in HOSTILE
    )
    links = [value for tag, name, value in page.attributes if name == "href"]
    assert links == ["https://huggingface.co/timm/tf_efficientnet_lite0.in1k"]


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_the_code_of_the_card_says_what_headstart_says(
    trained: Trained, fit: str, tmp_path, monkeypatch, capsys
):
    run = altered(
        trained, config=lambda config: config["headstart"]["preprocessing"].update(fit=fit)
    )
    photo = trained.photo(trained.dataset.table["name"][3])  # Wider than high.
    expected = classifier.load(run.model).predict(photo)
    assert said_by_the_code_of(run, photo, tmp_path, monkeypatch, capsys) == pytest.approx(
        dict(zip(expected.classes, expected.probabilities, strict=True)), abs=0.02
    )


def test_the_code_of_a_card_whose_head_is_not_timms_works_with_headstart(
    tmp_path_factory, tmp_path, monkeypatch, capsys
):
    svm = train(tmp_path_factory.mktemp("svm"), "head.kind=svm")
    monkeypatch.setenv("HEADSTART_HOME", str(svm.home))
    front, _ = parts_of(card.card(svm.run))
    assert front["library_name"] == "pytorch"
    photo = svm.photo(svm.dataset.table["name"][3])
    expected = classifier.load(svm.run.model).predict(photo)
    assert said_by_the_code_of(svm.run, photo, tmp_path, monkeypatch, capsys) == pytest.approx(
        dict(zip(expected.classes, expected.probabilities, strict=True)), abs=1e-4
    )


def said_by_the_code_of(run: Run, photo: bytes, folder, monkeypatch, capsys) -> dict[str, float]:
    """What the code of a run's card prints for a photo, run beside the model as it says."""
    (code,) = re.findall(r"```python\n(.*?)```", card.card(run), re.DOTALL)
    (folder / "photo.jpg").write_bytes(photo)
    shutil.copytree(run.model, folder / "model")
    monkeypatch.chdir(folder)
    exec(compile(code, "card", "exec"), {"__name__": "card"})
    lines = capsys.readouterr().out.splitlines()
    return {name: float(share) for share, name in (one.split("  ", 1) for one in lines)}


LICENSES = {
    "vit_small_patch16_dinov3.lvd1689m": {
        "license": "other", "license_name": "dinov3-license",
        "license_link": "https://huggingface.co/timm/vit_small_patch16_dinov3.lvd1689m",
    },
    "resnet50.a1_in1k": {"license": "apache-2.0"},
    "resnet10t.c3_in1k": {"license": "apache-2.0"},  # Not in the catalogue: its own words.
}  # fmt: skip


@pytest.mark.parametrize("backbone", LICENSES)
def test_the_license_is_that_of_the_weights(trained: Trained, backbone: str):
    run = altered(trained, recipe={"tf_efficientnet_lite0": backbone})
    front, _ = parts_of(card.card(run))
    assert {k: v for k, v in front.items() if k.startswith("license")} == LICENSES[backbone]


@pytest.mark.parametrize(
    "change",
    [{"feature_extraction": "from_scratch"}, {"weights: pretrained": "weights: mine.safetensors"}],
)
def test_of_weights_that_nobody_knows_no_license_is_claimed(trained: Trained, change):
    run = altered(trained, recipe=change)
    front, body = parts_of(card.card(run))
    assert front["license"] == "unknown"
    assert ("transfer learning" in body) is ("from_scratch" not in change.values())
    assert ("transfer-learning" in front["tags"]) is ("from_scratch" not in change.values())
    assert "base_model" not in front
