"""The techniques of transfer learning, and the head on features that most of them begin with.

Data flow: pictures -> features -> head [-> network]. The techniques differ only in which of these
steps they take; each is a generator of events that returns what it trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import recipe as recipes
from core.data import split
from core.models import device as devices
from core.models import features as feature_cache
from core.models import heads
from core.models import network as networks
from core.schema import FITTED, Recipe
from core.training import balance, loop, optim, range_test
from core.training.events import EpochEnded, Event
from core.training.team import Deserted
from core.training.tuning import run, tuned
from core.training.work import Work, classified, counted

# With so few steps an epoch as features allow, larger batches than in fine-tuning do as well.
HEAD_BATCH = 64


@dataclass(frozen=True)
class Trained:
    """What the training phases hand on: a network with its head, or features with theirs."""

    network: nn.Module
    features: dict[str, np.ndarray] | None  # by part, where the backbone stayed frozen


Saved = dict[str, Any] | None  # a checkpoint
Steps = Generator[Event, None, Trained]


def feature_extraction(work: Work, saved: Saved) -> Steps:
    """Frozen backbone, features once, a head on them."""
    found = yield from extracted(work, split.SCORED)
    yield from headed(work, found, work.recipe)
    return Trained(work.network, found)


def tuning(work: Work, saved: Saved) -> Steps:
    """A head on frozen features first, then some or all stages (LP-FT, Kumar et al. 2022)."""
    if saved is None:
        yield from begun(work)
    else:
        bare_head(work)
    yield from tuned(work, saved)
    return Trained(work.network, None)


def begun(work: Work) -> Iterator[Event]:
    """The head that tuning begins from; of several processes the leader makes it for all."""
    if not work.team.leads:
        head = work.team.told(None)
        if head is None:
            raise Deserted
        networks.replace(work.network, networks.classifier_of(work.network), head)
        return
    head = None
    try:
        found = yield from extracted(work, ("train", "val"))
        yield from headed(work, found, probe(work.recipe))
        head = networks.classifier_of(work.network).cpu()
    finally:
        work.team.told(head)


def from_scratch(work: Work, saved: Saved) -> Steps:
    """No head start: random weights, everything learns."""
    bare_head(work)
    yield from tuned(work, saved)
    return Trained(work.network, None)


def bare_head(work: Work) -> None:
    """Put a head of the recipe's kind on the network that has learned nothing yet."""
    classifier = networks.classifier_of(work.network)
    if work.recipe.head.kind == "mlp" and isinstance(classifier, nn.Linear):
        torch.manual_seed(work.recipe.seed)
        heads.put_on(work.network, heads.mlp(work.recipe, classifier.in_features, work.n_classes))


TECHNIQUES: dict[str, Callable[[Work, Saved], Steps]] = {
    "feature_extraction": feature_extraction,
    "last_stages": tuning,
    "gradual": tuning,
    "finetune": tuning,
    "from_scratch": from_scratch,
}


def probe(recipe: Recipe) -> Recipe:
    """The recipe of the head that fine-tuning starts from: `quick`, for the same head and data.

    It is the bar that fine-tuning must beat, so it does not follow that one's optimizer.
    """
    method = recipe.balance.method
    kept = recipe.model_dump(include={"data", "image", "backbone", "head", "balance", "seed"})
    kept["balance"]["method"] = "oversample" if method == "augment_minority" else method
    kept["regularization"] = recipe.regularization.model_dump(
        include={"dropout", "label_smoothing"}
    )
    kept["stopping"] = {"metric": recipe.stopping.metric}
    return recipes.changed(recipes.preset("quick"), kept)


