"""One training from its recipe to its classifier, as a generator of events.

Data flow: dataset -> split -> pictures -> features -> head [-> network] -> best epoch -> scores,
classifier. The techniques differ only in which of these steps they take; see `TECHNIQUES`.
"""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import machine
from core.data import loader, split
from core.data.augment import Preprocessing, normalized
from core.data.dataset import Dataset
from core.errors import HeadstartError
from core.evaluation import metrics
from core.evaluation import scores as scoring
from core.evaluation.calibration import temperature
from core.evaluation.scores import Scores
from core.models import classifier as classifiers
from core.models import device as devices
from core.models import features as feature_cache
from core.models import heads
from core.models import network as networks
from core.models.classifier import Classifier
from core.recipe import Recipe
from core.training import checkpoint, loop, optim, pace
from core.training.events import Ended, Event, Progress, Started

# The probe that fine-tuning starts from; the same as `--preset quick`.
PROBE_EPOCHS, PROBE_BATCH = 40, 64
# Below these, own statistics are too noisy for batch norm. Measured on sign-digits (1,443 training
# images, lite0 at 96 px, three epochs): validation accuracy 0.97 with frozen ones, 0.84 with own.
SMALL_BATCH, FEW_IMAGES = 16, 10_000


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

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of one part of the dataset."""
        return np.nonzero(self.parts == part)[0]


def fit(
    dataset: Dataset, recipe: Recipe, folder: Path, stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """Train; the last event is always Ended.

    folder: of the run; checkpoint, model and predictions go there, and a checkpoint that lies
    there is gone on from. stop: asked between steps; when it says yes, the best epoch so far is
    scored and kept. To stop iterating ends at once, with nothing scored.
    """
    try:
        work = prepare(dataset, recipe, folder, stop)
        saved = checkpoint.load(folder / "checkpoint")
        yield told(work, resumed=saved is not None)
        trained = yield from TECHNIQUES[recipe.technique.name](work, saved)
        yield from finished(work, trained)
    except NothingYet:
        yield Ended("stopped")
    except HeadstartError as error:
        yield Ended("failed", what=error.what, remedy=error.remedy)
    except (torch.OutOfMemoryError, MemoryError):
        yield Ended("failed", what=OUT_OF_MEMORY, remedy=LESS_MEMORY)


class NothingYet(Exception):
    """The run was stopped before there was any epoch to keep."""


OUT_OF_MEMORY = "The memory was not enough for this recipe."
LESS_MEMORY = "Halve compute.batch_size, or choose a smaller image.size or backbone."


def prepare(
    dataset: Dataset, recipe: Recipe, folder: Path, stop: Callable[[], bool]
) -> Work:
    """Resolve what the recipe leaves to the machine.

    Raises: DatasetRefused, RecipeRefused, WeightsMissing, MachineRefused.
    """
    device = devices.resolve(recipe.compute.device)
    workers = recipe.compute.workers
    threads = machine.cores() if workers == "auto" else int(workers)
    torch.set_num_threads(machine.cores())
    parts = split.split(dataset, recipe.data.split, recipe.seed)
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
        threads=max(1, threads),
        started=time.monotonic(),
        pictures=loader.from_files(dataset, preprocessing),
    )


def told(work: Work, *, resumed: bool) -> Started:
    """The event that opens a run."""
    import timm

    return Started(
        dataset=work.dataset.digest,
        images={part: int((work.parts == part).sum()) for part in split.PARTS},
        classes=len(work.dataset.classes),
        device=devices.title(work.device),
        precision=work.recipe.compute.precision,
        machine=machine.name(),
        versions={
            "python": platform.python_version(), "torch": torch.__version__,
            "timm": timm.__version__,
        },
        epochs=work.recipe.schedule.epochs,
        resumed=resumed,
    )  # fmt: skip


# --- the steps -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """What the training phases hand on: a network with its head, or features with theirs."""

    network: nn.Module
    features: dict[str, np.ndarray] | None  # by part, where the backbone stayed frozen


def feature_extraction(work: Work, saved: dict[str, Any] | None) -> Iterator[Event]:
    """Frozen backbone, features once, a head on them."""
    found = yield from extracted(work, split.PARTS)
    yield from probed(work, found, work.recipe.schedule.epochs, work.recipe.compute.batch_size)
    return Trained(work.network, found)


def finetune(work: Work, saved: dict[str, Any] | None) -> Iterator[Event]:
    """A linear probe's head first, then all layers (LP-FT, Kumar et al. 2022)."""
    if saved is None:
        found = yield from extracted(work, ("train", "val"))
        yield from probed(work, found, PROBE_EPOCHS, PROBE_BATCH)
    yield from tuned(work, saved, work.recipe.optimizer.head_multiplier)
    return Trained(work.network, None)


def from_scratch(work: Work, saved: dict[str, Any] | None) -> Iterator[Event]:
    """No head start: random weights, everything learns at one rate."""
    yield from tuned(work, saved, 1.0)
    return Trained(work.network, None)


Technique = Callable[[Work, "dict[str, Any] | None"], Any]
TECHNIQUES: dict[str, Technique] = {
    "feature_extraction": feature_extraction,
    "finetune": finetune,
    "from_scratch": from_scratch,
}


