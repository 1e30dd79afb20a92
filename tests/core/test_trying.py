"""A finished run tried on other photos, in several views, and drawn as a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.data import importing
from core.errors import DatasetRefused, NotFound, RecipeRefused
from core.evaluation import averaging, familiarity, mistakes, report, run_map, seen
from core.evaluation import scores as scoring
from core.models import classifier as classifiers
from core.recipe import preset, with_settings
from core.runs import scored
from core.serving import averaged, batch
from core.serving import scoring as trying
from tests.conftest import make_photo
from tests.core.conftest import Trained, train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("tried"))


@pytest.fixture
def here(made: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.setenv("HEADSTART_HOME", str(made.home))
    return made


def never() -> bool:
    return False


def folder_of(path: Path, *labels: str, each: int = 6) -> Path:
    for kind, label in enumerate(labels):
        (path / label).mkdir(parents=True)
        for seed in range(each):
            photo = make_photo(100 + seed, kind=kind)
            (path / label / f"{seed}.jpg").write_bytes(photo)
    return path


def test_another_dataset_is_scored_as_the_shell_scores_it(here: Trained, tmp_path: Path):
    other = importing.import_all(folder_of(tmp_path / "next month", "ants", "bees"))
    *_, last = trying.steps(never, run=here.run.id, dataset=other.id)
    images = scored.of(here.run, last.result["on"])
    assert [one.key for one in scored.others(here.run)].count(images.key) == 1
    assert (images.name, images.dataset) == (other.name, other.id)
    found = report.evaluate(images.predictions, here.run.classes, scored.NEW)
    expected = batch.score(classifiers.load(here.run.model), other)
    np.testing.assert_array_equal(found.scores.probabilities, expected.probabilities)
    assert len(seen.load(images.features)) == len(expected) == 12
    assert found.figures["accuracy"].value == 1.0


def test_a_dataset_of_other_classes_is_refused_and_leaves_nothing(here: Trained, tmp_path: Path):
    other = importing.import_all(folder_of(tmp_path / "cars", "cars", "bees"))
    with pytest.raises(DatasetRefused, match="cars"):
        list(trying.steps(never, run=here.run.id, dataset=other.id))
    assert not scored.folder_for(here.run, other).exists()


@pytest.mark.parametrize("key", ["nowhere123ab-1", "../../x-1", "a-b", "-"])
def test_what_was_not_scored_is_not_found(here: Trained, key: str):
    with pytest.raises(NotFound):
        scored.of(here.run, key)


def test_features_are_kept_in_the_order_of_the_scores(here: Trained):
    own = scored.own(here.run)
    stored, features = mistakes.stored(own.predictions), seen.load(own.features)
    classifier = classifiers.load(here.run.model)
    for row in (0, len(stored) - 1):
        expected = classifier.outputs(classifier.inputs(here.photo(stored.images[row])))[1][0]
        # Some were computed in a shorter number format: the image is the most alike all the same.
        alike = familiarity.unit(features) @ familiarity.unit(expected[None])[0]
        assert alike.argmax() == row
        assert alike[row] > 0.995


def test_a_map_has_every_image_of_its_part(here: Trained):
    *_, last = run_map.steps(never, run=here.run.id, part="train")
    assert last.result == {"run": here.run.id, "part": "train"}
    points = run_map.load(scored.own(here.run), "train")
    expected = scoring.load(here.run.predictions).part("train")
    assert sorted(points["name"]) == sorted(expected.images)
    assert np.isfinite(points[["x", "y"]].to_numpy()).all()
    assert run_map.load(scored.own(here.run), "val") is None


def test_a_map_of_a_handful_of_images_is_refused(here: Trained):
    with pytest.raises(DatasetRefused, match="no map"):
        list(run_map.steps(never, run=here.run.id, part="new"))


def test_several_views_are_measured_against_the_photo_alone(here: Trained):
    *_, last = averaged.steps(never, run=here.run.id)
    assert last.result == {"run": here.run.id}
    gain = averaged.known(here.run.folder)
    stored = scoring.load(here.run.predictions).part("val")
    told = report.evaluate(here.run.predictions, here.run.classes, "val").figures["log_loss"]
    assert gain.log_loss[0].value == pytest.approx(told.value, rel=1e-3)
    assert gain.saved.value == pytest.approx(
        gain.log_loss[0].value - gain.log_loss[1].value, abs=1e-6
    )
    assert gain.saved.n == len(stored)
    assert gain.milliseconds[1] > gain.milliseconds[0] > 0
    right = [figure.value * len(stored) for figure in gain.accuracy]
    assert right[1] - right[0] == pytest.approx(gain.gained - gain.lost)


def test_views_that_are_kept_are_averaged_over(here: Trained):
    classifier, content = classifiers.load(here.run.model), here.photo("bees/03.jpg")
    alone = classifiers.predicted(here.run.model, content)
    averaging.keep(here.run.model, ("mirrored", "closer"))
    together = classifiers.predicted(here.run.model, content)
    averaging.keep(here.run.model, ())
    each = [classifier.predict(content, None, views) for views in ((), ("mirrored",), ("closer",))]
    bees = [dict(zip(one.classes, one.probabilities, strict=True))["bees"] for one in each]
    # What each view alone says follows from its mean with the photo.
    mirrored, closer = 2 * bees[1] - bees[0], 2 * bees[2] - bees[0]
    found = dict(zip(together.classes, together.probabilities, strict=True))["bees"]
    assert found == pytest.approx((bees[0] + mirrored + closer) / 3, abs=1e-5)
    after = classifiers.predicted(here.run.model, content)
    assert (after.classes, after.probabilities) == (alone.classes, alone.probabilities)
    with pytest.raises(RecipeRefused, match="sideways"):
        averaging.keep(here.run.model, ("sideways",))


def test_only_views_that_leave_the_class_as_it_is_are_used():
    flipped = with_settings(preset("quick"), ["augmentation.horizontal_flip=0.5"])
    upright = with_settings(preset("quick"), ["augmentation.horizontal_flip=0"])
    assert "mirrored" in averaging.suiting(flipped.augmentation)
    assert averaging.suiting(upright.augmentation) == ("closer",)


def test_views_are_what_they_say():
    rows, columns = torch.arange(32)[:, None], torch.arange(32)
    square = (4 * rows + 3 * columns).to(torch.uint8).expand(3, 32, 32)
    views = averaging.seen(square, ("mirrored", "upside_down", "closer"))
    assert views.shape == (4, 3, 32, 32)
    assert torch.equal(views[0], square)
    assert torch.equal(views[1][:, :, 0], square[:, :, 31])
    assert torch.equal(views[2][:, 0], square[:, 31])
    # Closer: its first corner shows what lay inside of it, and so does its last.
    assert views[3][0, 0, 0] > square[0, 0, 0] + 5
    assert views[3][0, 31, 31] < square[0, 31, 31] - 5
