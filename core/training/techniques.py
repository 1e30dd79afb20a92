"""The techniques of transfer learning, and the steps that they are made of.

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

from core.data import loader, split
from core.data.augment import normalized
from core.models import device as devices
from core.models import features as feature_cache
from core.models import heads
from core.models import network as networks
from core.schema import Recipe
from core.training import checkpoint, loop, optim, pace
from core.training.events import Event, Progress
from core.training.work import Work, counted, logits_of

# The probe that fine-tuning starts from; the same as `--preset quick`.
PROBE_EPOCHS, PROBE_BATCH = 40, 64
# Below these, own statistics are too noisy for batch norm. Measured on sign-digits (1,443 training
# images, lite0 at 96 px, three epochs): validation accuracy 0.97 with frozen ones, 0.84 with own.
SMALL_BATCH, FEW_IMAGES = 16, 10_000
PROBE_RATE = optim.RATES["adamw"]["feature_extraction"]


@dataclass(frozen=True)
class Trained:
    """What the training phases hand on: a network with its head, or features with theirs."""

    network: nn.Module
    features: dict[str, np.ndarray] | None  # by part, where the backbone stayed frozen


Saved = dict[str, Any] | None  # a checkpoint
Steps = Generator[Event, None, Trained]


def feature_extraction(work: Work, saved: Saved) -> Steps:
    """Frozen backbone, features once, a head on them."""
    found = yield from extracted(work, split.PARTS)
    yield from probed(work, found, work.recipe.schedule.epochs, work.recipe.compute.batch_size)
    return Trained(work.network, found)


def finetune(work: Work, saved: Saved) -> Steps:
    """A linear probe's head first, then all layers (LP-FT, Kumar et al. 2022)."""
    if saved is None:
        found = yield from extracted(work, ("train", "val"))
        yield from probed(work, found, PROBE_EPOCHS, PROBE_BATCH)
    yield from tuned(work, saved, work.recipe.optimizer.head_multiplier)
    return Trained(work.network, None)


def from_scratch(work: Work, saved: Saved) -> Steps:
    """No head start: random weights, everything learns at one rate."""
    yield from tuned(work, saved, 1.0)
    return Trained(work.network, None)


TECHNIQUES: dict[str, Callable[[Work, Saved], Steps]] = {
    "feature_extraction": feature_extraction,
    "finetune": finetune,
    "from_scratch": from_scratch,
}


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


