"""Why a classifier says so: Grad-CAM (Selvaraju et al. 2017), by the grad-cam library.

The map is computed in fp32 on a classifier that nobody else holds: hooks and gradients never
disturb a prediction that runs beside it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from core.data.augment import fitted, normalized, picture
from core.errors import RecipeRefused
from core.models import classifier as classifiers
from core.models.classifier import SUMS, Classifier

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Explanation:
    """What the network saw, uint8 S×S×3, and what spoke for the class there, float32 S×S in 0–1."""

    picture: np.ndarray
    heat: np.ndarray


def explain(folder: Path, content: bytes, class_name: str | None = None) -> Explanation:
    """Grad-CAM of one image file for a class, by the classifier in a `model` folder.

    class_name: None is the class that it predicts.
    Raises: ImageRefused, NotFound, RecipeRefused for a class it does not know.
    """
    with _one_at_a_time:
        written = (folder / SUMS).stat().st_mtime_ns if (folder / SUMS).exists() else 0
        classifier = _own(folder, written)
        if class_name is not None and class_name not in classifier.classes:
            raise RecipeRefused(
                f"The classifier knows no class {class_name}.",
                f"Its classes are: {', '.join(classifier.classes[:20])}.",
            )
        number = None if class_name is None else classifier.classes.index(class_name)
        square = fitted(picture(content, classifier.preprocessing), classifier.preprocessing)
        heat = grad_cam(classifier, square, number)
        return Explanation(square.permute(1, 2, 0).numpy(), heat)


@lru_cache(maxsize=2)
def _own(folder: Path, written: int) -> Classifier:
    """A classifier for explanations alone: nothing asks how its weights should change."""
    classifier = classifiers.load(folder)
    classifier.network.requires_grad_(False)
    return classifier


def grad_cam(classifier: Classifier, square: Tensor, number: int | None) -> np.ndarray:
    """Grad-CAM of a square uint8 3×S×S for a class number (None: the predicted one): S×S in 0–1."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # A frozen backbone has no gradients of its own; the input's carry them through.
    inputs = normalized(square[None], classifier.preprocessing).requires_grad_()
    layer, reshape = target_of(classifier.network, inputs.detach())
    targets = None if number is None else [ClassifierOutputTarget(number)]
    with GradCAM(classifier.network, [layer], reshape_transform=reshape) as cam:
        heat = cam(input_tensor=inputs, targets=targets)[0]
    return np.asarray(np.clip(np.nan_to_num(heat), 0, 1), dtype=np.float32)


def target_of(
    network: nn.Module, inputs: Tensor
) -> tuple[nn.Module, Callable[[Tensor], Tensor] | None]:
    """The layer to explain and how its output becomes maps N×C×H×W.

    Transformers: the last block's first norm, tokens laid out on their grid. Others: the last
    layer of the feature extractor that yields maps.
    """
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    blocks = getattr(network, "blocks", None)
    if grid is not None and blocks is not None and hasattr(blocks[-1], "norm1"):
        prefix = int(getattr(network, "num_prefix_tokens", 0))

        def laid_out(tokens: Tensor) -> Tensor:
            n, _, channels = tokens.shape
            maps = tokens[:, prefix:].reshape(n, grid[0], grid[1], channels)
            return maps.permute(0, 3, 1, 2)  # N×C×H×W

        return blocks[-1].norm1, laid_out
    last = last_map_layer(network, inputs)
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return last, lambda maps: maps.permute(0, 3, 1, 2)
    return last, None


def last_map_layer(network: nn.Module, inputs: Tensor) -> nn.Module:
    """The last part of `forward_features` whose output has four dimensions: all channels at once.

    Parts are looked at with what they contain: the last leaf alone may be one branch of many.
    """
    seen: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen.append(module)

    parts = [module for module in network.modules() if module is not network]
    hooks = [part.register_forward_hook(note) for part in parts]
    try:
        with torch.no_grad():
            network.forward_features(inputs)  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
    return seen[-1]


def heat_png(explanation: Explanation) -> bytes:
    """The map alone as a PNG that is laid over the picture: hotter is brighter and less clear."""
    rgba = np.dstack([colored(explanation.heat), (explanation.heat * 255).astype(np.uint8)])
    return png(rgba)


def picture_png(explanation: Explanation) -> bytes:
    """What the network saw, as a PNG."""
    return png(explanation.picture)


def blended_png(explanation: Explanation, strength: float) -> bytes:
    """Picture and map in one PNG; strength 0 is the picture alone, 1 the map where it is hot."""
    share = (explanation.heat * strength)[..., None]
    mixed = explanation.picture * (1 - share) + colored(explanation.heat) * share
    return png(mixed.round().astype(np.uint8))


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
