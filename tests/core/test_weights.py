from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants as hub
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from core import recipe as recipes
from core.data.augment import normalized
from core.errors import WeightsMissing
from core.models import network as networks
from core.models import weights
from core.schema import Recipe

ROOT = Path(__file__).parents[2]
SMALL = "test_resnet.r160_in1k"  # timm's own, for tests: half a million numbers
# ImageNet's numbers for what is on scikit-learn's two sample photos.
PALACE, MONASTERY, DAISY = 698, 663, 985


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of random weights for the small backbone, ImageNet's classifier included."""
    return written(tmp_path / "small.safetensors", small_weights())


def small_weights() -> dict[str, Tensor]:
    torch.manual_seed(5)
    return timm.create_model(SMALL).state_dict()


def written(path: Path, values: dict[str, Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(values, path)
    return path


def body(values: dict[str, Tensor]) -> set[str]:
    return {key for key in values if not key.startswith("fc.")}


def loaded(path: Path | str) -> nn.Module:
    network = timm.create_model(SMALL, num_classes=0)
    weights.load(network, SMALL, str(path))
    return network


def sample_photos() -> Tensor:
    """A Chinese palace and a yellow flower, as the bundled backbone wants them: 2×3×224×224."""
    prepared = networks.preprocessing_of(timm.create_model(weights.BUNDLED), Recipe())
    squares = []
    for pixels in load_sample_images().images:  # 427×640×3 uint8
        photo = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
        middle = photo[..., 106:533]
        squares.append(nn.functional.interpolate(middle, size=224, mode="bicubic", antialias=True))
    return normalized(torch.cat(squares).clamp(0, 255), prepared)


# --- the package -----------------------------------------------------------------------------


def test_the_bundled_weights_know_what_is_on_a_photo():
    """Were any two tensors of one shape exchanged, the network would see nothing."""
    network = timm.create_model(weights.BUNDLED, num_classes=1000).eval()
    weights.from_package(network, weights.BUNDLED)
    with torch.no_grad():
        palace, flower = network(sample_photos()).topk(5).indices.tolist()
    assert palace[0] == PALACE
    assert MONASTERY in palace
    assert flower[0] == DAISY


def test_the_bundled_backbone_sees_two_photos_differently():
    network = networks.create(Recipe(), 3, pretrained=True).eval()
    with torch.no_grad():
        one, other = networks.pooled(network, sample_photos())
    assert float(nn.functional.cosine_similarity(one, other, dim=0)) < 0.5


def test_weights_that_come_with_headstart_are_usable_without_a_network():
    assert weights.place_of(weights.BUNDLED) == "package"
    assert weights.usable_now("tf_efficientnet_lite0.in1k")


# --- a backbone that is not here -------------------------------------------------------------


def test_a_backbone_without_weights_is_refused_at_once_with_the_ways_out():
    started = time.monotonic()
    with pytest.raises(WeightsMissing, match=r"resnet101\.a1h_in1k") as refusal:
        networks.create(recipes.made({"backbone.name": "resnet101"}), 3, pretrained=True)
    assert time.monotonic() - started < 1
    for way_out in (weights.BUNDLED, "huggingface.co", "HF_ENDPOINT", "backbone.weights"):
        assert way_out in refusal.value.remedy


# --- a named file ----------------------------------------------------------------------------


def test_a_named_file_is_loaded_and_its_classifier_left_out(file: Path):
    recipe = recipes.make({"backbone": {"name": SMALL, "weights": str(file)}})
    found = networks.create(recipe, 3, pretrained=True).state_dict()
    assert all(torch.equal(found[key], small_weights()[key]) for key in body(found))
    assert found["fc.weight"].shape == (3, small_weights()["fc.weight"].shape[1])


def test_a_file_for_another_network_is_refused_naming_a_tensor_that_does_not_fit(tmp_path: Path):
    values = small_weights()
    values["layer1.0.conv1.weight"] = values["layer1.0.conv1.weight"][:1].contiguous()
    with pytest.raises(WeightsMissing, match=r"layer1\.0\.conv1\.weight"):
        loaded(written(tmp_path / "odd.safetensors", values))


def test_a_file_that_lacks_a_tensor_is_refused_naming_it(tmp_path: Path):
    values = small_weights()
    del values["conv1.0.weight"]
    with pytest.raises(WeightsMissing, match=r"conv1\.0\.weight is missing"):
        loaded(written(tmp_path / "short.safetensors", values))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float):
    values = small_weights()
    values["layer2.0.conv1.weight"][0, 0] = value
    with pytest.raises(WeightsMissing, match="no numbers"):
        loaded(written(tmp_path / "nan.safetensors", values))


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsMissing, match=r"damaged\.safetensors cannot be read"):
        loaded(path)


