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
from core.schema import Augmentation

SIZE, SHORT = 32, 40
OFF = Augmentation(
    horizontal_flip=0,
    vertical_flip=0,
    rotation=0,
    translation=0,
    zoom=0,
    random_crop=1,
    color_jitter=0,
    noise=0,
)
STRONG = {
    "horizontal_flip": 1.0,
    "vertical_flip": 1.0,
    "rotation": 45.0,
    "translation": 0.3,
    "zoom": 0.5,
    "random_crop": 0.3,
    "color_jitter": 0.5,
    "noise": 0.1,
}


def preprocessing(fit: str = "crop", interpolation: str = "bicubic") -> Preprocessing:
    return Preprocessing(SIZE, fit, SHORT, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), interpolation)


def only(name: str, value: Any) -> Augmentation:
    return Augmentation(**{**OFF.model_dump(), name: value})


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
    assert set(STRONG) == set(Augmentation.model_fields)


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("fit", augment.FITS)
def test_each_option_alone_changes_the_picture(name: str, fit: str):
    expected = augment.fitted(random_pixels(), preprocessing(fit))
    for version in versions(only(name, STRONG[name]), fit=fit):
        assert version.shape == expected.shape and version.dtype == torch.uint8
        assert not torch.equal(version, expected)


@pytest.mark.parametrize("name", sorted(set(STRONG) - {"horizontal_flip", "vertical_flip"}))
def test_each_option_changes_every_image_in_its_own_way(name: str):
    found = versions(only(name, STRONG[name]))
    assert len({version.numpy().tobytes() for version in found}) == len(found)


def test_the_same_randomness_gives_the_same_version():
    everything = Augmentation(**STRONG)
    for one, other in zip(versions(everything), versions(everything), strict=True):
        assert torch.equal(one, other)


def test_the_picture_itself_is_left_as_it_is():
    pixels = random_pixels()
    augment.augmented(pixels, Augmentation(**STRONG), preprocessing(), np.random.default_rng(0))
    assert torch.equal(pixels, random_pixels())


def test_flips_are_mirror_images():
    expected = augment.fitted(random_pixels(), preprocessing())
    assert torch.equal(versions(only("horizontal_flip", 1.0))[0], expected.flip(2))
    assert torch.equal(versions(only("vertical_flip", 1.0))[0], expected.flip(1))


def test_a_chance_of_one_half_flips_about_half():
    expected = augment.fitted(random_pixels(), preprocessing())
    kept = sum(torch.equal(v, expected) for v in versions(only("horizontal_flip", 0.5), n=200))
    assert 75 < kept < 125


@pytest.mark.parametrize("name", ["rotation", "translation"])
def test_what_moves_out_of_the_square_leaves_mid_gray(name: str):
    white = torch.full((3, SHORT, SHORT), 255, dtype=torch.uint8)
    rng = np.random.default_rng(2)
    square = augment.augmented(white, only(name, STRONG[name]), preprocessing(), rng)
    assert ((square.int() - FILL).abs() <= 1).any() and (square == 255).any()
    assert square.min() >= FILL - 20  # torchvision blends the rim a little below the fill.


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


def test_noise_has_the_given_deviation():
    gray = torch.full((3, SHORT, SHORT), 127, dtype=torch.uint8)
    rng = np.random.default_rng(0)
    noisy = augment.augmented(gray, only("noise", 0.1), preprocessing(), rng).float()
    assert float(noisy.std()) == pytest.approx(25.5, rel=0.06)
    assert float(noisy.mean()) == pytest.approx(127, abs=2)


@pytest.mark.parametrize("value", [0, 255])
def test_noise_never_turns_white_into_black(value: int):
    plain = torch.full((3, SHORT, SHORT), value, dtype=torch.uint8)
    noisy = augment.augmented(plain, only("noise", 0.1), preprocessing(), np.random.default_rng(0))
    assert int((noisy.int() - value).abs().max()) < 150


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
