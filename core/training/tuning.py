"""Training of the network itself, all of it or its last stages, on augmented pictures.

Data flow: pictures -> (frozen stages, once) -> learning stages -> the best epoch's weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data import loader
from core.data.augment import augmented, fitted, normalized
from core.data.mixing import mixed
from core.models import network as networks
from core.models import stages
from core.models.features import BATCH
from core.schema import Augmentation, Recipe
from core.training import balance, batching, checkpoint, doctor, loop, optim, pace, range_test
from core.training.events import EpochEnded, Event, Note, Progress
from core.training.soup import copied
from core.training.trunk import Kept, kept_outputs
from core.training.work import Work, counted, logits_on

# Below these, own statistics are too noisy for batch norm. Measured on sign-digits (1,443 training
# images, lite0 at 96 px, three epochs): validation accuracy 0.97 with frozen ones, 0.84 with own.
SMALL_BATCH, FEW_IMAGES = 16, 10_000
# Held-out images that show whether augmentation leaves their class as it is.
CHECKED_IMAGES = 64
Saved = dict[str, Any] | None  # a checkpoint


@dataclass
class Source:
    """What learns, and from what.

    network: all of it, or the stages that learn with the classifier. batches(steps, epoch, first):
    its inputs and targets for the steps of an epoch, rows of the dataset, from number `first` on.
    validate: logits and labels of the validation images.
    """

    network: nn.Module
    batches: Callable[[list[np.ndarray], int, int], Iterator[tuple[Tensor, Tensor]]]
    validate: Callable[[nn.Module], tuple[np.ndarray, np.ndarray]]


def tuned(work: Work, saved: Saved) -> Iterator[Event]:
    """Train the network of `work` in place; with `compute.batch_size` auto until it fits."""
    if work.team.told(work.stopped):
        return
    yield from work.team.after_the_leader(decoded(work))
    if saved is None and work.team.leads:
        yield from augmentation_checked(work)
    source = yield from source_of(work)
    before = copied(source.network)
    batch = first = saved["batch"] if saved else work.team.told(batching.size(work, work.network))
    while True:
        try:
            rate = saved["rate"] if saved else rate_of(work.recipe, source.network, batch, first)
            yield from trained(work, source, saved, batch, rate)
            break
        except (RuntimeError, MemoryError) as error:
            if not batching.is_out_of_memory(error):
                raise
            # What a resumed run began from is gone: it can only go on with the batch that it had.
            # Of several processes one alone may have had too little: they cannot go on together.
            together = work.team.size > 1
            if work.recipe.compute.batch_size != "auto" or batch == 1 or saved or together:
                raise
        # Only here, where the error is over, has it let go of what the step was holding.
        batch //= 2
        batching.forget(work.device)
        checkpoint.clear(work.folder / "checkpoint")
        source.network.load_state_dict(before)
        source.network.requires_grad_(True)
        yield Note(f"The memory was not enough; training starts again with batches of {batch}.")
    work.network.load_state_dict(source.network.state_dict(), strict=False)


def source_of(work: Work) -> Generator[Event, None, Source]:
    """Whole pictures; or, where nothing is augmented, what frozen stages make of them, once."""
    recipe = work.recipe
    changed = balance.METHODS[recipe.balance.method].augmented
    still = recipe.technique.name == "last_stages" and recipe.augmentation.does_nothing
    if still and not changed and work.team.size == 1:
        kept = yield from kept_outputs(work, recipe.technique.stages)
        if kept is not None:
            return from_kept(work, kept)
    body = work.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def validate(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        return shared_logits(work, network), work.labels_of("val")

    return Source(body, partial(picture_batches, work), validate)


def from_kept(work: Work, kept: Kept) -> Source:
    """Batches of what the frozen stages put out."""

    def batches(steps: list[np.ndarray], epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in steps[first:]:
            yield (
                kept.inputs(rows).to(work.device),
                torch.from_numpy(work.labels[rows]).to(work.device),
            )

    def validate(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        return kept.logits(network, work.rows("val")), work.labels_of("val")

    return Source(kept.rest, batches, validate)


def trained(work: Work, source: Source, saved: Saved, batch: int, rate: float) -> Iterator[Event]:
    """Train what learns, with batches of a given size, from a checkpoint on if there is one."""
    recipe, rows = work.recipe, work.rows("train")
    watch = pace.watch_of(work, batch, saved)
    hands = optim.accelerator(work.device, watch.precision)
    every = stages.stages(work.network)
    network = source.network.to(work.device)
    # The network is not prepared: its steps have their autocast, and validation is to have none.
    optimizer = hands.prepare(optim.build(recipe, rate, parts_of(recipe, network, every)))
    norms = frozen_norms(network, recipe, batch, len(rows))
    yield from told_of_norms(work, network, norms)
    frozen: list[nn.Module] = []

    def thaw(epoch: int) -> None:
        n_last = stages.learning(recipe, epoch, len(every))
        frozen[:] = thawed(network, every, n_last)

    def mode() -> None:
        network.train()
        for module in (*norms, *frozen):
            module.eval()

    def steps_of(epoch: int) -> list[np.ndarray]:
        labels = work.labels[rows]
        return [rows[step] for step in balance.order(labels, work.n_classes, recipe, batch, epoch)]

    steps = len(steps_of(1))
    epochs = optim.epochs_of(recipe, steps)
    task = loop.Task(
        phase="tune", recipe=recipe, network=network, optimizer=optimizer, hands=hands,
        batches=lambda epoch, first: source.batches(steps_of(epoch), epoch, first),
        schedule=optim.schedule_of(recipe, rate, steps * epochs), validate=source.validate,
        criterion=criterion(work), thaw=thaw, mode=mode, steps_per_epoch=steps,
        images=sum(map(len, steps_of(1))), epochs=epochs,
        team=work.team,
        save=lambda state: None if not work.team.leads else checkpoint.save(
            work.folder / "checkpoint",
            {**state, **watch.saved, "batch": batch, "rate": task.schedule.rate},
        ),
    )  # fmt: skip
    if saved is None and recipe.optimizer.learning_rate == "find":
        thaw(1)
        rate = yield from watch.over(task, range_test.find(task, work.stop))
        task.schedule = optim.schedule_of(recipe, rate, steps * epochs)
    yield from run(work, task, loop.from_checkpoint(task, saved) if saved else loop.State(), watch)


def run(
    work: Work, task: loop.Task, state: loop.State, watch: pace.Watch | None = None
) -> Iterator[Event]:
    """Train until the end or until asked to stop; the best epoch's weights are then in place.

    watch: sees to it that the steps are as fast as they can be.
    """
    started, images = time.monotonic(), 0
    for event in loop.train(task, state):
        yield event
        if isinstance(event, Progress):
            images += len(event.steps) * task.images // task.steps_per_epoch
            yield from watch.look(task, state, event) if watch else ()
        # Notes are told by one process alone; at these all processes meet.
        if isinstance(event, Progress | EpochEnded) and task.team.told(work.stop()):
            work.stopped = True
            break
    work.rates[task.phase] = images / max(time.monotonic() - started, 1e-6)
    work.best_epoch, work.epochs = state.best_epoch, state.epoch
    if task.recipe.finish.soup:
        yield from loop.souped(task, state)
    task.network.load_state_dict(state.best_weights)


def shared_logits(work: Work, network: nn.Module) -> np.ndarray:
    """Logits N×C of the validation images, each process seeing its share."""
    rows = work.rows("val")
    own = work.team.share_of(rows)
    batches = loader.squares(work.pictures, own.tolist(), work.preprocessing, BATCH, work.threads)
    found = logits_on(work, network, batches) if len(own) else np.zeros((0, work.n_classes), "f4")
    return work.team.gathered(found, len(rows))


def told_of_norms(work: Work, network: nn.Module, frozen: Sequence[nn.Module]) -> Iterator[Event]:
    """That batch norms with own statistics see the share of one process, where they do."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    own = any(isinstance(m, kinds) and m not in frozen for m in network.modules())
    if own and work.team.size > 1 and work.team.leads:
        yield Note(
            "Batch norm sees the share of one process alone, one of "
            f"{work.team.size} of each batch: the figures differ a little from those of one "
            "process. Set technique.freeze_batch_norm to true, and head.batch_norm to false.",
            "warning",
        )


