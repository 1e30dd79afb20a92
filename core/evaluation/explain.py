"""Why a classifier says so: class activation maps, by the grad-cam library, and occlusion.

A map is computed in fp32 on a classifier that nobody else holds: hooks and gradients never disturb
a prediction that runs beside it.
"""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from core.data.augment import fitted, normalized, picture
from core.errors import RecipeRefused
from core.evaluation.layers import Layer, layers
from core.evaluation.methods import METHODS
from core.evaluation.occlusion import occlusion
from core.models import classifier as classifiers
from core.models import network as networks
from core.models.classifier import SUMS, Classifier
from core.models.ensemble import Ensemble

_one_at_a_time = threading.Lock()
SHUFFLES = 3


@dataclass(frozen=True)
class Explanation:
    """What the network saw, uint8 S×S×3, and what spoke for the class there, float32 S×S in 0–1."""

    picture: np.ndarray
    heat: np.ndarray


def explain(
    folder: Path,
    content: bytes,
    class_name: str | None = None,
    method: str = "gradcam",
    layer: int | None = None,
) -> Explanation:
    """A map of one image file for a class, by the classifier in a `model` folder.

    class_name: None is the class that it predicts. method: one of `METHODS`. layer: a position in
    `layer_names`, None for the last; occlusion has none.
    Raises: ImageRefused, NotFound, RecipeRefused for a class, method or layer that is not there.
    """
    with _one_at_a_time:
        classifier = own(folder)
        square = seen_in(classifier, content)
        number = number_of(classifier, square, class_name)
        heat = heat_map(classifier, square, number, method, layer)
        return Explanation(square.permute(1, 2, 0).numpy(), heat)


def seen(folder: Path, content: bytes) -> np.ndarray:
    """What the network sees of an image file: uint8 S×S×3.

    Raises: ImageRefused, NotFound.
    """
    with _one_at_a_time:
        return np.asarray(seen_in(own(folder), content).permute(1, 2, 0).numpy())


def sanity(
    folder: Path,
    content: bytes,
    class_name: str | None = None,
    method: str = "gradcam",
    layer: int | None = None,
) -> float:
    """How alike the map is to that of the same network with its head's weights shuffled.

    The rank correlation of both maps (Adebayo et al. 2018), −1 to 1, the mean of three shuffles; 1
    for maps that do not depend on the head at all, which therefore say nothing about the class.
    Raises: as `explain`.
    """
    with _one_at_a_time:
        classifier = own(folder)
        square = seen_in(classifier, content)
        number = number_of(classifier, square, class_name)
        heat = heat_map(classifier, square, number, method, layer)
        others = (
            heat_map(shuffled(classifier, seed), square, number, method, layer)
            for seed in range(SHUFFLES)
        )
        return float(np.mean([likeness(heat, other) for other in others]))


def likeness(heat: np.ndarray, other: np.ndarray) -> float:
    """The rank correlation of two maps; 0 where one of them has no shape and the other has."""
    from scipy.stats import spearmanr

    if np.array_equal(heat, other):
        return 1.0
    if np.ptp(heat) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(heat.ravel(), other.ravel()).statistic)


def shuffled(classifier: Classifier, seed: int = 0) -> Classifier:
    """A copy whose head has the same weights in another order."""
    network = copy.deepcopy(classifier.network)
    order = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in networks.classifier_of(network).state_dict().values():
            if weights.is_floating_point() and weights.numel() > 1:
                places = torch.randperm(weights.numel(), generator=order)
                weights.copy_(weights.flatten()[places].reshape(weights.shape))
    return replace(classifier, network=network)


def layer_names(folder: Path) -> list[str]:
    """The layers that can be explained, from the picture to the head; none of an ensemble.

    Raises: NotFound.
    """
    with _one_at_a_time:
        classifier = own(folder)
        if isinstance(classifier.network, Ensemble):
            return []  # Each member has its own.
        side = classifier.preprocessing.size
        return [one.name for one in layers(classifier.network, torch.zeros(1, 3, side, side))]


def own(folder: Path) -> Classifier:
    """The classifier of a folder for explanations alone."""
    return _own(folder, (folder / SUMS).stat().st_mtime_ns if (folder / SUMS).exists() else 0)


def seen_in(classifier: Classifier, content: bytes) -> Tensor:
    """What a classifier sees of an image file: uint8 3×S×S.

    Raises: ImageRefused.
    """
    return fitted(picture(content, classifier.preprocessing), classifier.preprocessing)


