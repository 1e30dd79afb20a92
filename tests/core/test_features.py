from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from core.data import importing, loader
from core.data.augment import Preprocessing, normalized
from core.data.dataset import Dataset
from core.models import features as feature_cache
from core.models import network as networks

PREPROCESSING = Preprocessing(64, "crop", 68, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
# A tiny network whose last bits depend on how many pictures are computed together.
SMALL = "test_efficientnet.r160_in1k"
CPU = torch.device("cpu")


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", each=20)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(SMALL, num_classes=2).eval()


def unreadable(row: int) -> Tensor:
    raise AssertionError(f"picture {row} was decoded again")


def computed(
    network: nn.Module,
    dataset: Dataset,
    rows: Sequence[int] | None = None,
    pictures: loader.Pictures | None = None,
    preprocessing: Preprocessing = PREPROCESSING,
    dtype: torch.dtype = torch.float32,
) -> np.ndarray:
    *_, found = feature_cache.features(
        network, dataset, range(len(dataset.table)) if rows is None else rows,
        pictures or loader.from_files(dataset, preprocessing), preprocessing,
        dtype=dtype, device=CPU, threads=2,
    )  # fmt: skip
    assert isinstance(found, np.ndarray)
    return found


def keys(home: Path) -> list[Path]:
    return sorted((home / "cache" / "features").iterdir())


def test_features_are_what_the_network_gives_its_classifier(insects: Dataset, network: nn.Module):
    found = computed(network, insects)
    pictures = loader.from_files(insects, PREPROCESSING)
    squares = torch.cat(list(loader.squares(pictures, range(40), PREPROCESSING, 40, 2)))
    with torch.no_grad():
        expected = networks.pooled(network, normalized(squares, PREPROCESSING))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_what_was_computed_once_is_neither_decoded_nor_computed_again(insects, network):
    first = computed(network, insects)
    assert np.array_equal(computed(network, insects, pictures=unreadable), first)
    assert np.array_equal(computed(network, insects, [7, 3], unreadable), first[[7, 3]])


def test_only_what_is_missing_is_computed(insects: Dataset, network: nn.Module):
    computed(network, insects, range(10))
    files, decoded = loader.from_files(insects, PREPROCESSING), []

    def noted(row: int) -> Tensor:
        decoded.append(row)
        return files(row)

    assert len(computed(network, insects, range(12), noted)) == 12
    assert sorted(decoded) == [10, 11]


def test_another_head_on_the_same_backbone_shares_its_features(insects: Dataset):
    torch.manual_seed(0)
    network = timm.create_model(SMALL, num_classes=0).eval()
    first = computed(network, insects)
    assert np.array_equal(computed(network, insects, pictures=unreadable), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_of_a_picture_do_not_depend_on_what_is_computed_beside_it(
    insects: Dataset, network: nn.Module, home: Path, dtype: torch.dtype
):
    def afresh(rows: Sequence[int]) -> np.ndarray:
        shutil.rmtree(home / "cache", ignore_errors=True)
        return computed(network, insects, rows, dtype=dtype)

    together = afresh(range(40))
    assert np.array_equal(afresh([39, 5, 17]), together[[39, 5, 17]])
    assert np.array_equal(afresh([20]), together[[20]])


def test_images_of_equal_content_are_computed_once(photo, make_zip, network: nn.Module):
    twins = {"a/1.jpg": photo(1), "a/2.jpg": photo(1), "b/3.jpg": photo(2, kind=1)}
    dataset = importing.import_all(make_zip(twins))
    *steps, found = feature_cache.features(
        network, dataset, range(3), loader.from_files(dataset, PREPROCESSING), PREPROCESSING,
        dtype=torch.float32, device=CPU, threads=1,
    )  # fmt: skip
    assert steps == [2]
    assert np.array_equal(found[0], found[1])


DAMAGES = {
    "empty": lambda content: b"",
    "something else": lambda content: b"no features",
    "cut short": lambda content: content[:-20],
    "a hole": lambda content: content[:2000] + bytes(512) + content[2512:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_features_is_passed_over_and_computed_again(
    insects: Dataset, network: nn.Module, home: Path, damage: str
):
    first = computed(network, insects)
    (piece,) = keys(home)[0].iterdir()
    piece.write_bytes(DAMAGES[damage](piece.read_bytes()))
    assert np.array_equal(computed(network, insects), first)


def test_features_of_a_pass_that_was_broken_off_are_kept(
    insects: Dataset, network: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feature_cache, "PIECE", feature_cache.BATCH)
    steps = feature_cache.features(
        network, insects, range(40), loader.from_files(insects, PREPROCESSING), PREPROCESSING,
        dtype=torch.float32, device=CPU, threads=1,
    )  # fmt: skip
    assert next(steps) == feature_cache.BATCH
    steps.close()
    assert len(computed(network, insects, range(feature_cache.BATCH), unreadable)) == 32


@pytest.mark.parametrize(
    "change",
    [{"size": 32}, {"short_side": 80}, {"fit": "squash"}, {"mean": (0.4, 0.5, 0.5)},
     {"interpolation": "bicubic"}],
)  # fmt: skip
def test_another_preprocessing_has_features_of_its_own(insects, network, home, change: dict):
    computed(network, insects, [0])
    computed(network, insects, [0], preprocessing=replace(PREPROCESSING, **change))
    assert len(keys(home)) == 2


def test_other_weights_and_another_number_format_have_features_of_their_own(insects, network, home):
    computed(network, insects, [0])
    computed(network, insects, [0], dtype=torch.bfloat16)
    computed(timm.create_model(SMALL, num_classes=2), insects, [0])
    assert len(keys(home)) == 3
