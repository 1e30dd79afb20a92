"""How long a recipe will take on this machine, and how much memory, from a few measured steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core import machine
from core.data import split
from core.data.dataset import Dataset
from core.schema import Recipe

if TYPE_CHECKING:
    from torch import nn

# A process with torch and timm before it does anything, measured: seconds and megabytes.
SECONDS_TO_START, MEGABYTES_TO_START = 6.0, 700.0
# Decoding and resizing, images a second on one core, measured on photos of half a megapixel.
DECODED_PER_SECOND = 200.0
# A training step keeps each layer's output; measured on lite0 at 224 px, per image in the batch.
FLOATS_KEPT_PER_MULTIPLY_ADD = 0.055


@dataclass(frozen=True)
class Estimate:
    """Seconds and megabytes that a training will about take."""

    seconds: float
    memory_mb: float


def estimate(dataset: Dataset, recipe: Recipe) -> Estimate:
    """Time and memory of a recipe on this machine; the pace is measured once and remembered.

    Raises: RecipeRefused for an unknown backbone, MachineRefused for a missing device.
    """
    # Torch comes in only now, so that the page opens at once.
    import torch

    from core.models import device as devices
    from core.models import network as networks
    from core.training import pace

    device = devices.resolve(recipe.compute.device)
    torch.set_num_threads(machine.cores())
    network = networks.create(recipe, len(dataset.classes), pretrained=False)
    size = networks.preprocessing_of(network, recipe).size
    found = pace.measure(network, recipe.backbone.name, size, device)
    counts = split.per_class(dataset, split.split(dataset, recipe.data.split, recipe.seed)).sum()
    n = len(dataset.table)
    seconds = SECONDS_TO_START + n / (DECODED_PER_SECOND * machine.cores()) + n / found.frozen
    precision = recipe.compute.precision
    fastest = max(found.training.values())
    speed = found.training.get(precision, fastest)
    if recipe.technique.name != "feature_extraction":
        one_epoch = counts["train"] / speed + counts["val"] / found.frozen
        seconds += recipe.schedule.epochs * one_epoch + n / found.frozen
    return Estimate(seconds, memory_of(network, recipe, size))


def memory_of(network: nn.Module, recipe: Recipe, size: int) -> float:
    """Megabytes: the process, the weights with gradients and two moments, the kept outputs."""
    from core.models.catalog import backbone

    weights_mb = sum(p.numel() for p in network.parameters()) * 4 / 1e6
    if recipe.technique.name == "feature_extraction":
        return MEGABYTES_TO_START + 3 * weights_mb
    known = backbone(recipe.backbone.name)
    gmacs = known.gmacs * (size / known.input_size) ** 2 if known else weights_mb / 12
    outputs_mb = gmacs * 1e9 * FLOATS_KEPT_PER_MULTIPLY_ADD * 4 / 1e6
    return MEGABYTES_TO_START + 6 * weights_mb + outputs_mb * recipe.compute.batch_size