def number_of(classifier: Classifier, square: Tensor, class_name: str | None) -> int:
    """The number of a class, or of the one that is predicted.

    Raises: RecipeRefused for a class that it does not know.
    """
    if class_name is None:
        inputs = normalized(square[None], classifier.preprocessing)
        return int(classifier.probabilities(inputs)[0].argmax())
    if class_name not in classifier.classes:
        raise RecipeRefused(
            f"The classifier knows no class {class_name}.",
            f"Its classes are: {', '.join(classifier.classes[:20])}.",
        )
    return classifier.classes.index(class_name)


@lru_cache(maxsize=2)
def _own(folder: Path, written: int) -> Classifier:
    """A classifier for explanations alone: nothing asks how its weights should change."""
    classifier = classifiers.load(folder)
    classifier.network.requires_grad_(False)
    return classifier


def heat_map(
    classifier: Classifier,
    square: Tensor,
    number: int,
    method: str = "gradcam",
    layer: int | None = None,
) -> np.ndarray:
    """The map of a square uint8 3×S×S for a class number: S×S float32 in 0–1.

    Raises: RecipeRefused for a method or layer that is not there.
    """
    if method not in METHODS:
        raise RecipeRefused(f"There is no method {method}.", f"There are: {', '.join(METHODS)}.")
    if not METHODS[method].cam:
        return occlusion(classifier, square, number)
    inputs = normalized(square[None], classifier.preprocessing)
    network = classifier.network
    if not isinstance(network, Ensemble):
        return network_map(network, inputs, number, method, layer)
    # The mean of the members' maps, each weighing what its word weighs.
    maps = [
        weight * view.heat(network_map(one, view.inputs(inputs), number, method, None))
        for one, view, weight in zip(network.networks, network.views, network.weights, strict=True)
    ]
    return np.asarray(np.sum(maps, axis=0), dtype=np.float32)


def network_map(
    network: nn.Module, inputs: Tensor, number: int, method: str, layer: int | None
) -> np.ndarray:
    """The map of one network's input 1×3×S×S for a class number: S×S float32 in 0–1.

    Raises: RecipeRefused for a layer that is not there.
    """
    # A frozen backbone has no gradients of its own; the input's carry them through.
    inputs = inputs.detach().requires_grad_()
    found = layers(network, inputs.detach())
    if layer is not None and not 0 <= layer < len(found):
        raise RecipeRefused(
            "There is no such layer.", f"There are: {', '.join(one.name for one in found)}."
        )
    heat = activation_map(network, inputs, found[-1 if layer is None else layer],
                          number, METHODS[method].cam)  # fmt: skip
    return np.asarray(np.clip(np.nan_to_num(heat), 0, 1), dtype=np.float32)


def activation_map(
    network: nn.Module, inputs: Tensor, layer: Layer, number: int, cam: str
) -> np.ndarray:
    """The map of one input 1×3×S×S by a class of the grad-cam library: S×S."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(import_module("pytorch_grad_cam"), cam)(
        network, [layer.module], reshape_transform=layer.reshape
    ) as maps:
        return np.asarray(maps(input_tensor=inputs, targets=[ClassifierOutputTarget(number)])[0])


def heat_png(explanation: Explanation) -> bytes:
    """The map alone as a PNG that is laid over the picture: hotter is brighter and less clear."""
    rgba = np.dstack([colored(explanation.heat), (explanation.heat * 255).astype(np.uint8)])
    return png(rgba)


def blended_png(explanation: Explanation, strength: float) -> bytes:
    """Picture and map in one PNG; strength 0 is the picture alone, 1 the map where it is hot."""
    return png(blended(explanation, strength))


def blended(explanation: Explanation, strength: float) -> np.ndarray:
    """Picture and map in one: uint8 S×S×3."""
    share = (explanation.heat * strength)[..., None]
    mixed = explanation.picture * (1 - share) + colored(explanation.heat) * share
    return np.asarray(mixed.round(), dtype=np.uint8)


def sheet_png(found: Sequence[Explanation], strength: float, columns: int = 6) -> bytes:
    """Explanations of one size side by side in rows, as one PNG; at least one."""
    side, gap = found[0].picture.shape[0], 4
    columns = min(columns, len(found))
    rows = -(-len(found) // columns)
    shape = (rows * (side + gap) - gap, columns * (side + gap) - gap, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for number, one in enumerate(found):
        y, x = (side + gap) * (number // columns), (side + gap) * (number % columns)
        sheet[y : y + side, x : x + side] = blended(one, strength)
    return png(sheet)


def colored(heat: np.ndarray) -> np.ndarray:
    """Heat 0–1 as color, uint8 H×W×3, in a palette that color-blind people can read (inferno)."""
    import cv2

    palette = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(palette[..., ::-1])


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
