"""What a recipe's steps take on this machine: a few of them, done by the code that trains, timed.

Nothing is remembered: a machine that is busy now is slower now, and that is what is asked.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core import recipe as recipes
from core.data import loader
from core.data.dataset import Dataset
from core.models import device as devices
from core.models import features as feature_cache
from core.models import network as networks
from core.models import stages, weights
from core.schema import FITTED, Recipe
from core.training import balance, batching, optim, range_test, techniques, tuning
from core.training.events import EpochEnded, Event
from core.training.work import Work, prepare

# Files that are decoded, and images and epochs of each rehearsal, the first of which warms up.
FILES, TIMED_BATCHES, EPOCHS = 24, 2, 3
# Heads that are solved for at once are tried on at most so many images, and grow with a power of
# how many there are.
MOST_SOLVED = 1_000
GROWTH = {"logistic": 1.0, "svm": 2.0, "knn": 1.0}
# How far the made-up classes lie apart, in deviations of a feature.
DISTANCE = 0.15
FORWARD_SHARE = 1 / 3


def work_of(dataset: Dataset, recipe: Recipe, folder: Path) -> Work:
    """What a training of the recipe would have at hand.

    Where weights would have to be fetched first, it has none: that changes no time.
    """
    here = recipe.backbone.weights != "pretrained" or weights.usable_now(recipe.backbone.name)
    bare = recipe.technique.model_copy(update={"name": "from_scratch"})
    asked = recipe if here else recipe.model_copy(update={"technique": bare})
    return replace(prepare(dataset, asked, folder, lambda: False), recipe=recipe)


def busy(action: Callable[[], Any]) -> tuple[Any, float]:
    """What an action returns, and how many times longer it took than a free machine would take.

    It should compute in one thread, and long enough for others to come in between.
    """
    started, computed = time.perf_counter(), time.thread_time()
    result = action()
    own = time.thread_time() - computed
    return result, max(1.0, (time.perf_counter() - started) / max(own, 1e-3))


def seconds_of(action: Callable[[], Any]) -> float:
    """How long an action takes."""
    started = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


@dataclass
class Rehearsal:
    """Seconds that parts of a training take, each measured when it is first asked for."""

    work: Work

    def missing(self, part: str, dtype: torch.dtype) -> int:
        """How many images of a part have no features in the cache."""
        cache = feature_cache.FeatureCache(self.work.network, self.work.preprocessing, dtype)
        digests = self.work.dataset.table["sha256"].to_numpy()[self.work.rows(part)]
        return len(set(digests) - set(cache.known))

    @property
    def pictures_kept(self) -> bool:
        """Whether nothing has to be decoded before the network is trained."""
        decoding = loader.decoded(self.work.dataset, self.work.preprocessing, self.work.threads)
        return not isinstance(next(iter(decoding)), int)  # A file it has begun goes again.

    @cached_property
    def decoding(self) -> float:
        """Of reading, decoding and resizing one image, all threads together."""
        rows = spread(np.nonzero(self.work.parts != "test")[0], FILES)
        self.decode(rows[:2])  # The first images load the decoders too.
        return seconds_of(lambda: self.decode(rows)) / len(rows)

    def decode(self, rows: np.ndarray) -> None:
        """Decode some rows as a training does."""
        work = self.work
        for _ in loader.squares(
            work.pictures, rows.tolist(), work.preprocessing, feature_cache.BATCH, work.threads
        ):
            pass

    def forward(self, dtype: torch.dtype) -> tuple[float, float]:
        """Of getting the backbone ready for features, and of one image then."""
        started = time.perf_counter()
        fast = networks.frozen(self.work.network, self.work.device, dtype)
        setup = time.perf_counter() - started
        return setup, self.passing(fast, dtype)

    @cached_property
    def scoring(self) -> float:
        """Of one image's fp32 forward by the network as it is trained."""
        network = copy.deepcopy(self.work.network).to(self.work.device).eval()
        laid_out = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.passing(laid_out, torch.float32)

    def passing(self, network: nn.Module, dtype: torch.dtype) -> float:
        """Of one image's forward in a batch."""
        work = self.work
        compute = feature_cache.forward_of(network, work.preprocessing, work.device, dtype)
        side = work.preprocessing.size
        batch = torch.zeros(feature_cache.BATCH, 3, side, side, dtype=torch.uint8)
        compute(batch)
        taken = seconds_of(lambda: [compute(batch) for _ in range(TIMED_BATCHES)])
        return taken / (TIMED_BATCHES * feature_cache.BATCH)

    def head(self, recipe: Recipe) -> float:
        """Of training a head on features, all epochs, tried on made-up ones of the same size."""
        if recipe.head.kind in FITTED:
            return self.solving(recipe)
        short, labels = shortened(recipe), self.work.labels_of("train")
        work = replace(self.work, recipe=short)
        features, held_out = made_up(work, labels), made_up(work, work.labels_of("val"))
        ends = told_at(techniques.learned(work, short, features, labels, held_out))
        asked = recipe.compute.batch_size
        batch = techniques.HEAD_BATCH if asked == "auto" else asked
        steps = len(balance.order(labels, work.n_classes, recipe, batch, 1))
        return optim.epochs_of(recipe, steps) * (ends[-1][1] - ends[1][1]) / (EPOCHS - 1)

    def solving(self, recipe: Recipe) -> float:
        """Of solving for a head at once; on real features, where the cache has some of them.

        How long a solver looks for its answer depends on them. The first, small one loads it.
        """
        features, labels = self.known_or_made_up()
        held_out = made_up(self.work, self.work.labels_of("val"))
        work = replace(self.work, recipe=recipe)

        def solve(n: int) -> float:
            some = np.unique(np.r_[first_of_each(labels), spread(np.arange(len(labels)), n)])
            head = techniques.solved(work, recipe, features[some], labels[some], held_out)
            return seconds_of(lambda: list(head))

        loading = solve(0)
        taken = solve(MOST_SOLVED)
        times = len(self.work.rows("train")) / min(len(labels), MOST_SOLVED)
        return float(loading + taken * max(1.0, times) ** GROWTH[recipe.head.kind])

    def known_or_made_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Features N×F of training images and their labels N: those kept, else made-up ones."""
        work = self.work
        dtype = devices.forward_dtype(work.device)
        known = feature_cache.FeatureCache(work.network, work.preprocessing, dtype).known
        digests, rows = work.dataset.table["sha256"].to_numpy(), work.rows("train")
        kept = [row for row in rows if digests[row] in known]
        if len(set(work.labels[kept])) < len(set(work.labels[rows])):
            return made_up(work, work.labels[rows]), work.labels[rows]
        return np.stack([known[digests[row]] for row in kept]), work.labels[kept]

    def tuning(self) -> float:
        """Of training the network itself, all epochs; the pictures are decoded already."""
        full, recipe = self.work, self.work.recipe
        batch = batching.size(full, full.network)
        small = self.small(batch)
        source = returned(tuning.source_of(small))
        rate = tuning.rate_of(small.recipe, source.network, batch, batch)
        ends = told_at(tuning.trained(small, source, None, batch, rate))
        n_small = {part: len(small.rows(part)) for part in ("train", "val")}
        image = sum(end.seconds for end, _ in ends[2:]) / (EPOCHS - 1) / n_small["train"]
        besides = (ends[-1][1] - ends[1][1]) / (EPOCHS - 1) - image * n_small["train"]
        cut = source.network is not small.network
        scoring = FORWARD_SHARE * image if cut else self.scoring
        besides += (len(full.rows("val")) - n_small["val"]) * scoring
        order = balance.order(full.labels_of("train"), full.n_classes, recipe, batch, 1)
        epochs = optim.epochs_of(recipe, len(order))
        images = sum(map(len, order)) * sum(self.share(epoch) for epoch in range(1, epochs + 1))
        searched = range_test.STEPS * batch * (recipe.optimizer.learning_rate == "find")
        return (images + searched) * image + epochs * max(0.0, besides) + cut * self.trunk

    @property
    def trunk(self) -> float:
        """Of passing all images through frozen stages, which are most of the network."""
        _, image = self.forward(devices.forward_dtype(self.work.device))
        return len(self.work.rows("train")) * image + len(self.work.rows("val")) * self.scoring

    def small(self, batch: int) -> Work:
        """The same work on one batch of training images, decoded already, for a few epochs."""
        full = self.work
        parts = np.full_like(full.parts, "")
        for part, n in (("train", batch), ("val", feature_cache.BATCH)):
            parts[spread(full.rows(part), n)] = part
        pictures = {int(row): full.pictures(int(row)) for row in np.nonzero(parts != "")[0]}
        recipe, network = shortened(full.recipe), copy.deepcopy(full.network)
        return replace(
            full, recipe=recipe, parts=parts, network=network, pictures=pictures.__getitem__
        )

    def thawed(self) -> nn.Module:
        """A copy of the network in which that learns which learns in the end."""
        recipe, network = self.work.recipe, copy.deepcopy(self.work.network)
        every = stages.stages(network)
        n_last = stages.learning(recipe, recipe.schedule.epochs, len(every))
        tuning.thawed(network, every, n_last)
        return network

    def share(self, epoch: int) -> float:
        """Of what a step over all stages takes, what one takes in this epoch: 0–1.

        Only thawing stage by stage changes it: what is frozen is passed forwards only, which is
        about a third of a step.
        """
        if self.work.recipe.technique.name != "gradual":
            return 1.0
        n = len(stages.stages(self.work.network))
        return FORWARD_SHARE + (1 - FORWARD_SHARE) * stages.learning(self.work.recipe, epoch, n) / n


def spread(values: np.ndarray, n: int) -> np.ndarray:
    """At most n of some values, evenly from first to last."""
    return np.asarray(values[np.linspace(0, len(values) - 1, min(n, len(values))).astype(int)])


def first_of_each(labels: np.ndarray) -> np.ndarray:
    """Where the first two images of each class stand."""
    return np.concatenate([np.nonzero(labels == one)[0][:2] for one in np.unique(labels)])


def made_up(work: Work, labels: np.ndarray) -> np.ndarray:
    """Features that tell classes apart about as well as real ones do: N×F float32.

    F is the number that the backbone has; labels: N int64.
    """
    width = int(work.network.num_features)  # type: ignore[arg-type]
    rng = np.random.default_rng(work.recipe.seed)
    centers = rng.standard_normal((work.n_classes, width), dtype=np.float32)
    noise = rng.standard_normal((len(labels), width), dtype=np.float32)
    return np.asarray(DISTANCE * centers[labels] + noise)


def shortened(recipe: Recipe) -> Recipe:
    """The same recipe for so many epochs as are rehearsed, and nothing that shortens or adds."""
    rate = recipe.optimizer.learning_rate
    every = "finetune" if recipe.technique.name == "gradual" else recipe.technique.name
    changes = {
        "technique": {"name": every},
        "schedule": {"epochs": EPOCHS, "min_steps": 0},
        "stopping": {"patience": 0},
        "balance": {"method": "none"},
        "optimizer": {"learning_rate": "auto" if rate == "find" else rate},
        "compute": {"accumulate": 1},
        "finish": {"soup": False},
    }
    return recipes.changed(recipe, changes)


def told_at(events: Iterable[Event]) -> list[tuple[EpochEnded, float]]:
    """The ends of epochs, from epoch 0 on, and when each was told."""
    return [(one, time.perf_counter()) for one in events if isinstance(one, EpochEnded)]


def returned(steps: Generator[Event, None, tuning.Source]) -> tuning.Source:
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]


def forget_accelerator() -> None:
    """Let the next training of this process choose another precision."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
