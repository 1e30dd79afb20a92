from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from core import recipe as recipes
from core.data import importing
from core.data.dataset import Dataset
from core.serving import predictor
from core.serving.preview import preview
from tests.core.conftest import Trained, sentence


@pytest.fixture
def dataset(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=4)))


def decoded(url: str) -> Image.Image:
    kind, _, content = url.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_predict_page_gets_a_prediction_and_two_pictures(trained: Trained):
    content = trained.photo("bees/02.jpg")
    assert predictor.predict(trained.run.model, content).classes[0] == "bees"
    seen, heat = predictor.maps(trained.run.model, content, "bees", "gradcam")
    assert decoded(seen).size == decoded(heat).size == (64, 64)


def previewed(
    dataset: Dataset, technique: str, seed: int = 0, n: int = 6, **augmentation: Any
) -> list[dict]:
    recipe = recipes.make({"technique": {"name": technique}, "augmentation": augmentation})
    return preview(dataset, recipe, n, seed)


def test_a_preview_shows_images_of_all_classes(dataset: Dataset):
    found = previewed(dataset, "finetune")
    assert [one["title"] for one in found] == ["ants"] * 2 + ["bees"] * 2 + ["wasps"] * 2
    assert {decoded(one["src"]).size for one in found} == {(160, 160)}
    assert len(previewed(dataset, "finetune", n=100)) == 12


def test_a_preview_changes_with_the_seed_only_where_training_changes_images(dataset: Dataset):
    def sources(technique: str, seed: int) -> list[str]:
        return [one["src"] for one in previewed(dataset, technique, seed)]

    assert sources("finetune", 1) == sources("finetune", 1)
    assert sources("finetune", 1) != sources("finetune", 2)
    assert sources("feature_extraction", 1) == sources("feature_extraction", 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("horizontal_flip", 1), ("vertical_flip", 1), ("rotation", 90), ("translation", 0.4),
        ("zoom", 0.5), ("random_crop", 0.2), ("perspective", 0.3), ("brightness", 0.5),
        ("contrast", 0.5), ("saturation", 0.5), ("hue", 0.4), ("grayscale", 1), ("blur", 5),
        ("noise", 0.2), ("erasing", 1), ("policy", "TrivialAugment"), ("policy", "RandAugment"),
    ],
)  # fmt: skip
def test_a_preview_shows_every_change_of_single_images(dataset: Dataset, name: str, value: Any):
    plain = previewed(dataset, "finetune", policy="none")
    found = previewed(dataset, "finetune", **{"policy": "none", name: value})
    assert len(found) == len(plain)
    changed = [one["src"] != other["src"] for one, other in zip(found, plain, strict=True)]
    assert sum(changed) > len(changed) / 2


def test_a_preview_of_blends_shows_them_beside_the_images_and_names_both_classes(dataset: Dataset):
    plain = previewed(dataset, "finetune", policy="none")
    found = previewed(dataset, "finetune", policy="none", mixup=4)
    assert found[:6] == plain and len(found) == 12
    assert len({one["id"] for one in found}) == 12
    for blend in found[6:]:
        assert decoded(blend["src"]).size == (160, 160)
        assert blend["src"] not in {one["src"] for one in plain}
        first, second = blend["title"].split(" + ")
        assert {first, second} < {"ants", "bees", "wasps"}
        assert re.fullmatch(rf"{first} \d+%, {second} \d+%", blend["caption"])
        assert sum(map(int, re.findall(r"\d+", blend["caption"]))) in (99, 100, 101)


def test_a_preview_shows_pasted_parts_as_they_are(dataset: Dataset):
    plain = previewed(dataset, "finetune", policy="none")
    found = previewed(dataset, "finetune", policy="none", cutmix=4)
    before, after = (np.asarray(decoded(one["src"])).astype(int) for one in (plain[0], found[6]))
    same = (before == after).all(axis=2).mean()
    share = int(re.findall(r"ants (\d+)%", found[6]["caption"])[0]) / 100
    assert same == pytest.approx(share, abs=0.05)


def test_a_preview_of_one_image_can_be_blended(dataset: Dataset):
    image, blend = previewed(dataset, "finetune", n=1, policy="none", mixup=1)
    assert blend["src"] == image["src"] and blend["caption"] == "ants 100%"


def test_feature_extraction_previews_no_blends(dataset: Dataset):
    assert len(previewed(dataset, "feature_extraction", mixup=1)) == 6


def test_a_preview_can_be_asked_for_by_recipe(client: TestClient, dataset: Dataset):
    def asked(recipe: str):
        return client.get(f"/api/datasets/{dataset.id}/previews", params={"recipe": recipe})

    answer = asked("technique: {name: finetune}").json()
    assert answer["total"] == len(answer["items"]) == 12
    assert "technique.nam" in sentence(asked("technique: {nam: finetune}"), 422)
