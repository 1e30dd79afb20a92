from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from core.data import alignment, images, importing, signatures, split, twins
from core.data.dataset import Dataset
from tests.core.changed import CHANGES, opened, saved

PLANTED = 100
TILE = 140


@lru_cache(maxsize=1)
def tiles() -> list[Image.Image]:
    """Pieces of two photos, a palace and a flower, in which there is something to see: 19."""
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    pieces = [
        photo.crop((left, top, left + TILE, top + TILE))
        for photo in photos
        for left in range(0, photo.width - TILE + 1, TILE)
        for top in range(0, photo.height - TILE + 1, TILE)
    ]
    return [one for one in pieces if alignment.detail(grays_of([one]).astype("f4")).std() > 3]


def grays_of(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([images.examine(saved(one), "1.jpg").gray for one in pictures])


def found_in(grays: np.ndarray, side: int = 400) -> set[tuple[int, int]]:
    """The pairs found among pictures, each of so many pixels a side."""
    count = len(grays)
    found, likeness = twins.finished(twins.near(grays, np.arange(count), np.full((count, 2), side)))
    assert (found[:, 0] < found[:, 1]).all() and (likeness > 0).all()
    return {(int(one), int(other)) for one, other in found}


@lru_cache(maxsize=2)
def real(archive: Path, every: int = 1) -> tuple[list[bytes], np.ndarray]:
    """Files of an archive of photos and their signatures."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if n.lower().endswith(".jpg"))[::every]
        files = [file.read(name) for name in names]
    return files, np.stack([images.examine(content, "1.jpg").gray for content in files])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str):
    rng = np.random.default_rng(0)
    copies = [CHANGES[change](one, rng) for one in tiles()]
    found = found_in(grays_of([*tiles(), *copies]))
    wanted = {(number, number + len(copies)) for number in range(len(copies))}
    assert found <= wanted
    assert len(found) >= 0.85 * len(wanted)


@pytest.mark.parametrize("change", CHANGES)
def test_copies_planted_among_real_photos_are_found(change: str, test_data: Path):
    files, grays = real(test_data / "data" / "hymenoptera.zip")
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(files))[:PLANTED]
    copies = [CHANGES[change](opened(files[number]), rng) for number in chosen]
    found = found_in(np.concatenate([grays, grays_of(copies)]))
    wanted = {(int(number), len(files) + place) for place, number in enumerate(chosen)}
    assert len(found & wanted) >= 0.95 * PLANTED
    assert len(found - wanted) <= 0.01 * len(found)


def test_photos_that_are_only_alike_are_no_copies(test_data: Path):
    _, grays = real(test_data / "data" / "sign-digits.zip", every=3)
    assert len(grays) > 600
    assert found_in(grays) == set()


def test_a_mirrored_picture_is_no_copy():
    mirrored = [one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in tiles()]
    assert found_in(grays_of([*tiles(), *mirrored])) == set()


def test_photos_in_the_same_frame_are_no_copies():
    framed = []
    for one in tiles():
        frame = Image.new("RGB", (TILE + 40, TILE + 40), "black")
        frame.paste(Image.new("RGB", (TILE + 8, TILE + 8), "white"), (16, 16))
        frame.paste(one, (20, 20))
        framed.append(frame)
    assert found_in(grays_of(framed)) == set()


def test_plain_pictures_are_like_nothing():
    rng = np.random.default_rng(0)
    walls = [Image.new("L", (100, 100), level) for level in (0, 128, 250, 255)]
    for level in (60, 120, 180):
        noise = rng.normal(level, 6, (400, 400)).clip(0, 255).astype("uint8")
        walls += [Image.fromarray(noise), Image.fromarray(np.roll(noise, 7, 0))]
    shade = np.linspace(40, 200, 300)[:, None] + np.linspace(0, 30, 300)
    walls += [Image.fromarray((shade + k).astype("uint8")) for k in range(4)]
    assert found_in(grays_of(walls)) == set()


def test_of_tiny_pictures_only_the_same_pixels_count():
    digits = (load_digits().images[:600] * 15.9).astype("uint8")
    grays = np.stack([images.small_gray(Image.fromarray(one)) for one in digits])
    again = np.concatenate([grays, grays[:3]])
    assert found_in(again, side=8) == {(0, 600), (1, 601), (2, 602)}


def table_of(count: int) -> pd.DataFrame:
    contents = [hashlib.sha256(bytes([number])).hexdigest() for number in range(count)]
    return pd.DataFrame({"sha256": contents, "width": TILE, "height": TILE})


def test_a_group_does_not_depend_on_the_order_of_files():
    rng = np.random.default_rng(0)
    pictures = [*tiles()[:8], *(CHANGES["resized"](one, rng) for one in tiles()[:5])]
    grays = grays_of(pictures)
    table = table_of(len(grays))
    here = twins.finished(twins.grouped(table, grays, np.arange(len(grays))))
    order = rng.permutation(len(grays))
    there = twins.finished(twins.grouped(table.iloc[order].reset_index(drop=True), grays, order))
    assert (here[order] == there).all()
    assert [name != "" for name in here] == [True] * 5 + [False] * 3 + [True] * 5


def test_only_the_copies_of_fresh_images_are_looked_for():
    rng = np.random.default_rng(0)
    pictures = [*tiles()[:6], *(CHANGES["resized"](one, rng) for one in tiles()[:6])]
    pictures += [CHANGES["reencoded"](one, rng) for one in tiles()[2:4]]
    count = len(pictures)
    fresh = np.arange(count) >= 12
    sides = np.full((count, 2), TILE)
    found, _ = twins.finished(twins.near(grays_of(pictures), np.arange(count), sides, fresh))
    assert {tuple(pair) for pair in found} == {(2, 12), (8, 12), (3, 13), (9, 13)}


def frames(count: int, step: float) -> np.ndarray:
    """A film: each picture a little further along a wide photo."""
    wide = Image.fromarray(load_sample_images().images[0])
    return grays_of(
        [wide.crop((round(n * step), 0, round(n * step) + 300, 300)) for n in range(count)]
    )


def groups_of(grays: np.ndarray) -> np.ndarray:
    return twins.finished(twins.grouped(table_of(len(grays)), grays, np.arange(len(grays))))


def test_a_long_chain_is_no_single_group(monkeypatch: pytest.MonkeyPatch):
    film = frames(40, 4.0)
    assert len(set(groups_of(film))) == 1
    monkeypatch.setattr(twins, "LONGEST_CHAIN", 20)
    groups = groups_of(film)
    assert groups[0] != groups[-1]
    assert pd.Series(groups).value_counts().max() < 40


def test_many_copies_of_one_picture_are_one_group(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(twins, "LONGEST_CHAIN", 20)
    rng = np.random.default_rng(0)
    copies = [CHANGES["cropped"](tiles()[3], rng) for _ in range(30)]
    assert len(set(groups_of(grays_of(copies)))) == 1


def planted_dataset(make_zip: Callable[..., Path]) -> Dataset:
    """Twelve photos of two classes, one of them twice, and changed copies of four."""
    rng = np.random.default_rng(0)
    files = {f"{'ab'[n % 2]}/{n}.jpg": saved(tiles()[n]) for n in range(12)}
    for n, change in enumerate(("reencoded", "resized", "cropped", "all_at_once")):
        files[f"b/copy of {n}.jpg"] = saved(CHANGES[change](tiles()[n], rng))
    files["a/again 5.jpg"] = files["b/5.jpg"]
    return importing.import_all(make_zip(files))


def test_an_import_puts_copies_into_groups(make_zip: Callable[..., Path]):
    found = planted_dataset(make_zip)
    group = dict(zip(found.table["name"], found.table["group"], strict=True))
    for n in range(4):
        assert group[f"b/copy of {n}.jpg"] == group[f"{'ab'[n % 2]}/{n}.jpg"] != ""
    assert group["a/again 5.jpg"] == group["b/5.jpg"] != ""
    assert {group[f"{'ab'[n % 2]}/{n}.jpg"] for n in (4, 6, 7, 8, 9, 10, 11)} == {""}
    assert len(set(group.values())) == 6


def test_pairs_say_what_is_a_copy_of_what(make_zip: Callable[..., Path]):
    found = twins.pairs(planted_dataset(make_zip))
    exact = {(one.first, one.second) for one in found if one.kind == "exact"}
    near = {frozenset((one.first, one.second)) for one in found if one.kind == "near"}
    assert exact == {("a/again 5.jpg", "b/5.jpg")}
    assert near == {frozenset((f"b/copy of {n}.jpg", f"{'ab'[n % 2]}/{n}.jpg")) for n in range(4)}
    assert all(0.88 <= one.similarity <= 1 for one in found)


def test_a_dataset_without_signatures_gets_them_from_its_files(make_zip: Callable[..., Path]):
    found = planted_dataset(make_zip)
    path = signatures.file_of(found.folder)
    whole = path.read_bytes()
    for rest in (b"", whole[: signatures.RECORD_BYTES * 2 + 100]):  # The last one torn.
        path.write_bytes(rest)
        assert list(twins.groups(found)) == list(found.table["group"])
        assert path.stat().st_size % signatures.RECORD_BYTES == 0


def test_a_file_that_cannot_be_read_any_more_is_like_nothing(make_zip: Callable[..., Path]):
    found = planted_dataset(make_zip)
    signatures.file_of(found.folder).unlink()
    (lost,) = found.table.loc[found.table["name"] == "b/copy of 2.jpg", "sha256"]
    found.path_of(lost).unlink()
    group = dict(zip(found.table["name"], twins.groups(found), strict=True))
    assert group["b/copy of 2.jpg"] == group["a/2.jpg"] == ""


def test_an_empty_set_has_no_pairs():
    nothing = np.empty((0, images.GRAY_SIDE, images.GRAY_SIDE), np.uint8)
    assert found_in(nothing) == set()


def test_planted_copies_never_lie_on_two_sides_of_a_split(test_data: Path, make_zip):
    files, _ = real(test_data / "data" / "hymenoptera.zip", every=4)
    rng = np.random.default_rng(0)
    photos = {f"{'ab'[n % 2]}/{n}.jpg": content for n, content in enumerate(files)}
    for n, content in enumerate(files[:40]):
        change = list(CHANGES.values())[n % len(CHANGES)]
        photos[f"{'ab'[n % 2]}/{n} copy.jpg"] = saved(change(opened(content), rng))
    found = importing.import_all(make_zip(photos))
    original = found.table["name"].str.extract(r"/(\d+)")[0]
    for seed in range(3):
        parts = split.split(found, (0.7, 0.15, 0.15), seed)
        assert (pd.Series(parts).groupby(original).nunique() > 1).sum() <= 0.05 * 40
        of_group = found.table["group"] != ""
        by_group = pd.Series(parts[of_group]).groupby(list(found.table["group"][of_group]))
        assert (by_group.nunique() == 1).all()
        assert abs((parts == "train").mean() - 0.7) < 0.02
