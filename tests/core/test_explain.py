from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from core import recipe as recipes
from core.data import importing
from core.errors import ImageRefused, NotFound, RecipeRefused
from core.evaluation import explain as explaining
from core.evaluation.explain import Explanation
from core.evaluation.layers import layers
from core.models import classifier as classifiers
from core.models import network as networks
from core.models.classifier import Classifier
from core.runs import run as runs
from core.runs import worker
from core.runs.run import Run
from tests.core.conftest import Trained

SIDE, SQUARE = 224, 70  # pixels of a picture and of the red square planted in it


def fresh(name: str, size: int) -> Classifier:
    """A classifier that has learned nothing."""
    recipe = recipes.made(
        {"backbone.name": name, "technique.name": "from_scratch", "image.size": size}
    )
    network = networks.create(recipe, 3, pretrained=False).eval()
    prepared = networks.preprocessing_of(network, recipe)
    return Classifier(network, prepared, ("a", "b", "c"), 1.0, name)


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.fixture
def explained(trained: Trained) -> Explanation:
    """A photo through a backbone that stayed frozen in training."""
    return explaining.explain(trained.run.model, trained.photo("ants/00.jpg"), "ants")


# --- maps --------------------------------------------------------------------------------------


def test_a_map_has_the_size_of_what_the_network_saw_and_goes_from_0_to_1(explained: Explanation):
    assert explained.picture.shape == (64, 64, 3)
    assert explained.picture.dtype == np.uint8
    assert explained.heat.shape == (64, 64)
    assert explained.heat.dtype == np.float32
    assert explained.heat.min() >= 0
    assert explained.heat.max() == pytest.approx(1, abs=1e-3)


def test_what_is_shown_is_what_the_network_saw(trained: Trained, explained: Explanation):
    classifier = classifiers.load(trained.run.model)
    inputs = classifier.inputs(trained.photo("ants/00.jpg"))
    shown = torch.from_numpy(explained.picture).permute(2, 0, 1)[None]
    assert torch.equal(classifiers.normalized(shown, classifier.preprocessing), inputs)


def test_two_classes_have_different_maps(trained: Trained):
    content = trained.photo("ants/00.jpg")
    ants, bees = (explaining.explain(trained.run.model, content, c) for c in ("ants", "bees"))
    assert not np.allclose(ants.heat, bees.heat, atol=0.05)
    assert np.array_equal(ants.picture, bees.picture)


def test_without_a_class_the_predicted_one_is_explained(trained: Trained):
    content = trained.photo("bees/01.jpg")
    predicted = classifiers.load(trained.run.model).predict(content).classes[0]
    silent, named = (explaining.explain(trained.run.model, content, c) for c in (None, predicted))
    assert np.array_equal(silent.heat, named.heat)


def test_the_same_question_has_the_same_answer(trained: Trained, explained: Explanation):
    again = explaining.explain(trained.run.model, trained.photo("ants/00.jpg"), "ants")
    assert np.array_equal(again.heat, explained.heat)


def test_an_unknown_class_is_refused_naming_those_there_are(trained: Trained):
    with pytest.raises(RecipeRefused, match="wasps") as refusal:
        explaining.explain(trained.run.model, trained.photo("ants/00.jpg"), "wasps")
    assert "ants, bees" in refusal.value.remedy


def test_what_is_no_image_is_refused(trained: Trained):
    with pytest.raises(ImageRefused):
        explaining.explain(trained.run.model, b"no image")


def test_a_run_without_a_model_is_refused(tmp_path: Path, photo):
    with pytest.raises(NotFound):
        explaining.explain(tmp_path / "model", photo(1))


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 224), ("vit_tiny_patch16_224", 224), ("vit_tiny_patch16_224", 96)],
)
def test_other_families_are_explained_too(tmp_path: Path, photo, name: str, size: int):
    classifiers.save(fresh(name, size), tmp_path / "model", {})
    maps = [explaining.explain(tmp_path / "model", photo(1), c).heat for c in ("a", "b", "c")]
    assert all(heat.shape == (size, size) for heat in maps)
    # In a network of random weights nothing may speak for some of the classes.
    assert max(heat.std() for heat in maps) > 0.01


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "convnext_atto", "mobilenetv3_small_100"]
)
def test_maps_are_made_of_every_layout_of_features(name: str):
    """Height and width last, as convolutions have them, or before the channels, as Swin has."""
    square = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    heat = explaining.heat_map(fresh(name, 64), square.to(torch.uint8), 1)
    assert heat.shape == (64, 64)
    assert np.isfinite(heat).all()


