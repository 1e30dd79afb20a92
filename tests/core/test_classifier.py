from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core import recipe as recipes
from core.errors import ImageRefused, NotFound
from core.evaluation import scores as scoring
from core.models import classifier as classifiers
from core.models import network as networks
from core.models.classifier import Classifier
from tests.core.conftest import Trained, train

SMALL = "test_resnet.r160_in1k"
ODD_NAMES = ("001", "1e5", "<script>alert(1)</script>", "NA", "Größe ✓", "a/b", "null")


@pytest.fixture(scope="module")
def letterboxed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("letterboxed"), "image.fit=letterbox")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All layers have learned, and batch norm has statistics of its own."""
    return train(
        tmp_path_factory.mktemp("tuned"),
        "technique.name=from_scratch", f"backbone.name={SMALL}", "image.fit=squash",
        "optimizer.learning_rate=0.01", "compute.batch_size=4", "compute.precision=fp32",
    )  # fmt: skip


def fresh(name: str = SMALL, classes: tuple[str, ...] = ("ants", "bees"), size: int = 64):
    """A classifier that has learned nothing."""
    recipe = recipes.made(
        {"backbone.name": name, "technique.name": "from_scratch", "image.size": size}
    )
    network = networks.create(recipe, len(classes), pretrained=False).eval()
    prepared = networks.preprocessing_of(network, recipe)
    return Classifier(network, prepared, classes, 1.5, name)


def probabilities(classifier: Classifier, content: bytes) -> np.ndarray:
    """In the order of the classes."""
    said = classifier.predict(content)
    by_class = dict(zip(said.classes, said.probabilities, strict=True))
    return np.array([by_class[name] for name in classifier.classes])


# --- training and serving see the same ---------------------------------------------------------


@pytest.mark.parametrize("which", ["trained", "letterboxed", "tuned"])
def test_a_file_is_predicted_as_it_was_scored_in_training(
    which: str, request: pytest.FixtureRequest
):
    """Decoding, resizing, cropping, normalizing, weights and temperature all have to agree."""
    done: Trained = request.getfixturevalue(which)
    classifier = classifiers.load(done.run.model)
    scores = scoring.load(done.run.predictions)
    held_out = scores.chosen(scores.split != "train")
    assert len(held_out) == 12
    for name, expected in zip(held_out.images, held_out.probabilities, strict=True):
        actual = probabilities(classifier, done.photo(name))
        np.testing.assert_allclose(actual, expected, atol=1e-4, err_msg=name)


def test_a_letterboxed_picture_is_scored_differently_from_a_cropped_one(trained, letterboxed):
    """Else the test above would pass with one fit in both."""
    name = "ants/03.jpg"
    one, other = (classifiers.load(done.run.model) for done in (trained, letterboxed))
    square, bars = one.inputs(trained.photo(name)), other.inputs(trained.photo(name))
    assert square.shape == bars.shape == (1, 3, 64, 64)
    assert not torch.allclose(square, bars)


# --- saved and loaded --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SMALL, "test_vit.r160_in1k", "test_efficientnet.r160_in1k"])
def test_a_classifier_that_was_saved_and_loaded_predicts_the_same(tmp_path, photo, name: str):
    before = fresh(name)
    classifiers.save(before, tmp_path / "model", {})
    after = classifiers.load(tmp_path / "model")
    assert (after.preprocessing, after.classes) == (before.preprocessing, before.classes)
    assert (after.temperature, after.backbone) == (1.5, name)
    np.testing.assert_allclose(
        probabilities(after, photo(1)), probabilities(before, photo(1)), atol=1e-6
    )


def test_a_transformer_at_another_image_size_is_saved_and_loaded(tmp_path: Path, photo):
    before = fresh("vit_tiny_patch16_224", size=96)
    classifiers.save(before, tmp_path / "model", {})
    after = classifiers.load(tmp_path / "model")
    np.testing.assert_allclose(
        probabilities(after, photo(1)), probabilities(before, photo(1)), atol=1e-6
    )


def test_saving_leaves_the_classifier_as_it_was(tmp_path: Path, photo):
    classifier = fresh()
    before = probabilities(classifier, photo(1))
    classifiers.save(classifier, tmp_path / "model", {})
    assert np.array_equal(probabilities(classifier, photo(1)), before)


def test_the_config_can_be_read_by_timm_and_by_people(trained: Trained):
    config = json.loads((trained.run.model / "config.json").read_text(encoding="utf-8"))
    assert config["architecture"] == "tf_efficientnet_lite0"
    assert config["num_classes"] == 2
    assert config["label_names"] == ["ants", "bees"]
    assert config["pretrained_cfg"]["input_size"] == [3, 64, 64]
    assert {"mean", "std", "interpolation", "crop_pct"} <= set(config["pretrained_cfg"])
    assert config["headstart"]["dataset"] == trained.dataset.digest
    assert config["headstart"]["temperature"] > 0


def test_names_of_classes_survive_whatever_they_look_like(tmp_path: Path, photo):
    classifiers.save(fresh(classes=ODD_NAMES), tmp_path / "model", {})
    after = classifiers.load(tmp_path / "model")
    assert after.classes == ODD_NAMES
    assert set(after.predict(photo(1)).classes) == set(ODD_NAMES)


def test_a_hole_in_the_weights_is_noticed(tmp_path: Path):
    classifiers.save(fresh(), tmp_path / "model", {})
    path = tmp_path / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    path.write_bytes(content)
    with pytest.raises(NotFound, match=r"model\.safetensors is damaged"):
        classifiers.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_that_lacks_a_file_is_refused(tmp_path: Path, name: str):
    classifiers.save(fresh(), tmp_path / "model", {})
    (tmp_path / "model" / name).unlink()
    with pytest.raises(NotFound, match=name):
        classifiers.load(tmp_path / "model")


@pytest.mark.parametrize("content", [b"", b"{"])
def test_a_damaged_list_of_hashes_is_refused(tmp_path: Path, content: bytes):
    classifiers.save(fresh(), tmp_path / "model", {})
    (tmp_path / "model" / "SHA256SUMS").write_bytes(content)
    with pytest.raises(NotFound):
        classifiers.load(tmp_path / "model")


def test_a_run_without_a_model_says_so(tmp_path: Path):
    with pytest.raises(NotFound, match="no model yet"):
        classifiers.shared(tmp_path / "model")


def test_who_only_predicts_shares_a_classifier_until_it_is_written_anew(tmp_path: Path):
    classifiers.save(fresh(), tmp_path / "model", {})
    first = classifiers.shared(tmp_path / "model")
    assert classifiers.shared(tmp_path / "model") is first
    assert classifiers.load(tmp_path / "model") is not first
    classifiers.save(fresh(classes=("cats", "dogs")), tmp_path / "model", {})
    assert classifiers.shared(tmp_path / "model").classes == ("cats", "dogs")


# --- one prediction ----------------------------------------------------------------------------


def test_a_prediction_names_the_most_probable_class_first(trained: Trained):
    said = classifiers.shared(trained.run.model).predict(trained.photo("bees/00.jpg"))
    assert said.classes == ("bees", "ants")
    assert said.probabilities[0] > said.probabilities[1]
    assert sum(said.probabilities) == pytest.approx(1, abs=1e-6)
    assert said.milliseconds > 0


def test_a_higher_temperature_makes_a_classifier_less_sure_and_of_the_same(photo):
    sure = fresh()
    said, doubted = sure.predict(photo(1)), replace(sure, temperature=15.0).predict(photo(1))
    assert doubted.classes == said.classes
    assert 0.5 < doubted.probabilities[0] < said.probabilities[0]


def encoded(mode: str, format: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    image = image if mode == "RGBA" else image.convert("RGB").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "GIF"), ("1", "PNG"), ("I;16", "PNG"),
     ("LA", "PNG"), ("RGB", "WEBP")],
)  # fmt: skip
def test_every_kind_of_image_is_predicted(mode: str, format: str):
    if mode == "I;16":
        deep = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
        buffer = io.BytesIO()
        deep.save(buffer, "PNG")
        content = buffer.getvalue()
    else:
        content = encoded(mode, format)
    assert fresh().predict(content).classes


def test_a_photo_on_its_side_is_predicted_as_the_one_set_upright():
    """Phones write what the sensor saw and, in EXIF, how to turn it."""
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 60, 3), np.uint8))
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn by 90° clockwise to see it upright.
    plain, turned = io.BytesIO(), io.BytesIO()
    upright.save(plain, "PNG")
    sideways.save(turned, "PNG", exif=exif)
    classifier = fresh()
    assert torch.equal(classifier.inputs(turned.getvalue()), classifier.inputs(plain.getvalue()))


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0cut"])
def test_what_is_no_image_is_refused(content: bytes):
    with pytest.raises(ImageRefused):
        fresh().predict(content)
