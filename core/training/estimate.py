"""How long a recipe will take on this machine, and how much memory, from a few measured steps.

The steps are those of `techniques`: features of what the cache lacks, a head, the network, scores.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core import machine
from core.data import split
from core.data.dataset import Dataset
from core.models import advisor
from core.models.advisor import Advice, Estimate
from core.models.ranking import Doing
from core.schema import Recipe
from core.settings import settings

if TYPE_CHECKING:
    from core.training.rehearsal import Rehearsal

# A process with torch and timm before it does anything, measured: seconds and megabytes.
SECONDS_TO_START, MEGABYTES_TO_START = 5.0, 700.0
# A longer wait than this is for something else, such as a disk.
MOST_BUSY = 4.0
# Figures with their intervals, the temperature, the model and its hashes on the disk, measured.
SECONDS_TO_FINISH = 0.5
# Validation images on which a tuning first looks at its augmentation, at most.
MOST_CHECKED = 64
# Weights, gradients, two moments, the best epoch's weights.
COPIES = 5
# A heap that is kept holds more than one forward needs: measured, so many times its largest layer.
PASSES = 3
# One rehearsal at a time: two would slow each other down, and accelerate has one state a process.
_alone = threading.Lock()


def advise(dataset: Dataset, preset: str | None = None) -> Iterator[Doing | Advice]:
    """What to do with a dataset, last the advice; see `advisor.advise`."""
    return advisor.advise(dataset, preset, estimate)


def estimate(dataset: Dataset, recipe: Recipe) -> Estimate:
    """Time and memory of a recipe on this machine as busy as it is now.

    Raises: RecipeRefused for an unknown backbone, MachineRefused for a missing device.
    """
    # Torch comes in only now, so that the page opens at once.
    from core.training import rehearsal

    machine.keep_heap()
    settings().cache.mkdir(parents=True, exist_ok=True)
    with _alone, tempfile.TemporaryDirectory(dir=settings().cache) as folder:
        work, busy = rehearsal.busy(lambda: rehearsal.work_of(dataset, recipe, Path(folder)))
        tried = rehearsal.Rehearsal(work)
        try:
            start = {"start": SECONDS_TO_START * min(busy, MOST_BUSY)}
            phases = start | PHASES[recipe.technique.name](tried)
            memory = memory_of(tried, phases)
        finally:
            rehearsal.forget_accelerator()
    return Estimate(phases, memory)


def frozen(tried: Rehearsal) -> dict[str, float]:
    """Features of all parts, a head on them, and its scores."""
    return {
        "features": features(tried, split.PARTS),
        "head": tried.head(tried.work.recipe),
        "finish": SECONDS_TO_FINISH,
    }


def tuned(tried: Rehearsal) -> dict[str, float]:
    """Features of what is learned from, a head on them, then the network."""
    from core.training.techniques import probe

    found = {
        "features": features(tried, ("train", "val")),
        "head": tried.head(probe(tried.work.recipe)),
    }
    return {**found, **scratch(tried)}


def scratch(tried: Rehearsal) -> dict[str, float]:
    """Every picture decoded once, the network, and its scores on all of them."""
    n = len(tried.work.parts)
    checked = 2 * min(MOST_CHECKED, len(tried.work.rows("val")))
    return {
        "decode": 0.0 if tried.pictures_kept else n * tried.decoding,
        "tune": tried.tuning() + (checked + stirring(tried)) * tried.scoring,
        "finish": n * tried.scoring + SECONDS_TO_FINISH,
    }


def stirring(tried: Rehearsal) -> int:
    """How many validation images are passed to see which epochs go into a soup, at most."""
    from core.training import soup

    recipe = tried.work.recipe
    tries = min(soup.MOST, recipe.schedule.epochs + 1) - 1
    return recipe.finish.soup * tries * len(tried.work.rows("val"))


PHASES: dict[str, Callable[[Rehearsal], dict[str, float]]] = {
    "feature_extraction": frozen,
    "last_stages": tuned,
    "gradual": tuned,
    "finetune": tuned,
    "from_scratch": scratch,
}


def features(tried: Rehearsal, parts: tuple[str, ...]) -> float:
    """Seconds for the features that the cache lacks: training images in the fastest format."""
    import torch

    from core.models import device as devices

    held_out = tuple(part for part in parts if part != "train")
    seconds = 0.0
    for group, dtype in (
        (("train",), devices.forward_dtype(tried.work.device)),
        (held_out, torch.float32),
    ):
        missing = sum(tried.missing(part, dtype) for part in group)
        if missing:
            setup, image = tried.forward(dtype)
            seconds += setup + missing * together(tried, image)
    return seconds


def together(tried: Rehearsal, compute: float) -> float:
    """Seconds an image for decoding and computing: both on the same cores, or side by side."""
    if tried.work.device.type == "cpu":
        return tried.decoding + compute
    return max(tried.decoding, compute)


def memory_of(tried: Rehearsal, phases: dict[str, float]) -> float:
    """Megabytes: the process, the weights and what training keeps of them, the largest batch."""
    from core.models.ranking import memory_mb
    from core.training import batching, soup

    work = tried.work
    forward = memory_mb(work.network, work.recipe)
    if work.recipe.is_frozen:
        return MEGABYTES_TO_START + (PASSES if phases["features"] else 1) * forward
    network = tried.thawed()
    batch = batching.size(work, network)
    kept = batch * batching.bytes_per_image(network, work.preprocessing.size, work.device)
    more = work.recipe.finish.soup * soup.MOST + (work.recipe.regularization.ema > 0)
    copies = (COPIES + more) * 4 * sum(p.numel() for p in network.parameters())
    # Scores come from fp32 forwards whatever is trained.
    return MEGABYTES_TO_START + PASSES * forward + (copies + kept) / 1e6
