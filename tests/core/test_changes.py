"""What each random change means, measured on pictures that show it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.data import augment, changes
from core.data.augment import Preprocessing
from core.data.changes import FILL, LUMA, YIQ
from core.data.images import decode
from core.schema import Augmentation
from tests.conftest import make_photo

SIDE = 64
N = 40
PLAIN = Preprocessing(SIDE, "crop", SIDE, (0, 0, 0), (1, 1, 1), "bicubic")


def versions(pixels: Tensor, n: int = N, **settings: Any) -> list[Tensor]:
    """Random versions of a square by these options alone, as training would see them."""
    only = Augmentation(**{"policy": "none", **settings})
    return [
        augment.augmented(pixels, only, PLAIN, np.random.default_rng(seed)) for seed in range(n)
    ]


@cache
def scene(kind: int = 0) -> Tensor:
    """A photo of low saturation, so that no change of its colors leaves the range."""
    square = torch.from_numpy(np.array(decode(make_photo(0, (SIDE, SIDE), "PNG", kind), SIDE)))
    return (square.permute(2, 0, 1).float() / 4 + 90).to(torch.uint8)


def dot(x: float, y: float) -> Tensor:
    """A soft white dot on the gray that also fills what comes from outside."""
    across, down = np.arange(SIDE) + 0.5 - x, np.arange(SIDE)[:, None] + 0.5 - y
    spot = FILL + 128 * np.exp(-(across**2 + down**2) / 8)
    return torch.from_numpy(spot.round().astype(np.uint8)).expand(3, -1, -1)


def place(pixels: Tensor) -> np.ndarray:
    """Where the dot is: x and y, in pixels."""
    weight = pixels[0].double().numpy() - FILL
    middles = np.arange(SIDE) + 0.5
    return np.array([weight.sum(0) @ middles, weight.sum(1) @ middles]) / weight.sum()


def brightness(pixels: Tensor) -> np.ndarray:
    """How bright each pixel looks: S×S."""
    return np.tensordot(LUMA, pixels.double().numpy(), 1)


def colors(pixels: Tensor) -> np.ndarray:
    """The two axes of color, averaged over the picture: 0 and 0 for grays."""
    return (YIQ[1:] @ pixels.double().numpy().reshape(3, -1)).mean(axis=1)


def test_nothing_is_resampled_where_nothing_moves():
    pixels = scene()
    assert torch.equal(changes.warped(pixels, np.eye(3)), pixels)


def test_a_quarter_turn_is_exact():
    turned = changes.warped(scene(), changes.rotation(90))
    assert torch.equal(turned, torch.rot90(scene(), -1, (1, 2)))  # To the right, as y goes down.


@pytest.mark.parametrize("strength", [10.0, 90.0])
def test_rotation_turns_a_mark_about_the_middle_by_at_most_its_angle(strength: float):
    middle = SIDE / 2
    angles = []
    for version in versions(dot(middle + 16, middle), rotation=strength):
        x, y = place(version) - middle
        assert math.hypot(x, y) == pytest.approx(16, abs=0.3)
        angles.append(math.degrees(math.atan2(y, x)))
    assert 0.8 * strength < max(angles) < 1.02 * strength
    assert 0.8 * strength < -min(angles) < 1.02 * strength


@pytest.mark.parametrize("strength", [0.05, 0.25])
def test_translation_shifts_a_mark_by_at_most_its_share_of_the_side(strength: float):
    shifts = np.array(
        [place(version) - SIDE / 2 for version in versions(dot(32, 32), translation=strength)]
    )
    assert np.abs(shifts).max() < strength * SIDE + 0.1
    assert (shifts.max(axis=0) > 0.75 * strength * SIDE).all()
    assert (shifts.min(axis=0) < -0.75 * strength * SIDE).all()


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_zoom_goes_in_and_out_by_at_most_its_share(strength: float):
    pairs = zip(
        versions(dot(20, 32), zoom=strength), versions(dot(44, 32), zoom=strength), strict=True
    )
    scales = [(place(right) - place(left))[0] / 24 for left, right in pairs]
    assert 1 + 0.75 * strength < max(scales) < 1.01 + strength
    assert 0.99 / (1 + strength) < min(scales) < 1 / (1 + 0.75 * strength)


@pytest.mark.parametrize("strength", [0.05, 0.3])
def test_perspective_leaves_the_middle_and_moves_corners_by_at_most_its_share(strength: float):
    for version in versions(dot(32, 32), perspective=strength):
        assert place(version) == pytest.approx([32, 32], abs=0.6)
    corner = np.array([1.0, 1.0, 1.0])
    moves = []
    for x, y in np.random.default_rng(0).uniform(-1, 1, (500, 2)):
        across, down, depth = changes.tilt(strength, x, y) @ corner
        assert depth > 0  # Never behind the camera, where pictures fold over.
        moves.append(math.dist((across / depth, down / depth), corner[:2]) / 2)
    assert 0.7 * strength < max(moves) <= strength + 1e-9


def test_perspective_makes_what_tips_away_smaller():
    board = torch.full((3, SIDE, SIDE), 255, dtype=torch.uint8)
    widths = [(version[0] > 191).sum(1) for version in versions(board, perspective=0.5)]
    assert max(int(width.max() - width.min()) for width in widths) > SIDE / 4


def test_moves_happen_together_in_one_version():
    together = versions(dot(50, 32), n=20, rotation=20, translation=0.1, zoom=0.2, perspective=0.1)
    places = np.array([place(version) for version in together])
    assert len({version.numpy().tobytes() for version in together}) == 20
    assert (places.std(axis=0) > 3).all()


def test_flips_are_mirror_images():
    assert torch.equal(versions(scene(), 1, horizontal_flip=1.0)[0], scene().flip(2))
    assert torch.equal(versions(scene(), 1, vertical_flip=1.0)[0], scene().flip(1))


@pytest.mark.parametrize("name", ["horizontal_flip", "vertical_flip", "grayscale", "erasing"])
def test_a_chance_of_one_half_changes_about_half(name: str):
    kept = sum(torch.equal(version, scene()) for version in versions(scene(), 200, **{name: 0.5}))
    assert 75 < kept < 125


@pytest.mark.parametrize("strength", [0.1, 0.4])
def test_brightness_scales_all_pixels_by_at_most_its_share(strength: float):
    factors = []
    for version in versions(scene(), brightness=strength):
        ratio = version.double() / scene().double()
        assert float(ratio.std()) < 0.01
        factors.append(float(ratio.mean()))
    assert 1 + 0.8 * strength < max(factors) < 1.01 + strength
    assert 0.99 - strength < min(factors) < 1 - 0.8 * strength


@pytest.mark.parametrize("strength", [0.1, 0.4])
def test_contrast_scales_differences_and_keeps_the_mean(strength: float):
    factors = []
    for version in versions(scene(), contrast=strength):
        assert brightness(version).mean() == pytest.approx(brightness(scene()).mean(), abs=0.5)
        factors.append(brightness(version).std() / brightness(scene()).std())
    assert 1 + 0.8 * strength < max(factors) < 1.02 + strength
    assert 0.98 - strength < min(factors) < 1 - 0.8 * strength


@pytest.mark.parametrize("strength", [0.1, 0.4])
def test_saturation_changes_how_vivid_colors_are_and_not_how_bright(strength: float):
    factors = []
    for version in versions(scene(), saturation=strength):
        assert np.abs(brightness(version) - brightness(scene())).max() < 1
        factors.append(np.linalg.norm(colors(version)) / np.linalg.norm(colors(scene())))
    assert 1 + 0.8 * strength < max(factors) < 1.03 + strength
    assert 0.97 - strength < min(factors) < 1 - 0.8 * strength


@pytest.mark.parametrize("strength", [0.05, 0.4])
@pytest.mark.parametrize("kind", range(3))
def test_hue_turns_colors_by_at_most_its_share_and_keeps_brightness(strength: float, kind: int):
    before = complex(*colors(scene(kind)))
    turns = []
    for version in versions(scene(kind), hue=strength):
        assert np.abs(brightness(version) - brightness(scene(kind))).max() < 1
        after = complex(*colors(version))
        assert abs(after) == pytest.approx(abs(before), rel=0.03)
        turns.append(np.angle(after / before) / (2 * math.pi))
    assert 0.8 * strength < max(turns) < strength + 0.01
    assert 0.8 * strength < -min(turns) < strength + 0.01


def test_half_a_turn_of_the_color_circle_makes_orange_blue():
    orange = torch.tensor([180, 120, 60], dtype=torch.uint8).view(3, 1, 1).expand(3, SIDE, SIDE)
    means = [version.float().mean(dim=(1, 2)) for version in versions(orange, hue=0.5)]
    red, green, blue = max(means, key=lambda mean: float(mean[2] - mean[0]))
    assert blue - red > 100 and red < green < blue


def test_grayscale_leaves_equal_channels_as_bright_as_before():
    for version in versions(scene(), 10, grayscale=1.0, hue=0.2, saturation=0.5):
        assert torch.equal(version[0], version[1]) and torch.equal(version[0], version[2])
        assert np.abs(brightness(version) - brightness(scene())).max() < 1


def test_a_gray_picture_has_no_color_to_change():
    gray = scene()[:1].expand(3, -1, -1)
    for version in versions(gray, 10, saturation=0.9, hue=0.5):
        assert int((version.int() - gray.int()).abs().max()) <= 1


@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_blur_spreads_a_point_by_at_most_its_deviation(strength: float):
    point = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    point[:, :, SIDE // 2] = 255  # A line, so that rounding leaves something to measure.
    spreads = []
    for version in versions(point, blur=strength):
        profile = version[0, 0].double().numpy()
        variance = profile @ (np.arange(SIDE) - SIDE // 2) ** 2 / profile.sum()
        spreads.append(math.sqrt(variance))
    assert 0.8 * strength < max(spreads) < 1.02 * strength
    assert min(spreads) < 0.3 * strength


def test_blur_takes_fine_detail_and_leaves_the_rest():
    def detail(pixels: Tensor) -> float:
        return float((pixels[:, :, 1:].float() - pixels[:, :, :-1].float()).square().mean())

    for version in versions(scene(), blur=5.0):
        assert detail(version) <= detail(scene())
        assert float(version.float().mean()) == pytest.approx(float(scene().float().mean()), abs=1)
    assert min(map(detail, versions(scene(), blur=5.0))) < 0.2 * detail(scene())


def test_blur_darkens_no_rim():
    white = torch.full((3, SIDE, SIDE), 255, dtype=torch.uint8)
    assert all(torch.equal(version, white) for version in versions(white, 10, blur=10.0))


@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_noise_has_its_deviation_in_every_channel(strength: float):
    gray = torch.full((3, SIDE, SIDE), 127, dtype=torch.uint8)
    for version in versions(gray, 5, noise=strength):
        assert version.float().std(dim=(1, 2)).tolist() == pytest.approx(
            [strength * 255] * 3, rel=0.1
        )
        assert float(version.float().mean()) == pytest.approx(127, abs=1)
        assert not torch.equal(version[0], version[1])


@pytest.mark.parametrize("value", [0, 255])
def test_noise_never_turns_white_into_black(value: int):
    plain = torch.full((3, SIDE, SIDE), value, dtype=torch.uint8)
    for version in versions(plain, 5, noise=0.1):
        assert int((version.int() - value).abs().max()) < 150


def test_erasing_leaves_one_gray_patch_of_a_third_at_most():
    white = torch.full((3, SIDE, SIDE), 255, dtype=torch.uint8)
    shares, corners = [], set()
    for version in versions(white, erasing=1.0):
        rows, columns = torch.where(version[0] == FILL)
        high, wide = (int(one.max() - one.min()) + 1 for one in (rows, columns))
        assert high * wide == len(rows)  # A full rectangle.
        assert int((version == 255).sum()) == 3 * (SIDE**2 - len(rows))
        shares.append(len(rows) / SIDE**2)
        corners.add((int(rows.min()), int(columns.min())))
    low, high_share = changes.ERASED_AREA
    assert 0.9 * low < min(shares) < 0.1 and 0.25 < max(shares) < 1.05 * high_share
    assert len(corners) > N / 2


def test_what_moves_out_leaves_mid_gray_however_bright_the_picture_gets():
    white = torch.full((3, SIDE, SIDE), 255, dtype=torch.uint8)
    for version in versions(white, brightness=0.3, contrast=0.3, saturation=0.3, translation=0.5):
        assert (version == FILL).any()