def extracted(work: Work, parts: tuple[str, ...]) -> Generator[Event, None, dict[str, np.ndarray]]:
    """Features by part: training images in the fastest number format, the others in fp32.

    What is reported is computed in fp32; for what is only learned from, 16 bits do as well.
    """
    total = int(np.isin(work.parts, parts).sum())
    held_out = tuple(part for part in parts if part != "train")
    found: dict[str, np.ndarray] = {}
    before, started, told_at = 0, time.monotonic(), 0.0
    for group, dtype in (
        (("train",), devices.forward_dtype(work.device)),
        (held_out, torch.float32),
    ):
        rows = np.concatenate([work.rows(part) for part in group])
        computing = feature_cache.features(
            work.network, work.dataset, rows.tolist(), work.pictures, work.preprocessing,
            dtype=dtype, device=work.device, threads=work.threads,
        )  # fmt: skip
        for step in computing:
            if isinstance(step, np.ndarray):
                ends = np.cumsum([len(work.rows(part)) for part in group])[:-1]
                found.update(zip(group, np.split(step, ends), strict=True))
            elif time.monotonic() - told_at > loop.SECONDS_BETWEEN_REPORTS:
                told_at = time.monotonic()
                yield counted(work, "features", before + step, total, started)
        before += len(rows)
    work.rates["features"] = total / (time.monotonic() - started)
    yield counted(work, "features", total, total, started)
    return found


def headed(work: Work, found: dict[str, np.ndarray], recipe: Recipe) -> Iterator[Event]:
    """Train a head on features and make it the network's classifier."""
    labels = work.labels_of("train")
    features, labels = balance.synthesized(
        found["train"], labels, work.n_classes, recipe.balance, recipe.seed
    )
    train = solved if recipe.head.kind in FITTED else learned
    head = yield from train(work, recipe, features, labels, found["val"])
    heads.put_on(work.network, head.cpu())


Headed = Generator[Event, None, nn.Module]


def solved(
    work: Work, recipe: Recipe, features: np.ndarray, labels: np.ndarray, held_out: np.ndarray
) -> Headed:
    """A head that is solved for at once: one event tells how good it is."""
    started = time.monotonic()
    yield counted(work, "head", 0, len(features), started)
    rng = np.random.default_rng(recipe.seed)
    chosen = balance.positions(labels, work.n_classes, recipe.balance, rng)
    weights = balance.class_weights(balance.counts_of(labels, work.n_classes), recipe.balance)
    head = heads.solved(recipe, features[chosen], labels[chosen], weights)
    figures, counts = loop.judged(classified(head, held_out), work.labels_of("val"))
    work.rates["head"] = len(features) / max(time.monotonic() - started, 1e-6)
    yield EpochEnded(
        "head", 0, 0, 0, figures, {}, 0.0, time.monotonic() - started, best=True,
        never_predicted=loop.never_predicted(counts),
    )  # fmt: skip
    return head


def learned(
    work: Work, recipe: Recipe, features: np.ndarray, labels: np.ndarray, held_out: np.ndarray
) -> Headed:
    """A head that learns step by step on features N×F and labels N."""
    torch.manual_seed(recipe.seed)
    head = heads.fresh(recipe, features, work.n_classes).to(work.device)
    inputs, classes = torch.from_numpy(features), torch.from_numpy(labels)
    asked = recipe.compute.batch_size
    batch = HEAD_BATCH if asked == "auto" else asked
    held_out_inputs = torch.from_numpy(held_out).to(work.device)

    def steps_of(epoch: int) -> list[np.ndarray]:
        return balance.order(labels, work.n_classes, recipe, batch, epoch)

    def batches(epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for positions in steps_of(epoch)[first:]:
            yield inputs[positions].to(work.device), classes[positions].to(work.device)

    def validate(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            return network(held_out_inputs).cpu().numpy(), work.labels_of("val")

    counts = balance.counts_of(labels, work.n_classes)
    smoothing = recipe.regularization.label_smoothing
    steps = len(steps_of(1))
    epochs = optim.epochs_of(recipe, steps)
    rate = optim.rate_of(recipe, "head")
    task = loop.Task(
        phase="head", recipe=recipe, network=head, hands=optim.Plain(), batches=batches,
        validate=validate, optimizer=optim.build(recipe, rate, [(head.parameters(), 1.0)]),
        schedule=optim.schedule_of(recipe, rate, steps * epochs),
        criterion=balance.loss_of(counts, recipe.balance, smoothing, work.device),
        thaw=lambda epoch: None, mode=head.train, save=lambda state: None,
        steps_per_epoch=steps, images=sum(map(len, steps_of(1))), epochs=epochs,
    )  # fmt: skip
    if recipe.optimizer.learning_rate == "find":
        rate = yield from range_test.find(task, work.stop)
        task.schedule = optim.schedule_of(recipe, rate, steps * epochs)
    yield from run(work, task, loop.State())
    return head