def rate_of(recipe: Recipe, network: nn.Module, batch: int, first: int) -> float:
    """The learning rate of a recipe; it follows the batch size where that was left to us.

    first: the batch size tried first; a rate that the user names is meant for that one.
    """
    rate = optim.rate_of(recipe, optim.kind_of_rate(recipe, network))
    if recipe.compute.batch_size != "auto":
        return rate
    named = not isinstance(recipe.optimizer.learning_rate, str)
    usual = first if named else optim.USUAL_BATCH / recipe.compute.accumulate
    return optim.scaled(rate, recipe.optimizer.name, batch / usual)


def parts_of(recipe: Recipe, network: nn.Module, every: Sequence[stages.Stage]) -> list[optim.Part]:
    """Each stage with its share of the rate, the earliest the slowest, and the classifier.

    network: may lack the first stages.
    """
    decay = optim.layer_decay_of(recipe)
    named = dict(network.named_parameters())
    faster = recipe.optimizer.head_multiplier if recipe.is_pretrained else 1.0
    slower = [decay ** (len(every) - 1 - number) for number in range(len(every))]
    return [
        *(
            ([named[name] for name in stage.parameters if name in named], scale)
            for stage, scale in zip(every, slower, strict=True)
        ),
        (list(networks.classifier_of(network).parameters()), faster),
    ]