@pytest.mark.parametrize(
    ("name", "size"),
    [("tf_efficientnet_lite0", 64), ("test_resnet.r160_in1k", 64), ("inception_v3", 80)],
)
def test_nothing_that_the_classifier_is_given_is_left_out_of_the_map(name: str, size: int):
    """Not one branch of several, and not what a shortcut goes past."""
    network = timm.create_model(name, num_classes=2).eval()
    inputs = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    layer = layers(network, inputs)[-1].module
    seen = []
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        expected = network.forward_features(inputs)
    hook.remove()
    assert seen[0].shape == expected.shape
    assert torch.equal(seen[0], expected)


def test_the_tokens_of_a_transformer_are_laid_out_row_by_row():
    network = timm.create_model("test_vit.r160_in1k", num_classes=2).eval()
    size = network.pretrained_cfg["input_size"][-1]
    laid_out = layers(network, torch.zeros(1, 3, size, size))[-1].reshape
    height, width = network.patch_embed.grid_size
    prefix = torch.full((network.num_prefix_tokens,), -1.0)
    tokens = torch.cat([prefix, torch.arange(height * width)])[None, :, None]
    expected = torch.arange(height * width).reshape(1, 1, height, width)
    assert torch.equal(laid_out(tokens), expected)


# --- beside predictions ------------------------------------------------------------------------


def test_explanations_change_no_prediction_that_runs_beside_them(trained: Trained):
    content = trained.photo("ants/02.jpg")
    classifier = classifiers.shared(trained.run.model)
    alone = classifier.predict(content).probabilities

    def explained(number: int) -> float:
        name = ("ants", "bees")[number % 2]
        return float(explaining.explain(trained.run.model, content, name).heat.sum())

    with ThreadPoolExecutor(4) as pool:
        sums = [pool.submit(explained, number) for number in range(20)]
        predicted = [pool.submit(classifier.predict, content) for _ in range(20)]
        assert {one.result().probabilities for one in predicted} == {alone}
        assert len({one.result() for one in sums}) == 2
    assert all(parameter.grad is None for parameter in classifier.network.parameters())


# --- pictures ----------------------------------------------------------------------------------


def test_pictures_of_an_explanation_have_its_size(explained: Explanation):
    assert np.array_equal(decoded(explaining.png(explained.picture)), explained.picture)
    heat = decoded(explaining.heat_png(explained))
    assert heat.shape == (64, 64, 4)
    assert np.array_equal(heat[..., 3], (explained.heat * 255).astype(np.uint8))


def test_strength_0_shows_the_picture_alone_and_more_shows_more_of_the_map(explained: Explanation):
    blended = {
        strength: decoded(explaining.blended_png(explained, strength)).astype(float)
        for strength in (0.0, 0.3, 0.9)
    }
    assert np.array_equal(blended[0.0], explained.picture)
    changes = [np.abs(blended[strength] - explained.picture).mean() for strength in (0.3, 0.9)]
    assert 0 < changes[0] < changes[1]


# --- is it true? -------------------------------------------------------------------------------


def with_square(seed: int, planted: bool) -> tuple[bytes, tuple[slice, slice]]:
    """A noisy picture, with a red square somewhere if it is planted, and where that is."""
    rng = np.random.default_rng([seed, planted])
    pixels = rng.normal(128, 30, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    top, left = rng.integers(0, SIDE - SQUARE, 2)
    place = slice(top, top + SQUARE), slice(left, left + SQUARE)
    if planted:
        pixels[place] = (255, 0, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), place


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has learned to tell pictures with a red square from those without."""
    home = tmp_path_factory.mktemp("squares")
    for seed in range(12):
        for label, planted in (("plain", False), ("square", True)):
            (home / "photos" / label).mkdir(parents=True, exist_ok=True)
            path = home / "photos" / label / f"{seed}.png"
            path.write_bytes(with_square(seed, planted)[0])
    recipe = recipes.changed(
        recipes.preset("quick"),
        {"image": {"fit": "squash"}, "schedule": {"epochs": 20}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(home))
        run = runs.create(importing.import_all(home / "photos"), recipe)
        *_, last = worker.work(run)
    assert last.result["val"]["accuracy"] == 1
    return run


def test_the_map_is_hot_where_the_reason_is(finder: Run):
    """Measured: 4 to 6 times as hot inside the red square as outside."""
    ratios = []
    for seed in range(100, 108):
        content, place = with_square(seed, planted=True)
        heat = explaining.explain(finder.model, content, "square").heat
        outside = np.ones_like(heat, dtype=bool)
        outside[place] = False
        ratios.append(heat[place].mean() / heat[outside].mean())
    assert np.median(ratios) > 3
    assert sum(ratio > 2 for ratio in ratios) >= 7


def test_the_map_of_the_other_class_is_not_hot_there(finder: Run):
    content, place = with_square(100, planted=True)
    heat = explaining.explain(finder.model, content, "plain").heat
    outside = np.ones_like(heat, dtype=bool)
    outside[place] = False
    assert heat[place].mean() < heat[outside].mean()
