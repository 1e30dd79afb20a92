from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.data import importing
from core.data.cells import FORMULA_STARTS
from core.errors import DatasetRefused, ImageRefused, NotFound
from core.evaluation import scores as scoring
from core.models import classifier as classifiers
from core.models.classifier import Prediction
from core.serving import batch
from tests.core.conftest import Trained


def table_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", "\tx", "\rx"])
def test_no_name_starts_a_formula_in_a_table(name: str):
    said = Prediction((name, "plain"), (0.75, 0.25), 1.0)
    text = batch.predictions_csv([name, "plain"], [(Path(name), said)])
    for row in csv.reader(io.StringIO(text, newline="")):
        assert not [cell for cell in row if cell.startswith(FORMULA_STARTS)]
    assert f"'{name}" in text


def test_a_table_has_one_column_a_class_and_names_what_could_not_be_read():
    said = Prediction(("bees", "ants"), (0.75, 0.25), 1.0)
    broken = ImageRefused("The file is empty.", "Save it again.")
    rows = [(Path("one, two.jpg"), said), (Path("broken.jpg"), broken)]
    good, bad = table_of(batch.predictions_csv(["ants", "bees"], rows))
    assert (good["file"], good["prediction"], good["error"]) == ("one, two.jpg", "bees", "")
    assert (float(good["ants"]), float(good["bees"])) == (0.25, 0.75)
    assert float(good["confidence"]) == 0.75
    assert (bad["file"], bad["prediction"], bad["ants"]) == ("broken.jpg", "", "")
    assert bad["error"] == "The file is empty. Save it again."


def test_files_and_folders_are_predicted_and_broken_ones_told(trained: Trained, tmp_path: Path):
    folder = tmp_path / "new" / "below"
    folder.mkdir(parents=True)
    (folder / "bee.JPG").write_bytes(trained.photo("bees/00.jpg"))
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not meant")
    single = tmp_path / "ant"
    single.write_bytes(trained.photo("ants/00.jpg"))
    found = dict(batch.predict_files(trained.run.model, [single, tmp_path / "new"]))
    assert list(found) == [single, folder / "bee.JPG", folder / "broken.png"]
    assert found[single].classes[0] == "ants"
    assert found[folder / "bee.JPG"].classes[0] == "bees"
    assert isinstance(found[folder / "broken.png"], ImageRefused)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(NotFound, match="nowhere"):
        batch.image_files([tmp_path / "nowhere"])


def test_scores_on_a_dataset_are_those_of_the_training_for_its_images(trained: Trained):
    found = batch.score(classifiers.shared(trained.run.model), trained.dataset)
    known = scoring.load(trained.run.predictions)
    held_out = known.chosen(known.split != "train")
    by_name = dict(zip(found.images, found.probabilities, strict=True))
    actual = np.stack([by_name[name] for name in held_out.images])
    np.testing.assert_allclose(actual, held_out.probabilities, atol=1e-4)
    assert found.labels.tolist() == trained.dataset.labels.tolist()


def test_labels_follow_the_classifier_where_a_dataset_has_fewer_classes(
    trained: Trained, photo, make_zip
):
    known = classifiers.load(trained.run.model)
    known.network.reset_classifier(3)
    three = replace(known, classes=("ants", "bees", "zebras"))
    photos = {f"{label}/{k}.jpg": photo(k, kind=k) for label in ("ants", "zebras") for k in (0, 1)}
    found = batch.score(three, importing.import_all(make_zip(photos)))
    assert found.probabilities.shape == (4, 3)
    assert found.labels.tolist() == [0, 0, 2, 2]


def test_a_dataset_with_classes_that_the_classifier_does_not_know_is_refused(
    trained: Trained, class_photos, make_zip
):
    lions = importing.import_all(make_zip(class_photos("ants", "lions", each=2)))
    with pytest.raises(DatasetRefused, match="lions") as refusal:
        batch.score(classifiers.shared(trained.run.model), lions)
    assert "ants, bees" in refusal.value.remedy