def extracted(work: Work, parts: tuple[str, ...]) -> Any:
    """Features by part: training images in the fastest number format, the others in fp32.

    What is reported is computed in fp32; for what is only learned from, 16 bits do as well.
    """
    total = int(np.isin(work.parts, parts).sum())
    found: dict[str, np.ndarray] = {}
    before, started, told_at = 0, time.monotonic(), 0.0
    for part in parts:
        fast = devices.forward_dtype(work.device)
        dtype = fast if part == "train" else torch.float32
        rows = work.rows(part).tolist()
        computing = feature_cache.features(
            work.network, work.dataset, rows, work.pictures, work.preprocessing,
            dtype=dtype, device=work.device, threads=work.threads,
        )  # fmt: skip
        for step in computing if rows else ():
            if isinstance(step, np.ndarray):
                found[part] = step
            elif time.monotonic() - told_at > loop.SECONDS_BETWEEN_REPORTS:
                told_at = time.monotonic()
                yield counted(work, "features", before + step, total, started)
        before += len(rows)
    work.rates["features"] = total / (time.monotonic() - started)
    yield counted(work, "features", total, total, started)
    return found


def counted(work: Work, phase: str, done: int, total: int, started: float) -> Progress:
    """How far a phase without epochs has come.

    Raises: NothingYet when the run was asked to stop and there is nothing to keep.
    """
    if phase != "finish" and work.stop():
        raise NothingYet
    rate = done / max(time.monotonic() - started, 1e-6)
    return Progress(phase, done, total, rate, machine.memory_mb())


def probed(work: Work, found: dict[str, np.ndarray], epochs: int, batch: int) -> Iterator[Event]:
    """Train a head on features and make it the network's classifier."""
    recipe = work.recipe
    torch.manual_seed(recipe.seed)
    head = heads.HEADS[recipe.head.kind](
        found["train"], len(work.dataset.classes), recipe.regularization.dropout
    ).to(work.device)
    inputs, labels = torch.from_numpy(found["train"]), torch.from_numpy(work.labels[work.rows("train")])
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


PROBE_RATE = optim.RATES["adamw"]["feature_extraction"]


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


def tuned(work: Work, saved: dict[str, Any] | None, head_scale: float) -> Iterator[Event]:
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
    """The batch norms whose statistics stay as pretrained; they learn scale and shift all the same."""
    wanted = recipe.technique.freeze_batch_norm
    few = recipe.compute.batch_size < SMALL_BATCH or n_images < FEW_IMAGES
    pretrained = recipe.technique.name != "from_scratch"
    if not (pretrained and few if wanted == "auto" else wanted):
        return []
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def logits_of(work: Work, network: nn.Module, part: str) -> np.ndarray:
    """fp32 logits, N×C, of one part, by a fast copy of the network as it is now."""
    plain = copy.deepcopy(network).eval()
    plain.__dict__.pop("forward", None)  # accelerate wraps forward in its number format.
    forward = feature_cache.frozen_forward(plain, work.preprocessing, work.device, torch.float32)
    rows = work.rows(part).tolist()
    batches = loader.squares(
        work.pictures, rows, work.preprocessing, feature_cache.BATCH, work.threads
    )
    return classified(networks.classifier_of(plain), np.concatenate([forward(b) for b in batches]))


def classified(head: nn.Module, values: np.ndarray) -> np.ndarray:
    """Logits N×C of features N×F, in fp32 on the CPU."""
    with torch.inference_mode():
        return np.asarray(head.cpu().float()(torch.from_numpy(values)).numpy())


# --- the end ---------------------------------------------------------------------------------


def finished(work: Work, trained: Trained) -> Iterator[Event]:
    """Score the best epoch on every part, calibrate it, write it down, and tell the figures."""
    total, started = len(work.parts), time.monotonic()
    yield counted(work, "finish", 0, total, started)
    network = trained.network.cpu().eval()
    logits: dict[str, np.ndarray] = {}
    for part in split.PARTS:
        if not len(work.rows(part)):
            continue
        if trained.features is not None:
            logits[part] = classified(networks.classifier_of(network), trained.features[part])
        else:
            logits[part] = logits_of(work, network, part)
        yield counted(work, "finish", sum(map(len, logits.values())), total, started)
    truth = {part: work.labels[work.rows(part)] for part in logits}
    found = temperature(logits["val"], truth["val"]) if work.recipe.finish.calibrate else 1.0
    names = work.dataset.table["name"].to_numpy(dtype=object)
    parts = [
        Scores(
            scoring.softmax(logits[part], found), truth[part], names[work.rows(part)],
            np.full(len(truth[part]), part, dtype=object),
        )
        for part in logits
    ]  # fmt: skip
    plain = copy.deepcopy(network)
    plain.__dict__.pop("forward", None)
    model = Classifier(
        plain, work.preprocessing, work.dataset.classes, found, work.recipe.backbone.name
    )
    extra = {"dataset": work.dataset.digest, "revision": work.dataset.revision}
    classifiers.save(model, work.folder / "model", extra)
    scoring.save(scoring.joined(parts), work.folder / "predictions.parquet")
    if not work.stopped:  # A run that was stopped may be gone on with.
        checkpoint.clear(work.folder / "checkpoint")
    yield Ended("stopped" if work.stopped else "finished", result=figures(work, parts, found))


def figures(work: Work, parts: list[Scores], found: float) -> dict[str, Any]:
    """The figures of a run as its last event keeps them."""
    summaries = {str(part.split[0]): metrics.summary(part) for part in parts}
    return {
        "train": summaries.get("train", {"n": 0}),
        "val": summaries.get("val", {"n": 0}),
        "test": summaries.get("test", {"n": 0}),
        "best_epoch": work.best_epoch,
        "epochs": work.epochs,
        "temperature": found,
        "seconds": round(time.monotonic() - work.started, 3),
        "peak_memory_mb": round(machine.peak_memory_mb(), 1),
        "images_per_second": round(list(work.rates.values())[-1], 1),
        "rates": {phase: round(rate, 1) for phase, rate in work.rates.items()},
    }