def test_a_file_cut_short_is_refused(file: Path):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsMissing, match="cannot be read"):
        loaded(file)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(WeightsMissing, match=r"no \.safetensors file"):
        loaded(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("ending", ["pth", "pt", "bin"])
def test_a_pickle_is_never_opened(tmp_path: Path, ending: str):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "went off",)

    torch.save(Bomb(), tmp_path / f"weights.{ending}")
    with pytest.raises(WeightsMissing, match=r"no \.safetensors file"):
        loaded(tmp_path / f"weights.{ending}")
    assert not (tmp_path / "went off").exists()


def test_a_pickle_under_another_name_is_never_opened(tmp_path: Path):
    torch.save({"conv1.0.weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsMissing, match="cannot be read"):
        loaded(tmp_path / "weights.safetensors")


# --- the Hugging Face cache --------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of a machine without network."""
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_in(cache: Path, name: str, values: dict[str, Tensor]) -> Path:
    """Weights as the hub's library keeps what it has fetched."""
    commit = "0" * 40
    folder = cache / f"models--timm--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    return written(folder / "snapshots" / commit / "model.safetensors", values)


def from_cache(name: str, size: int | str = "auto") -> dict[str, Tensor]:
    recipe = recipes.made({"backbone.name": name, "image.size": size})
    return networks.create(recipe, 3, pretrained=True).state_dict()


def test_weights_in_the_hugging_face_cache_are_found_and_loaded(cache: Path):
    put_in(cache, SMALL, small_weights())
    assert weights.place_of(SMALL) == "cache"
    found = from_cache(SMALL)
    assert all(torch.equal(found[key], small_weights()[key]) for key in body(found))


def test_the_cache_is_where_the_environment_says(tmp_path: Path):
    """In a process of its own: the hub's library reads the environment when it is imported."""
    torch.manual_seed(3)
    put_in(tmp_path / "hub", "resnet18.a1_in1k", timm.create_model("resnet18").state_dict())
    script = (
        "from core.models import weights, network; from core import recipe\n"
        "wanted = recipe.made({'backbone.name': 'resnet18'})\n"
        "network.create(wanted, 3, pretrained=True)\n"
        "print(weights.place_of('resnet18'))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("cache", 0), done.stderr


def test_a_name_without_its_tag_finds_the_same_cached_weights(cache: Path):
    put_in(cache, SMALL, small_weights())
    assert weights.usable_now("test_resnet")
    found = from_cache("test_resnet")
    assert all(torch.equal(found[key], small_weights()[key]) for key in body(found))


def test_cached_weights_of_a_transformer_serve_another_image_size(cache: Path):
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    put_in(cache, name, timm.create_model(name).state_dict())
    assert from_cache(name, 96)["pos_embed"].shape == (1, 1 + 6 * 6, 192)


@pytest.mark.parametrize("fault", ["cut short", "a tensor is missing", "no numbers"])
def test_damaged_weights_in_the_cache_are_refused(cache: Path, fault: str):
    values = small_weights()
    if fault == "a tensor is missing":
        del values["layer2.0.conv1.weight"]
    elif fault == "no numbers":
        values["layer2.0.conv1.weight"][:] = float("nan")
    path = put_in(cache, SMALL, values)
    if fault == "cut short":
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsMissing):
        from_cache(SMALL)


# --- one hash for all ----------------------------------------------------------------------


NO_HEAD = torch.nn.Identity()


def test_equal_weights_have_equal_digests_and_one_changed_number_another(file: Path):
    one, again = loaded(file), loaded(file)
    assert weights.digest(one, NO_HEAD) == weights.digest(again, NO_HEAD)
    with torch.no_grad():
        next(again.parameters()).view(-1)[0] += 1e-3
    assert weights.digest(one, NO_HEAD) != weights.digest(again, NO_HEAD)


def test_another_head_on_the_same_backbone_has_the_same_digest(file: Path):
    one, other = loaded(file), loaded(file)
    one.reset_classifier(2)
    other.reset_classifier(3)
    digests = [weights.digest(network, network.get_classifier()) for network in (one, other)]
    assert digests[0] == digests[1]
