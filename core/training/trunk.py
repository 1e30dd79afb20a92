"""What frozen stages put out, computed once for each image: training then starts from there.

Data flow: fitted pictures -> frozen stages -> kept outputs -> the stages that learn.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from core.data.augment import normalized
from core.data.loader import squares
from core.models import device as devices
from core.models import network as networks
from core.models import stages
from core.models.features import BATCH
from core.training.events import Event, Note
from core.training.work import Work, counted

# Of the machine's memory; the training itself needs the rest.
MOST_OF_MEMORY = 0.3


@dataclass
class Kept:
    """The stages that learn, and their inputs for every row of the dataset that has one.

    outputs: of the frozen stages, N×…, training rows in the fastest number format, validation rows
    in fp32. place: where a row stands in the one or the other.
    """

    rest: nn.Module
    train: Tensor
    val: Tensor
    place: np.ndarray
    device: torch.device

    def inputs(self, rows: np.ndarray) -> Tensor:
        """Inputs of the learning stages for training rows: float32."""
        return laid_out(self.train[self.place[rows]].float())

    def logits(self, network: nn.Module, rows: np.ndarray) -> np.ndarray:
        """fp32 logits N×C of validation rows."""
        found = []
        with torch.inference_mode():
            for part in torch.split(self.val[self.place[rows]], BATCH):
                found.append(network(laid_out(part).to(self.device)).float().cpu())
        return np.asarray(torch.cat(found).numpy())


def laid_out(values: Tensor) -> Tensor:
    """Maps with their channels last; tokens as they are."""
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def kept_outputs(work: Work, n_last: int) -> Generator[Event, None, Kept | None]:
    """The outputs of all but the last stages for training and validation images.

    None, with the reason told, where a network cannot be cut there or the memory is too small.
    Nothing that changes from hour to hour decides: a resumed run must come to the same answer.
    """
    n_stages = len(stages.stages(work.network))
    if n_last >= n_stages:
        yield Note(f"This backbone has {n_stages} stages: all of them learn.")
        return None
    halves = stages.split_at(work.network.cpu().eval(), n_last)
    if halves is None:
        yield Note("This backbone cannot be cut between its stages: every epoch passes all of it.")
        return None
    trunk, rest = halves
    rows = {part: work.rows(part) for part in ("train", "val")}
    formats = {"train": devices.forward_dtype(work.device), "val": torch.float32}
    size = work.preprocessing.size
    with torch.inference_mode():
        each = trunk(torch.zeros(1, 3, size, size)).numel()
    needed = sum(each * len(rows[part]) * formats[part].itemsize for part in rows)
    if needed > MOST_OF_MEMORY * psutil.virtual_memory().total:
        yield Note(
            f"What the frozen stages put out would take {needed / 1e9:.1f} GB of memory: every "
            "epoch passes the whole network instead."
        )
        return None
    found: dict[str, Tensor] = {}
    place = np.full(len(work.parts), -1)
    for part, dtype in formats.items():
        found[part] = yield from passed(work, trunk, rows[part], dtype)
        place[rows[part]] = np.arange(len(rows[part]))
    return Kept(rest.to(work.device), found["train"], found["val"], place, work.device)


def passed(
    work: Work, trunk: nn.Module, rows: np.ndarray, dtype: torch.dtype
) -> Generator[Event, None, Tensor]:
    """What frozen stages make of some rows, as it comes: N×…, on the CPU."""
    fast = networks.frozen(trunk, work.device, dtype)
    started, found, done = time.monotonic(), [], 0
    for batch in squares(work.pictures, rows.tolist(), work.preprocessing, BATCH, work.threads):
        inputs = normalized(batch.to(work.device), work.preprocessing).to(dtype)
        with torch.inference_mode():
            found.append(fast(inputs.contiguous(memory_format=torch.channels_last)).cpu())
        done += len(batch)
        yield counted(work, "features", done, len(rows), started)
    return torch.cat(found)
