"""How many images a step may hold: the largest batch that fits the memory of the device."""

from __future__ import annotations

import gc
import math

import psutil
import torch
from torch import Tensor, nn

from core.training.work import Work

SMALLEST, LARGEST = 4, 256
# Fewer steps than this in an epoch, and a tiny dataset hardly learns: the batch is then smaller.
FEWEST_STEPS = 8
# Of the memory that is free now: other programs want some too, and an estimate may be wrong.
MOST_OF_MEMORY = 0.5
PROBED = 2
# What torch says on processors and on Apple's devices, where it has no error of its own for it.
NOT_ENOUGH = ("can't allocate memory", "not enough memory", "MPS backend out of memory")


def size(work: Work, network: nn.Module) -> int:
    """The batch size of a recipe; `auto` is the largest power of 2 that fits and makes sense.

    network: all of it; where stages are frozen, training keeps less than is reckoned with.
    """
    wanted = work.recipe.compute.batch_size
    if wanted != "auto":
        return wanted
    room = MOST_OF_MEMORY * free_memory(work.device)
    fitting = room / max(1.0, bytes_per_image(network, work.preprocessing.size, work.device))
    sensible = len(work.rows("train")) / FEWEST_STEPS
    most = max(SMALLEST, min(LARGEST, fitting, sensible))
    return int(2 ** math.floor(math.log2(most)))


def free_memory(device: torch.device) -> float:
    """Bytes that this process could still take on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def bytes_per_image(network: nn.Module, side: int, device: torch.device) -> float:
    """What a training step keeps for each image until its gradients are known, in bytes.

    Measured: torch tells of every tensor that it saves for the way back. Weights are not counted.
    """
    network.to(device)
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = network.training
    network.eval()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(torch.zeros(PROBED, 3, side, side, device=device))
    network.train(was_training)
    return sum(kept.values()) / PROBED


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough; each device says it in its own way."""
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or any(words in str(error) for words in NOT_ENOUGH)
    )


def forget(device: torch.device) -> None:
    """Give back what a step that did not fit has left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
