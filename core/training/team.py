"""Several processes that train one run, each with its share of every batch (torch.distributed).

The first one leads: it alone decides, writes and tells. A team of one does nothing; so that the
loop need not ask how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import MachineRefused

Step = TypeVar("Step")
# Others wait for the leader's features and head, however long those take.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Team:
    """The processes of one run. rank: of this one, 0 leads. control: a group for plain numbers."""

    size: int = 1
    rank: int = 0
    control: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process decides, writes and tells."""
        return self.rank == 0

    def told(self, value: Any) -> Any:
        """What the leader says; every process must ask at the same place."""
        if self.size == 1:
            return value
        from torch import distributed

        box = [value if self.leads else None]
        distributed.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def share_of(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a batch that this process takes: every `size`-th one; may be none."""
        return rows[self.rank :: self.size]

    def gathered(self, own: np.ndarray, total: int) -> np.ndarray:
        """What all processes made of their shares, in the order of the rows, N first."""
        if self.size == 1:
            return own
        from torch import distributed

        pieces: list[Any] = [None] * self.size
        distributed.all_gather_object(pieces, own, group=self.control)
        whole = np.empty((total, *own.shape[1:]), dtype=own.dtype)
        for rank, piece in enumerate(pieces):
            whole[rank :: self.size] = piece
        return whole

    def spread(self, network: nn.Module) -> None:
        """Give everybody the leader's parameters and buffers."""
        if self.size == 1:
            return
        values = self.told({k: v.cpu() for k, v in network.state_dict().items()})
        network.load_state_dict(values)

    def joined(
        self, parameters: Iterable[nn.Parameter], loss: Tensor, ncorrect: Tensor, n: int
    ) -> tuple[Tensor, Tensor, int]:
        """Make every gradient the mean over the images of all shares; so loss, sums of the counts.

        loss: the mean of this share of n images.
        """
        if self.size == 1:
            return loss, ncorrect, n
        from torch import distributed

        learning = [p for p in parameters if p.requires_grad]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in learning if p.grad is not None]
        counts = torch.stack([loss.detach().float() * n, ncorrect.float(), loss.new_tensor(n)])
        flat = torch.cat([*(g.detach().flatten().float() * n for g in gradients), counts])
        distributed.all_reduce(flat)
        total = flat[-1]
        start = 0
        for gradient in gradients:
            end = start + gradient.numel()
            gradient.copy_((flat[start:end] / total).view_as(gradient))
            start = end
        return flat[-3] / total, flat[-2], int(total)

    def after_the_leader(self, steps: Generator[Step, None, None]) -> Generator[Step, None, None]:
        """Steps that leave something on the disk: the leader takes them first, then the others.

        When the leader fails in them, the others end too.
        Raises: Deserted, in the others.
        """
        if self.size == 1:
            yield from steps
            return
        if not self.leads:
            if not self.told(None):
                raise Deserted
            yield from steps
            return
        done = False
        try:
            yield from steps
            done = True
        finally:
            self.told(done)


class Deserted(Exception):
    """The leader has come to an end before there was anything to share."""


ALONE = Team()


def is_team() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def on(device: torch.device) -> tuple[Team, torch.device]:
    """The team of this process and the device of its own; alone, it is as it was.

    Raises: MachineRefused, in every process, where they are more than graphics processors.
    """
    if not is_team():
        return ALONE, device
    from torch import distributed

    if device.type == "cuda":
        device = torch.device("cuda", own_number())
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=PATIENCE)
    control = distributed.new_group(backend="gloo", timeout=PATIENCE)
    return Team(distributed.get_world_size(), distributed.get_rank(), control), device


def own_number() -> int:
    """The number of the graphics processor of this process.

    Raises: MachineRefused where there is none for each of a machine's processes.
    """
    here, there_are = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > there_are:
        raise MachineRefused(
            f"compute.processes asks for {here} processes on this machine, each with a graphics "
            f"processor of its own; there are {there_are} for this run.",
            f"Set compute.processes to {max(1, there_are)}, or compute.device to cpu.",
        )
    return int(os.environ.get("LOCAL_RANK", "0"))


def leave() -> None:
    """Let the others go."""
    from torch import distributed

    if is_team() and distributed.is_initialized():
        distributed.destroy_process_group()


def cores_each(cores: int) -> int:
    """The processor cores of this process, where several share a machine."""
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if is_team() else cores
