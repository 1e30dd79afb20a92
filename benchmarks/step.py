"""Fine-tuning as a run does it, against the same steps on one batch that is ready in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import photos
from benchmarks.pairs import Line, Pair, drained, seconds_of
from core import machine
from core.data.importing import import_all
from core.recipe import changed, preset

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from core.training.work import Work

REFERENCE = (
    "the same training steps (network, optimizer, clipping, number format, batch sizes) on a "
    "normalized batch that is ready in memory"
)
FORMATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def measured(data: Path, repeat: int) -> Line:
    """Images a second in the epochs of `--preset balanced`, the first left out as a warm-up.

    As in a run, loading, augmentation and reports are in it, and validation and checkpoints are
    not: an epoch's event counts the seconds of its steps.
    """
    machine.keep_heap()
    from core.training import tuning
    from core.training.work import prepare

    with photos.fresh_home() as home:
        dataset = import_all(data)
        values = {"schedule": {"epochs": repeat + 1}, "stopping": {"patience": 0}}
        recipe = changed(preset("balanced"), values)
        work = prepare(dataset, recipe, home / "run", lambda: False)
        drained(tuning.decoded(work))
        precision = tuning.precision_of(work)
        pairs = paired(work, precision)
        facts = {"precision": precision, "batch_size": recipe.compute.batch_size}
        name = f"{photos.named(data, dataset)}, {len(work.rows('train'))} of them for training"
        del work  # Windows removes no file that is still mapped.
    return Line("step", "images/s", "higher", REFERENCE, pairs, name, facts)


def paired(work: Work, precision: str) -> list[Pair]:
    """The rate of each epoch, and of the same steps on a ready batch right after it."""
    from core.data.loader import training_order
    from core.training import tuning
    from core.training.events import EpochEnded

    recipe, n = work.recipe, len(work.rows("train"))
    sizes = [len(b) for b in training_order(n, batch_of(work), recipe.seed, 1)]
    step = bare_step(work, precision)
    pairs = []
    for event in tuning.tuned(work, None):
        if isinstance(event, EpochEnded) and event.epoch > 0:
            bare = seconds_of(lambda: steps_of(step, sizes))
            pairs.append((n / event.seconds, n / bare))
    return pairs[1:]


def steps_of(step: Callable[[int], Tensor], sizes: Sequence[int]) -> None:
    """Steps of the given numbers of images; the last loss is waited for."""
    for size in sizes:
        loss = step(size)
    loss.item()


def bare_step(work: Work, precision: str) -> Callable[[int], Tensor]:
    """A training step of so many images of a fixed batch, on a network of its own: its loss."""
    import torch

    kind, clip = getattr(torch, FORMATS[precision]), work.recipe.optimizer.clip
    network, optimizer = twin(work)
    inputs, labels = ready_batch(work)

    def step(size: int) -> torch.Tensor:
        with torch.autocast(work.device.type, kind, enabled=kind is not torch.float32):
            logits = network(inputs[:size])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:size])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        return loss.detach()

    return step


def twin(work: Work) -> tuple[nn.Module, Optimizer]:
    """The same network and optimizer once more, in training mode as fine-tuning wants it."""
    import torch

    from core.models import stages
    from core.training import optim, tuning

    recipe = work.recipe
    network = copy.deepcopy(work.network).train().to(work.device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = batch_of(work)
    for norm in tuning.frozen_norms(network, recipe, batch, len(work.rows("train"))):
        norm.eval()
    rate = tuning.rate_of(recipe, network, batch, batch)
    return network, optim.build(
        recipe, rate, tuning.parts_of(recipe, network, stages.stages(network))
    )


def ready_batch(work: Work) -> tuple[Tensor, Tensor]:
    """The first batch of training images, normalized, channels last, with its labels."""
    from core.training import tuning

    rows = work.rows("train")[: batch_of(work)]
    # Let go of at once, or its threads would read on.
    return next(tuning.picture_batches(work, [rows], 1, 0))


def batch_of(work: Work) -> int:
    """Images in a step, as this recipe says or as the machine allows."""
    from core.training import batching

    return batching.size(work, work.network)
