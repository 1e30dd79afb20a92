"""In which number format this machine trains faster, measured by a few steps and remembered.

It is measured once for each backbone, size and device and kept in the cache, so that the choice,
and with it the result of a recipe, stays the same.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass

import torch
from torch import nn

from core.machine import name as machine_name
from core.models import device as devices
from core.settings import settings
from core.storage import read_json, write_json

BATCH = 8
STEPS = 3


@dataclass(frozen=True)
class Pace:
    """Images a second of training steps, by number format."""

    training: dict[str, float]

    @property
    def precision(self) -> str:
        """The number format in which training steps are fastest here."""
        return max(self.training, key=self.training.__getitem__)


def measure(network: nn.Module, name: str, size: int, device: torch.device) -> Pace:
    """The pace of a network on a device; measured at most once on one machine."""
    parts = [name, size, str(device), devices.title(device), machine_name(), torch.__version__]
    parts += [torch.get_num_threads(), "training"]
    key = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:24]
    path = settings().cache / "pace" / f"{key}.json"
    if not path.exists():
        write_json(path, asdict(measured(network, size, device)))
    return Pace(**read_json(path))


def measured(network: nn.Module, size: int, device: torch.device) -> Pace:
    """The pace, by a warm-up and a few steps of each kind."""
    inputs = torch.rand(BATCH, 3, size, size, device=device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    trained = frozen_copy(network, device)
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device.type == "mps":
        formats.pop("bf16")

    def step(kind: torch.dtype) -> None:
        trained.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=kind, enabled=kind is not torch.float32):
            loss = trained(inputs).float().square().mean()
        loss.backward()

    training = {key: rate(lambda kind=kind: step(kind), device) for key, kind in formats.items()}  # type: ignore[misc]
    return Pace(training)


def frozen_copy(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy that can be trained on without touching the original."""
    import copy

    trained = copy.deepcopy(network).train().to(device)
    return trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def rate(run: object, device: torch.device) -> float:
    """Images a second of a function that handles one batch."""
    assert callable(run)
    run()
    synchronize(device)
    taken = []
    for _ in range(STEPS):
        started = time.perf_counter()
        run()
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return BATCH / min(taken)  # The least disturbed one.


def synchronize(device: torch.device) -> None:
    """Wait until a graphics processor has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