def probed(work: Work, found: dict[str, np.ndarray], epochs: int, batch: int) -> Iterator[Event]:
    """Train a head on features and make it the network's classifier."""
    recipe = work.recipe
    torch.manual_seed(recipe.seed)
    head = heads.HEADS[recipe.head.kind](
        found["train"], len(work.dataset.classes), recipe.regularization.dropout
    ).to(work.device)
    inputs, labels = (
        torch.from_numpy(found["train"]),
        torch.from_numpy(work.labels[work.rows("train")]),
    )
    held_out = torch.from_numpy(found["val"]).to(work.device)
    own = recipe.technique.name == "feature_extraction"
    rate = optim.rate_of(recipe, "feature_extraction") if own else PROBE_RATE

    def batches(epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for positions in loader.training_order(len(inputs), batch, recipe.seed, epoch)[first:]:
            yield inputs[positions].to(work.device), labels[positions].to(work.device)

    def validate() -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            return head(held_out).cpu().numpy(), work.labels[work.rows("val")]

    steps = len(loader.training_order(len(inputs), batch, recipe.seed, 1))
    task = loop.Task(
        phase="head", network=head, hands=optim.Plain(), batches=batches, validate=validate,
        optimizer=optim.build(recipe, rate, None, head, 1.0),
        schedule=optim.schedule_of(recipe, rate, steps * epochs),
        criterion=criterion(recipe), mode=head.train, save=lambda state: None,
        steps_per_epoch=steps, images=len(inputs), epochs=epochs,
        patience=recipe.stopping.patience if own else 0, metric=recipe.stopping.metric,
        clip=recipe.optimizer.clip, seed=recipe.seed,
    )  # fmt: skip
    yield from run(work, task, loop.State())
    heads.put_on(work.network, head.cpu().as_linear())


def run(work: Work, task: loop.Task, state: loop.State) -> Iterator[Event]:
    """Train until the end or until asked to stop; the best epoch's weights are then in place."""
    started, images = time.monotonic(), 0
    for event in loop.train(task, state):
        yield event
        if isinstance(event, Progress):
            images += sum(1 for _ in event.steps) * task.images // task.steps_per_epoch
        if work.stop():
            work.stopped = True
            break
    work.rates[task.phase] = images / max(time.monotonic() - started, 1e-6)
    work.best_epoch, work.epochs = state.best_epoch, state.epoch
    task.network.load_state_dict(state.best_weights)


def criterion(recipe: Recipe) -> nn.Module:
    """What is made small: cross-entropy, with some doubt about the labels if the recipe says so."""
    return nn.CrossEntropyLoss(label_smoothing=recipe.regularization.label_smoothing)


def tuned(work: Work, saved: Saved, head_scale: float) -> Iterator[Event]:
    """Train the whole network on augmented pictures, decoded once."""
    if work.stopped:
        return
    yield from decoded(work)
    recipe, batch = work.recipe, work.recipe.compute.batch_size
    precision = saved["precision"] if saved else precision_of(work)
    hands = optim.accelerator(work.device, precision)
    body = work.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rate = optim.rate_of(recipe, recipe.technique.name)
    head = networks.classifier_of(body)
    network, optimizer = hands.prepare(body, optim.build(recipe, rate, body, head, head_scale))
    rows = work.rows("train")
    steps = len(loader.training_order(len(rows), batch, recipe.seed, 1))
    batches = picture_batches(work, rows, batch)
    norms = frozen_norms(network, recipe, len(rows))

    def mode() -> None:
        network.train()
        for norm in norms:
            norm.eval()

    task = loop.Task(
        phase="tune", network=network, optimizer=optimizer, hands=hands, batches=batches,
        schedule=optim.schedule_of(recipe, rate, steps * recipe.schedule.epochs),
        validate=lambda: (logits_of(work, network, "val"), work.labels[work.rows("val")]),
        criterion=criterion(recipe), mode=mode, steps_per_epoch=steps, images=len(rows),
        save=lambda state: checkpoint.save(
            work.folder / "checkpoint", {**state, "precision": precision}
        ),
        epochs=recipe.schedule.epochs, patience=recipe.stopping.patience,
        metric=recipe.stopping.metric, clip=recipe.optimizer.clip, seed=recipe.seed,
    )  # fmt: skip
    state = loop.from_checkpoint(task, saved) if saved else loop.State()
    yield from run(work, task, state)
    work.network = hands.unwrap_model(network, keep_fp32_wrapper=False)


def picture_batches(work: Work, rows: np.ndarray, batch: int) -> loop.Batches:
    """Augmented, normalized batches of the training images."""
    recipe, labels = work.recipe, torch.from_numpy(work.labels[rows])

    def batches(epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = loader.training_order(len(rows), batch, recipe.seed, epoch)[first:]
        pictures = loader.augmented_batches(
            work.pictures, rows, work.preprocessing, recipe.augmentation, order,
            (recipe.seed, epoch), work.threads,
        )  # fmt: skip
        for positions, pixels in zip(order, pictures, strict=True):
            inputs = normalized(pixels.to(work.device), work.preprocessing)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield inputs, labels[positions].to(work.device)

    return batches


def decoded(work: Work) -> Iterator[Event]:
    """Decode every image once; `work.pictures` then reads the result."""
    total, started = len(work.parts), time.monotonic()
    told_at = 0.0
    for step in loader.decoded(work.dataset, work.preprocessing, work.threads):
        if not isinstance(step, int):
            work.pictures = step
        elif time.monotonic() - told_at > loop.SECONDS_BETWEEN_REPORTS:
            told_at = time.monotonic()
            yield counted(work, "decode", step, total, started)


def precision_of(work: Work) -> str:
    """The number format of training steps: as the recipe says, else the faster one here."""
    wanted = work.recipe.compute.precision
    if wanted != "auto":
        return wanted
    return pace.measure(
        work.network, work.recipe.backbone.name, work.preprocessing.size, work.device
    ).precision


def frozen_norms(network: nn.Module, recipe: Recipe, n_images: int) -> list[nn.Module]:
    """The batch norms whose statistics stay as pretrained; scale and shift learn all the same."""
    wanted = recipe.technique.freeze_batch_norm
    few = recipe.compute.batch_size < SMALL_BATCH or n_images < FEW_IMAGES
    pretrained = recipe.technique.name != "from_scratch"
    # One image has no statistics of its own.
    alone = recipe.compute.batch_size == 1
    if not (alone or (pretrained and few if wanted == "auto" else wanted)):
        return []
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
