from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from core.data import augment
from core.data.augment import FILL, Preprocessing
from core.data.changes import Change
from core.schema import POLICIES, Augmentation

SIZE, SHORT = 32, 40
OFF = Augmentation(policy="none")
FLIPS = {"horizontal_flip", "vertical_flip"}
# Changes of whole batches, which tests/core/test_mixing.py looks at.
OF_BATCHES = {"mixup", "cutmix"}
# Each option of single pictures, as strong as shows in every version.
STRONG = {
    "horizontal_flip": 1.0,
    "vertical_flip": 1.0,
    "rotation": 45.0,
    "translation": 0.3,
    "zoom": 0.5,
    "random_crop": 0.3,
    "perspective": 0.3,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.3,
    "grayscale": 1.0,
    "blur": 3.0,
    "noise": 0.1,
    "erasing": 1.0,
}
EVERYTHING = Augmentation(policy="RandAugment", **STRONG)


def preprocessing(fit: str = "crop", interpolation: str = "bicubic") -> Preprocessing:
    return Preprocessing(SIZE, fit, SHORT, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), interpolation)


def only(name: str, value: Any) -> Augmentation:
    return Augmentation(**{"policy": "none", name: value})


def random_pixels(height: int = SHORT, width: int = 60, seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).integers(0, 256, (3, height // 4 + 1, width // 4 + 1))
    coarse = noise.astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return torch.from_numpy(np.ascontiguousarray(coarse))


def versions(settings: Augmentation, n: int = 8, fit: str = "crop") -> list[Tensor]:
    return [
        augment.augmented(
            random_pixels(), settings, preprocessing(fit), np.random.default_rng(seed)
        )
        for seed in range(n)
    ]


def striped(width: int, height: int) -> Tensor:
    """Red, green and blue thirds from left to right."""
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    for channel in range(3):
        pixels[channel, :, channel * width // 3 : (channel + 1) * width // 3] = 255
    return pixels


@pytest.mark.parametrize("size", [(120, 80), (80, 120), (20, 10), (40, 40), (2000, 500)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_a_picture_has_the_wanted_short_side_and_its_own_shape(photo, size, interpolation: str):
    pixels = augment.picture(photo(0, size=size), preprocessing(interpolation=interpolation))
    assert pixels.dtype == torch.uint8 and pixels.shape[0] == 3
    assert min(pixels.shape[1:]) == SHORT
    assert pixels.shape[2] / pixels.shape[1] == pytest.approx(size[0] / size[1], rel=0.03)


@pytest.mark.parametrize("size", [(3000, 30), (30, 3000)])
def test_a_picture_of_extreme_shape_is_at_most_four_times_as_long(photo, size):
    pixels = augment.picture(photo(0, size=size), preprocessing())
    assert max(pixels.shape[1:]) == augment.LONGEST_TO_SHORTEST * SHORT


def test_a_picture_looks_like_its_file():
    image = Image.linear_gradient("L").convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    pixels = augment.picture(buffer.getvalue(), preprocessing())
    expected = np.asarray(image.resize((SHORT, SHORT), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


@given(height=st.integers(1, 200), width=st.integers(1, 200))
@pytest.mark.parametrize("fit", augment.FITS)
def test_every_picture_fits_the_square(fit: str, height: int, width: int):
    square = augment.fitted(random_pixels(height, width), preprocessing(fit))
    assert square.shape == (3, SIZE, SIZE) and square.dtype == torch.uint8


def test_crop_shows_the_middle():
    square = augment.fitted(striped(3 * SHORT, SHORT), preprocessing("crop")).float()
    assert square.mean(dim=(1, 2)).tolist() == pytest.approx([0, 255, 0], abs=1)


def test_squash_shows_the_whole():
    square = augment.fitted(striped(3 * SHORT, SHORT), preprocessing("squash")).float()
    assert square.mean(dim=(1, 2)).tolist() == pytest.approx([85, 85, 85], abs=4)
    assert square[:, :, 0].mean(dim=1).tolist() == pytest.approx([255, 0, 0], abs=5)


def test_letterbox_shows_the_whole_in_its_own_shape_between_gray_bars():
    square = augment.fitted(
        torch.full((3, 40, 80), 255, dtype=torch.uint8), preprocessing("letterbox")
    )
    bar = SIZE // 4
    assert (square[:, :bar] == FILL).all() and (square[:, -bar:] == FILL).all()
    assert (square[:, bar:-bar] == 255).all()
    turned = augment.fitted(
        torch.full((3, 80, 40), 255, dtype=torch.uint8), preprocessing("letterbox")
    )
    assert (turned == square.transpose(1, 2)).all()


@pytest.mark.parametrize("fit", augment.FITS)
def test_without_random_changes_training_sees_what_validation_sees(fit: str):
    expected = augment.fitted(random_pixels(), preprocessing(fit))
    assert all(torch.equal(version, expected) for version in versions(OFF, fit=fit))


@pytest.mark.parametrize("fit", augment.FITS)
def test_validation_always_sees_the_same(fit: str, photo):
    content = photo(0, size=(90, 70))
    squares = [
        augment.fitted(augment.picture(content, preprocessing(fit)), preprocessing(fit))
        for _ in range(3)
    ]
    assert all(torch.equal(square, squares[0]) for square in squares)


def test_every_option_of_the_recipe_is_tried_here():
    assert set(STRONG) | OF_BATCHES | {"policy", "magnitude"} == set(Augmentation.model_fields)


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("fit", augment.FITS)
def test_each_option_alone_changes_the_picture(name: str, fit: str):
    expected = augment.fitted(random_pixels(), preprocessing(fit))
    found = versions(only(name, STRONG[name]), fit=fit)
    assert all(one.shape == expected.shape and one.dtype == torch.uint8 for one in found)
    # A strength drawn near zero may leave one as it is.
    assert sum(not torch.equal(one, expected) for one in found) > len(found) / 2


@pytest.mark.parametrize("name", sorted(set(STRONG) - FLIPS - {"grayscale"}))
def test_each_option_changes_every_image_in_its_own_way(name: str):
    found = versions(only(name, STRONG[name]))
    assert len({version.numpy().tobytes() for version in found}) == len(found)


def test_the_same_randomness_gives_the_same_version():
    for one, other in zip(versions(EVERYTHING), versions(EVERYTHING), strict=True):
        assert torch.equal(one, other)


def test_the_picture_itself_is_left_as_it_is():
    pixels = random_pixels()
    augment.augmented(pixels, EVERYTHING, preprocessing(), np.random.default_rng(0))
    assert torch.equal(pixels, random_pixels())


@pytest.mark.parametrize("name", ["rotation", "translation"])
def test_what_moves_out_of_the_square_leaves_mid_gray(name: str):
    white = torch.full((3, SHORT, SHORT), 255, dtype=torch.uint8)
    rng = np.random.default_rng(2)
    square = augment.augmented(white, only(name, STRONG[name]), preprocessing(), rng)
    assert ((square.int() - FILL).abs() <= 1).any() and (square == 255).any()
    assert square.min() >= FILL


def test_a_random_crop_keeps_at_least_the_given_share():
    # Each pixel says its column and row, so that the crop's extent can be read off its corners.
    ramp = torch.linspace(0, 255, 256).round().to(torch.uint8)
    pixels = torch.stack(
        [ramp.expand(256, 256), ramp[:, None].expand(256, 256), ramp.expand(256, 256)]
    )
    shares = []
    for seed in range(50):
        square = augment.cropped(pixels, 0.5, preprocessing(), np.random.default_rng(seed)).float()
        wide, high = (square[c].max() - square[c].min() for c in (0, 1))
        shares.append(float(wide * high) / 255**2)
    assert min(shares) > 0.4 and max(shares) < 1.01
    assert np.std(shares) > 0.05


@pytest.mark.parametrize("change", augment.AUGMENTATIONS, ids=lambda change: change.__name__)
def test_a_change_whose_strengths_are_zero_hands_the_picture_on(change: Change):
    pixels = random_pixels(SIZE, SIZE)
    assert change(pixels, OFF, np.random.default_rng(0)) is pixels


def test_torchs_own_randomness_and_threads_have_no_say():
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.manual_seed(number)
            torch.set_num_threads(number)
            found.append(torch.stack(versions(EVERYTHING)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 3), (40, 60)])
@pytest.mark.parametrize("fit", augment.FITS)
def test_every_policy_takes_pictures_of_any_shape(policy: str, size, fit: str):
    gray = random_pixels(*size)[:1].expand(3, -1, -1)
    for pixels in (random_pixels(*size), gray):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            settings = Augmentation(policy=policy)
            square = augment.augmented(pixels, settings, preprocessing(fit), rng)
            assert square.shape == (3, SIZE, SIZE) and square.dtype == torch.uint8


@pytest.mark.parametrize("name", sorted({*STRONG, *OF_BATCHES} - FLIPS - {"random_crop"}))
def test_a_strengthened_change_is_that_much_stronger_up_to_its_limit(name: str):
    _, highest = augment.bounds(name)
    for value in (highest / 10, highest / 3, highest):
        found = augment.strengthened(only(name, value), 2.0)
        assert getattr(found, name) == pytest.approx(min(2 * value, highest))
        assert Augmentation(**found.model_dump()) == found
        others = set(Augmentation.model_fields) - {name, "magnitude"}
        assert all(getattr(found, other) == getattr(OFF, other) for other in others)


def test_a_strengthened_crop_keeps_less_but_never_less_than_may_be():
    crops = [augment.strengthened(only("random_crop", 0.35), factor) for factor in (1, 1.5, 2, 9)]
    kept = [settings.random_crop for settings in crops]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == pytest.approx(0.35) and kept[-1] == 0.05 and len(set(kept)) == 4


@pytest.mark.parametrize("policy", ["TrivialAugment", "RandAugment"])
def test_what_policies_draw_is_strengthened_too(policy: str):
    assert augment.strengthened(Augmentation(policy=policy), 1.5).magnitude == pytest.approx(0.75)
    assert augment.strengthened(Augmentation(policy=policy), 5).magnitude == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_strengthening_keeps_the_policy_the_flips_and_what_is_off(policy: str):
    settings = Augmentation(policy=policy, vertical_flip=0.2)
    found = augment.strengthened(settings, 3.0)
    assert found.policy == policy
    assert (found.horizontal_flip, found.vertical_flip) == (settings.horizontal_flip, 0.2)
    assert all(getattr(found, name) == 0 for name, value in settings if value == 0)


def test_no_changes_stay_none_however_much_they_are_strengthened():
    assert augment.strengthened(OFF, 3.0) == OFF


def test_normalized_pixels_have_the_pretraining_datas_mean_and_deviation():
    batch = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(3).view(1, 3, 1, 3)
    found = augment.normalized(batch, preprocessing())
    assert found.dtype == torch.float32
    for channel, (mean, std) in enumerate(zip((0.5, 0.4, 0.3), (0.2, 0.25, 0.5), strict=True)):
        expected = [(value - mean) / std for value in (0.0, 0.2, 1.0)]
        assert found[0, channel, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_preprocessing_comes_back_from_json_as_it_was():
    one = preprocessing()
    assert Preprocessing.from_dict(json.loads(json.dumps(one.to_dict()))) == one
