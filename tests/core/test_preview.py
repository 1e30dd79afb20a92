from __future__ import annotations

import base64
import io

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
    seen, heat = predictor.maps(trained.run.model, content, "bees")
    assert decoded(seen).size == decoded(heat).size == (64, 64)


def previewed(dataset: Dataset, technique: str, seed: int = 0, n: int = 6) -> list[dict]:
    recipe = recipes.made({"technique.name": technique})
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


def test_a_preview_can_be_asked_for_by_recipe(client: TestClient, dataset: Dataset):
    def asked(recipe: str):
        return client.get(f"/api/datasets/{dataset.id}/previews", params={"recipe": recipe})

    answer = asked("technique: {name: finetune}").json()
    assert answer["total"] == len(answer["items"]) == 12
    assert "technique.nam" in sentence(asked("technique: {nam: finetune}"), 422)
