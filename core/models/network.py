"""Networks from timm: created for a recipe, made fast for frozen forwards, asked for features.

timm stays behind this module: stages, heads and preprocessing are asked for here and nowhere else.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from core.data.augment import Preprocessing
from core.errors import RecipeRefused
from core.models import sizes, weights
from core.schema import Recipe

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
# Largest difference, relative to the largest output, at which folded batch norms count as equal.
FOLDING_TOLERANCE = 1e-3


def create(recipe: Recipe, n_classes: int, *, pretrained: bool) -> nn.Module:
    """The backbone of a recipe with a fresh linear head for `n_classes`, on the CPU.

    Raises: RecipeRefused for an unknown name or a size of picture that the backbone cannot take,
    WeightsMissing for weights that cannot be had.
    """
    weights.check_name(recipe.backbone.name)
    name = weights.full_name(recipe.backbone.name)
    if pretrained:
        weights.check(name, recipe.backbone.weights)
    network = made(name, recipe)
    if pretrained:
        weights.load(network, name, recipe.backbone.weights)
    network.reset_classifier(n_classes)  # type: ignore[operator]
    if not isinstance(classifier_of(network), nn.Linear):
        raise RecipeRefused(
            f"{recipe.backbone.name} has no single linear classifier.", weights.advice("resnet50")
        )
    return network


def made(name: str, recipe: Recipe) -> nn.Module:
    """A backbone without a classifier, its weights random, for pictures of the recipe's size."""
    import timm

    size = recipe.image.size
    options: dict[str, Any] = {"drop_rate": recipe.regularization.dropout}
    if recipe.regularization.drop_path:
        options["drop_path_rate"] = recipe.regularization.drop_path
    torch.manual_seed(recipe.seed)
    try:
        network: nn.Module = timm.create_model(
            name, num_classes=0, **options, **sizes.options(name, size)
        )
    except sizes.REFUSALS as error:
        raise refusal(recipe, name, error) from error
    if size != "auto":
        if size != config_of(network)["input_size"][-1]:
            sizes.check(network, name, size)
        sized: Any = {**config_of(network), "input_size": (3, size, size)}
        network.pretrained_cfg = sized
    return network


def refusal(recipe: Recipe, name: str, error: Exception) -> RecipeRefused:
    """Why timm cannot make a backbone, and what to change."""
    if "drop_path_rate" in str(error):
        return RecipeRefused(
            f"{recipe.backbone.name} has no blocks that could be skipped.",
            "Set regularization.drop_path to 0.",
        )
    if recipe.image.size != "auto" and sizes.options(name, recipe.image.size):
        return sizes.refusal(name, recipe.image.size)
    return RecipeRefused(
        f"timm cannot make the backbone {recipe.backbone.name} ({error}).", weights.advice(name)
    )


def config_of(network: nn.Module) -> dict[str, Any]:
    """What timm knows of how a network was pretrained."""
    return dict(network.pretrained_cfg)  # type: ignore[arg-type]


def classifier_of(network: nn.Module) -> nn.Module:
    """The last layer, from features to one value a class."""
    found: nn.Module = network.get_classifier()  # type: ignore[operator]
    return found


def preprocessing_of(network: nn.Module, recipe: Recipe) -> Preprocessing:
    """How pictures must be prepared for this network, as it was when it was pretrained."""
    config = config_of(network)
    size = config["input_size"][-1] if recipe.image.size == "auto" else int(recipe.image.size)
    interpolation = config["interpolation"]
    margin = float(config["crop_pct"]) if recipe.image.fit == "crop" else 1.0
    return Preprocessing(
        size=size,
        fit=recipe.image.fit,
        short_side=max(size, round(size / margin)),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bicubic",
    )


def pooled(network: nn.Module, inputs: Tensor) -> Tensor:
    """What the classifier is given: N×F, from normalized pictures N×3×S×S."""
    maps = network.forward_features(inputs)  # type: ignore[operator]
    features: Tensor = network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    return features


def frozen(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy for forwards only: batch norms folded, channels last, in the given number format."""
    fast = folded(copy.deepcopy(network).eval().cpu())
    return fast.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def folded(network: nn.Module) -> nn.Module:
    """The network with each batch norm folded into the convolution before it, outputs unchanged.

    Which norm follows which convolution is seen in one forward pass and not guessed from names;
    the result is compared with the original, which is returned if they differ (Markuš 2018 for
    the arithmetic; torch.nn.utils.fusion does it).
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    config = config_of(network)
    size = int(config["input_size"][-1])
    probe = torch.linspace(-1, 1, 3 * size * size).reshape(1, 3, size, size)
    original = copy.deepcopy(network)
    with torch.no_grad():
        pairs, expected = conv_norm_pairs(network, probe)
        for conv, norm in pairs:
            replace(network, conv, fuse_conv_bn_eval(conv, norm))
            after = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
            replace(network, norm, nn.Sequential(*after) if after else nn.Identity())
        actual = network(probe)
    difference = (actual - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
    return network if float(difference) < FOLDING_TOLERANCE else original


def conv_norm_pairs(
    network: nn.Module, probe: Tensor
) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], Tensor]:
    """Convolutions whose very output is a batch norm's input, and the network's output."""
    makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def note_output(module: nn.Module, _: Any, output: Tensor) -> None:
        makers[id(output)] = (module, output)  # type: ignore[assignment]

    def note_input(module: nn.Module, inputs: Any) -> None:
        if id(inputs[0]) in makers:
            pairs.append((makers[id(inputs[0])][0], module))  # type: ignore[arg-type]

    hooks = [
        module.register_forward_hook(note_output)
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ] + [
        module.register_forward_pre_hook(note_input)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    try:
        output: Tensor = network(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs, output


def replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put one module in another's place."""
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