def thawed(network: nn.Module, every: Sequence[stages.Stage], n_last: int) -> list[nn.Module]:
    """Let the last stages learn, and the classifier; the modules of the others."""
    still = every[: max(0, len(every) - n_last)]
    names = {name for stage in still for name in stage.parameters}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in names)
    return stages.parts_of(network, still)


def criterion(work: Work) -> nn.Module:
    """What is made small."""
    counts = balance.counts_of(work.labels_of("train"), work.n_classes)
    smoothing = work.recipe.regularization.label_smoothing
    return balance.loss_of(counts, work.recipe.balance, smoothing, work.device)


def picture_batches(
    work: Work, steps: list[np.ndarray], epoch: int, first: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented, normalized, blended batches of training images."""
    recipe = work.recipe
    # What blends images needs the whole batch before it is shared.
    blends = work.team.size > 1 and bool(recipe.augmentation.mixup or recipe.augmentation.cutmix)
    if not blends:
        steps = [work.team.share_of(rows) for rows in steps]
    changes = balance.changes(
        recipe.augmentation, work.labels_of("train"), work.n_classes, recipe.balance
    )
    pictures = loader.augmented_batches(
        work.pictures, work.preprocessing,
        lambda row, turn: changes(int(work.labels[row]), row + epoch, turn),
        steps, (recipe.seed, epoch), work.threads, first,
    )  # fmt: skip
    for number, (rows, pixels) in enumerate(zip(steps[first:], pictures, strict=True), first):
        inputs = normalized(pixels.to(work.device), work.preprocessing)
        labels = torch.from_numpy(work.labels[rows]).to(work.device)
        rng = np.random.default_rng([recipe.seed, epoch, number])
        inputs, targets = mixed(inputs, labels, work.n_classes, recipe.augmentation, rng)
        if blends:
            own = slice(work.team.rank, None, work.team.size)
            inputs, targets = inputs[own], targets[own]
        yield inputs.contiguous(memory_format=torch.channels_last), targets


def decoded(work: Work) -> Generator[Event, None, None]:
    """Decode every image once; `work.pictures` then reads the result."""
    total, started = len(work.parts), time.monotonic()
    told_at = 0.0
    for step in loader.decoded(work.dataset, work.preprocessing, work.threads):
        if not isinstance(step, int):
            work.pictures = step
        elif time.monotonic() - told_at > loop.SECONDS_BETWEEN_REPORTS:
            told_at = time.monotonic()
            yield counted(work, "decode", step, total, started)


def augmentation_checked(work: Work) -> Iterator[Event]:
    """Say so if the probe no longer knows images once they are augmented."""
    recipe, rows = work.recipe, work.rows("val")[:: max(1, len(work.rows("val")) // CHECKED_IMAGES)]
    if not recipe.is_pretrained or recipe.augmentation.does_nothing:
        return
    network = work.network.to(work.device).eval()
    shares = []
    for settings in (None, recipe.augmentation):
        squares = [version(work, int(row), settings) for row in rows]
        batches = torch.split(torch.stack(squares), BATCH)
        predicted = logits_on(work, network, batches).argmax(axis=1)
        shares.append(float((predicted == work.labels[rows]).mean()))
    note = doctor.augmentation_note(shares[0], shares[1], len(rows), recipe)
    if note:
        yield note


def version(work: Work, row: int, settings: Augmentation | None) -> Tensor:
    """A picture as it is, or one random version of it: uint8 3×S×S."""
    if settings is None:
        return fitted(work.pictures(row), work.preprocessing)
    rng = np.random.default_rng([work.recipe.seed, row])
    return augmented(work.pictures(row), settings, work.preprocessing, rng)


def frozen_norms(network: nn.Module, recipe: Recipe, batch: int, n_images: int) -> list[nn.Module]:
    """The batch norms whose statistics stay as pretrained; scale and shift learn all the same."""
    wanted = recipe.technique.freeze_batch_norm
    few = batch < SMALL_BATCH or n_images < FEW_IMAGES
    # One image has no statistics of its own.
    alone = batch == 1
    if not (alone or (recipe.is_pretrained and few if wanted == "auto" else wanted)):
        return []
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
