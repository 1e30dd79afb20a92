"""Every page on the real core, by Streamlit's own AppTest."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from core import recipe as recipes
from core.data import dataset as datasets
from core.data import importing
from core.data.dataset import Dataset
from core.evaluation import averaging, thresholds
from core.runs import run as runs
from core.runs.run import Run
from core.runs.worker import work
from core.serving import averaged
from core.training.events import EpochEnded, Note, Progress
from tests.pages.opening import opened, texts, waited

PAGES = ("home", "data", "recipe", "train", "evaluate", "compare", "predict")
EMPTY = {
    "home": "There is no data yet",
    "data": "There is no dataset yet",
    "recipe": "There is no dataset yet",
    "train": "No training has been started yet",
    "evaluate": "No run has finished yet",
    "compare": "There is no dataset yet",
    "predict": "There is no trained classifier yet",
}
SMALL = ["image.size=32", "schedule.epochs=5"]


@pytest.fixture
def dataset(class_photos, make_folder):
    photos = class_photos("ants", "bees", each=20)
    return importing.import_all(make_folder({**photos, "ants/broken.jpg": b"no image"}), "insects")


@pytest.fixture
def finished(dataset):
    run = runs.create(dataset, recipes.with_settings(recipes.preset("quick"), SMALL), "quick")
    list(work(run))
    return run


@pytest.mark.parametrize("page", PAGES)
def test_a_page_on_an_empty_home_says_what_to_do_next(page):
    app = opened(page)
    assert not app.error
    assert EMPTY[page] in texts(app)
    assert app.get("page_link") or app.button


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_a_finished_run_shows_no_error(page, finished):
    app = opened(page)
    assert not app.error


def test_the_sample_is_one_click(home):
    app = opened("data")
    app.button(key="sample").click().run()
    waited(app, lambda page: bool(page.metric))
    assert not app.error
    assert any("digits" in str(box.value) for box in app.selectbox)
    assert [m.value for m in app.metric][:2] == ["1,797", "10"]


def test_the_data_page_counts_and_lists_what_was_skipped(dataset):
    app = opened("data")
    assert [m.value for m in app.metric][:2] == ["40", "2"]
    assert any("broken.jpg" in str(frame.value) for frame in app.dataframe)
    assert "28 training (70.0%), 6 validation (15.0%), 6 test (15.0%)" in texts(app)


def test_a_recipe_refusal_is_shown_and_nothing_starts(dataset):
    app = opened("recipe")
    app.text_input(key="backbone balanced").set_value("resnet50").run()
    app.button(key="start").click().run()
    assert not app.exception
    assert "hub does not answer" in app.error[0].value
    assert runs.all_runs() == []


# Between them, every field counts in one of these.
CHOICES = (
    ["technique.name=finetune", "head.kind=mlp", "optimizer.name=sgd", "schedule.name=plateau",
     "balance.method=oversample", "augmentation.policy=RandAugment"],
    ["technique.name=last_stages", "schedule.name=step"],
    ["technique.name=gradual", "schedule.name=one_cycle"],
    ["technique.name=feature_extraction", "head.kind=svm"],
    ["technique.name=feature_extraction", "head.kind=knn"],
)  # fmt: skip


def test_a_field_has_a_widget_with_its_help_exactly_where_it_counts(dataset):
    seen = set()
    for choice in CHOICES:
        recipe = recipes.with_settings(recipes.preset("quick"), choice)
        values = {name: recipes.value_of(recipe, name) for name, _ in recipes.fields()}
        app = opened("recipe")
        app.session_state["loaded_yaml"] = recipes.to_yaml(recipe)
        app.run()
        widgets = [*app.selectbox, *app.slider, *app.number_input, *app.text_input, *app.toggle]
        helps = {widget.help for widget in widgets}
        for name, info in recipes.fields():
            counts = recipes.applies(name, values) and name != "backbone.name"
            assert (info.description in helps) == counts, name
            seen |= {name} if counts else set()
    assert seen == {name for name, _ in recipes.fields()} - {"backbone.name"}


def test_a_loaded_recipe_fills_the_fields(dataset):
    app = opened("recipe")
    changed = recipes.with_settings(recipes.preset("quick"), ["schedule.epochs=33"])
    app.text_area(key="yaml_text").set_value(recipes.to_yaml(changed)).run()
    app.button(key="load_yaml").click().run()
    assert not app.exception
    assert 33 in [box.value for box in app.number_input]


def test_start_queues_a_run_with_the_recipe_on_the_page(dataset):
    app = opened("recipe")
    app.segmented_control(key="preset").set_value("quick").run()
    app.number_input(key="quick schedule.epochs").set_value(3).run()
    app.text_input(key="quick image.size").set_value("32").run()
    app.button(key="start").click().run()
    assert not app.exception, app.exception
    run = runs.all_runs()[0]
    assert (run.recipe.schedule.epochs, run.recipe.image.size) == (3, 32)
    end = time.monotonic() + 90
    while runs.state_of(run) in runs.LIVE and time.monotonic() < end:
        time.sleep(0.2)
    assert runs.state_of(run) == "finished"
    app = opened("train", run=f"{run.name} · {run.id}")
    assert "Test accuracy" in texts(app)


def test_train_shows_why_a_run_failed(dataset):
    run = runs.create(dataset, recipes.with_settings(recipes.preset("quick"), SMALL))
    (dataset.folder / "dataset.json").rename(dataset.folder / "gone")
    list(work(run))
    (dataset.folder / "gone").rename(dataset.folder / "dataset.json")
    app = opened("train")
    assert "no dataset" in app.error[0].value


def plots(app: AppTest) -> str:
    return " ".join(str(element.proto.spec) for element in app.get("plotly_chart"))


TOO_FAST = Note(
    "The loss leaped.", "warning", "rate_too_high", {"optimizer.learning_rate": 0.00005}
)


def test_the_doctor_speaks_once_and_one_click_trains_again_with_the_change(finished):
    runs.append(finished, Note("The loss leaped, but less.", "warning", "rate_too_high"))
    runs.append(finished, TOO_FAST)
    app = opened("train", run=f"{finished.name} · {finished.id}")
    assert "Doctor" in [heading.value for heading in app.subheader]
    assert [str(w.value) for w in app.warning].count("The loss leaped\\.") == 1
    assert "but less" not in texts(app)
    assert "auto → 0\\.00005" in texts(app)
    app.button(key="again rate_too_high").click().run()
    assert not app.exception, app.exception
    started = runs.all_runs()[0]
    assert started.id != finished.id
    assert started.recipe == recipes.with_settings(
        finished.recipe, ["optimizer.learning_rate=0.00005"]
    )
    assert app.selectbox(key="run").value.endswith(started.id)
    if runs.state_of(started) in runs.LIVE:
        runs.ask_to_stop(started)


def test_a_change_that_cannot_be_had_is_refused_on_the_page(finished):
    change = {"backbone.name": "resnet50"}
    runs.append(finished, Note("Take a larger one.", "info", "underfitting", change))
    app = opened("train", run=f"{finished.name} · {finished.id}")
    app.button(key="again underfitting").click().run()
    assert not app.exception, app.exception
    assert "hub does not answer" in app.error[0].value
    assert len(runs.all_runs()) == 1


def test_a_range_test_has_a_chart_of_its_own_and_leaves_the_others_alone(finished):
    runs.append(finished, Progress("find", 2, 2, 9.0, 9.0, 0, [1, 2, 3], [0.7, 0.5, None],
                                   [0.5, 0.6, 0.5], [0.0012345, 0.1, 1.0]))  # fmt: skip
    runs.append(finished, Note("Found.", kind="rate_found", change={
        "optimizer.learning_rate": 0.0123}))  # fmt: skip
    app = opened("train", run=f"{finished.name} · {finished.id}")
    assert "chosen: 0.012" in plots(app)
    assert plots(app).count("0.0012345") == 1
    app.segmented_control(key="curves").set_value("by step").run()
    assert not app.exception, app.exception
    assert plots(app).count("0.0012345") == 1


def test_a_log_of_a_training_with_losses_that_are_no_numbers_is_drawn(finished):
    steps = ([900, 901], [0.5, None], [0.5, 0.5], [0.1, 0.1])
    runs.append(finished, Progress("head", 9, 9, 9.0, 9.0, 6, *steps))
    figures = {"loss": None, "accuracy": 0.5, "macro_f1": 0.5}
    runs.append(finished, EpochEnded("head", 6, 9, 90, figures, {"loss": None}, 0.1, 1.0, False))
    app = opened("train", run=f"{finished.name} · {finished.id}")
    app.segmented_control(key="curves").set_value("by step").run()
    assert not app.exception, app.exception


def test_evaluate_shows_figures_with_interval_and_n(finished):
    app = opened("evaluate")
    assert "n = 6" in texts(app)
    cards = {"Accuracy", "Balanced accuracy", "Macro-F1", "AUC"}
    assert cards <= {m.label for m in app.metric}


VIEWS = {
    "Figures": "95 % interval",
    "Confusion": "Rows are true classes",
    "Curves": "Each point is a threshold",
    "Operating point": "Usually an image is given its most probable class",
    "Calibration": "A perfectly calibrated classifier would show",
    "Mistakes": "a wrong label is often among them",
    "Map": "Only who is near whom means anything",
}


@pytest.mark.parametrize("images", ["test", "val", "train"])
def test_every_view_of_evaluate_is_drawn_for_every_part(finished, images):
    app = opened("evaluate")
    app.segmented_control(key="images").set_value(images).run()
    for view, words in VIEWS.items():
        app.session_state["evaluate view"] = view
        app.run()
        assert not app.exception, (view, app.exception)
        assert not app.error
        assert words in texts(app)
        assert "nan" not in texts(app).lower().split()


def test_a_classifier_is_tried_on_another_dataset_that_is_here(finished, class_photos, tmp_path):
    folder = tmp_path / "next month"
    for name, content in class_photos("ants", "bees", each=7, first=50).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    other = importing.import_all(folder, "next month")
    app = opened("evaluate")
    app.selectbox(key="try dataset").set_value(f"next month · {other.id}").run()
    app.button(key="try").click().run()
    waited(app, lambda app: "Other: next month" in app.segmented_control(key="images").options)
    app.run()
    assert app.segmented_control(key="images").value == f"{other.id}-1"
    assert not app.exception, app.exception
    assert "n = 14" in texts(app)
    for view, words in VIEWS.items():
        app.session_state["evaluate view"] = view
        app.run()
        assert not app.exception, (view, app.exception)
        assert words in texts(app)


def test_averaging_is_measured_switched_on_and_follows_another_tab(finished):
    list(averaged.steps(lambda: False, run=finished.id))
    app = opened("evaluate")
    app.session_state["evaluate view"] = "Calibration"
    app.run()
    app.toggle(key=f"views {finished.id}").set_value(True).run()
    assert not app.exception, app.exception
    assert averaging.kept(finished.model)
    averaging.keep(finished.model, ())  # As another tab does.
    app.run()
    assert app.toggle(key=f"views {finished.id}").value is False
    assert averaging.kept(finished.model) == ()


def test_a_kept_threshold_decides_what_predict_says(finished, photo):
    thresholds.keep(finished.model, finished.classes, {"ants": 0.001})
    app = opened("predict")
    app.file_uploader(key="photo").upload("bee.jpg", photo(99, kind=1)).run(timeout=120)
    assert (app.metric[0].label, app.metric[0].value) == ("By the thresholds", "ants")


def test_predict_warns_of_a_photo_unlike_anything_in_training(finished):
    board = (np.indices((60, 60)).sum(axis=0) // 6 % 2 * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(board).convert("RGB").save(buffer, "PNG")
    app = opened("predict")
    app.file_uploader(key="photo").upload("board.png", buffer.getvalue()).run(timeout=120)
    assert any("Unlike anything in training" in one.value for one in app.warning)


def test_predict_classifies_a_photo_and_refuses_text(finished, photo):
    app = opened("predict")
    app.file_uploader(key="photo").upload("bee.jpg", photo(99, kind=1)).run(timeout=120)
    assert not app.exception and not app.error
    assert app.metric[0].value in ("ants", "bees")
    app = opened("predict")
    app.file_uploader(key="photo").upload("note.jpg", b"hello, I am text").run(timeout=120)
    assert not app.exception
    assert "cannot be used as an image" in app.error[0].value


def many_images(home: Path) -> Dataset:
    rows = [
        {
            "name": f"class {k % 20:02d}/{k}.jpg", "label": f"class {k % 20:02d}", "part": "",
            "sha256": f"{k:064d}", "width": 4000, "height": 3000, "bytes": 10**6,
            "format": "JPEG", "remarks": "",
        }
        for k in range(5000)
    ]  # fmt: skip
    folder = home / "datasets" / "many"
    folder.mkdir(parents=True)
    datasets.write(folder, "many", "many photos", "2999-01-01", rows, [])
    return datasets.load("many")


def copied(run: Run, number: int) -> None:
    folder = run.folder.with_name(f"copy{number:02d}abcdef")
    shutil.copytree(run.folder, folder)
    facts = (folder / "run.json").read_text().replace(run.id, folder.name)
    (folder / "run.json").write_text(facts)


def test_pages_answer_within_a_second_with_thirty_runs_and_five_thousand_images(finished, home):
    many_images(home)
    for number in range(29):
        copied(finished, number)
    assert len(runs.all_runs()) == 30
    for page in PAGES:
        app = opened(page)  # What is imported or read once is not counted.
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            app.run()
            taken.append(time.perf_counter() - started)
        assert min(taken) < 1.0, (page, taken)


def test_the_same_training_is_not_started_twice(dataset):
    first = runs.start(dataset, recipes.preset("quick"), "quick")
    assert runs.start(dataset, recipes.preset("quick"), "quick").id == first.id
    other = recipes.with_settings(recipes.preset("quick"), ["seed=1"])
    assert runs.start(dataset, other).id != first.id
    for run in runs.all_runs():
        runs.ask_to_stop(run)


def test_an_address_of_a_run_that_is_not_there_says_so(finished):
    app = opened("evaluate", run="gone · abcdefabcdef")
    assert "cannot be shown here" in texts(app)


def test_a_field_that_is_no_value_is_refused_and_the_page_stays(dataset):
    app = opened("recipe")
    app.text_input(key="balanced image.size").set_value("large").run()
    assert not app.exception
    assert "large" in app.error[0].value
    assert app.slider


def test_two_images_a_class_are_shown_though_they_cannot_be_divided(class_photos, make_folder):
    importing.import_all(make_folder(class_photos("ants", "bees", each=2)), "few")
    app = opened("data")
    assert app.metric[0].value == "4"
    assert "No images are left for validation" in app.error[0].value
