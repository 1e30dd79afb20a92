"""What one training has at hand, and the small things that all of its steps do."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core import machine
from core.data import folding, loader
from core.data.augment import Preprocessing
from core.data.dataset import Dataset
from core.errors import RecipeRefused
from core.models import device as devices
from core.models import features as feature_cache
from core.models import network as networks
from core.schema import Recipe
from core.training import team as teams
from core.training.events import Progress
from core.training.team import Team


class NothingYet(Exception):
    """The run was stopped before there was any epoch to keep."""


@dataclass
class Work:
    """Everything one training has at hand; made once by `prepare`, then read."""

    dataset: Dataset
    recipe: Recipe
    folder: Path
    stop: Callable[[], bool]
    parts: np.ndarray
    labels: np.ndarray
    network: nn.Module
    preprocessing: Preprocessing
    device: torch.device
    threads: int
    started: float
    pictures: loader.Pictures
    rates: dict[str, float] = field(default_factory=dict)  # images a second by phase
    best_epoch: int = 0
    epochs: int = 0
    stopped: bool = False
    team: Team = teams.ALONE

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of one part of the dataset."""
        return np.nonzero(self.parts == part)[0]

    def labels_of(self, part: str) -> np.ndarray:
        """Class numbers of the images of one part: N int64."""
        found: np.ndarray = self.labels[self.rows(part)]
        return found

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.dataset.classes)


def prepare(dataset: Dataset, recipe: Recipe, folder: Path, stop: Callable[[], bool]) -> Work:
    """Resolve what the recipe leaves to the machine.

    Raises: DatasetRefused, RecipeRefused, WeightsMissing, MachineRefused.
    """
    team, device = teams.on(devices.resolve(recipe.compute.device))
    if recipe.compute.precision == "fp16" and device.type != "cuda":
        raise RecipeRefused(
            f"compute.precision fp16 needs a CUDA device, and this training runs on {device.type}.",
            "Set compute.precision to auto, bf16 or fp32.",
        )
    workers = recipe.compute.workers
    cores = teams.cores_each(machine.cores())
    threads = cores if workers == "auto" else int(workers)
    torch.set_num_threads(cores)
    parts = folding.parts(dataset, recipe)
    pretrained = recipe.technique.name != "from_scratch"
    network = networks.create(recipe, len(dataset.classes), pretrained=pretrained)
    preprocessing = networks.preprocessing_of(network, recipe)
    return Work(
        dataset=dataset,
        recipe=recipe,
        folder=folder,
        stop=stop,
        parts=parts,
        labels=dataset.labels.to_numpy(),
        network=network,
        preprocessing=preprocessing,
        device=device,
        team=team,
        threads=max(1, threads),
        started=time.monotonic(),
        pictures=loader.from_files(dataset, preprocessing),
    )


def counted(work: Work, phase: str, done: int, total: int, started: float) -> Progress:
    """How far a phase without epochs has come.

    Raises: NothingYet when the run was asked to stop and there is nothing to keep.
    """
    if phase != "finish" and work.stop():
        raise NothingYet
    rate = done / max(time.monotonic() - started, 1e-6)
    return Progress(phase, done, total, rate, machine.memory_mb())


def logits_of(work: Work, network: nn.Module, part: str) -> np.ndarray:
    """fp32 logits, N×C, of one part by the network as it is now, in evaluation mode."""
    return headed(network, features_of(work, network, part))


def features_of(work: Work, network: nn.Module, part: str) -> np.ndarray:
    """fp32 features, N×F, of one part by the network as it is now, in evaluation mode."""
    rows = work.rows(part).tolist()
    batches = loader.squares(
        work.pictures, rows, work.preprocessing, feature_cache.BATCH, work.threads
    )
    return features_on(work, network, batches)


def logits_on(work: Work, network: nn.Module, batches: Iterable[torch.Tensor]) -> np.ndarray:
    """fp32 logits, N×C, of batches of fitted pictures, uint8 B×3×S×S."""
    return headed(network, features_on(work, network, batches))


def features_on(work: Work, network: nn.Module, batches: Iterable[torch.Tensor]) -> np.ndarray:
    """fp32 features, N×F, of batches of fitted pictures, uint8 B×3×S×S."""
    forward = feature_cache.forward_of(network, work.preprocessing, work.device, torch.float32)
    return np.concatenate([forward(batch) for batch in batches])


def headed(network: nn.Module, values: np.ndarray) -> np.ndarray:
    """Logits N×C of features N×F by a network's head; the network stays as it is."""
    return classified(copy.deepcopy(networks.classifier_of(network)), values)


def classified(head: nn.Module, values: np.ndarray) -> np.ndarray:
    """Logits N×C of features N×F, in fp32 on the CPU."""
    with torch.inference_mode():
        return np.asarray(head.cpu().float()(torch.from_numpy(values)).numpy())
