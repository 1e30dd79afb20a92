"""Where a training stands, on disk: written whole, checked by hash, the former one kept."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from core.storage import write_bytes

KEPT = 2


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint under a name that holds its order and its hash.

    Raises: MachineRefused when the disk is full; the former checkpoints are then untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    number = max((number_of(path) for path in folder.glob("*.pt")), default=0) + 1
    write_bytes(folder / f"{number:08d}-{hashlib.sha256(content).hexdigest()[:32]}.pt", content)
    for path in sorted(folder.glob("*.pt"))[:-KEPT]:
        path.unlink()


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is undamaged, or None."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:32] == path.stem.partition("-")[2]:
            state: dict[str, Any] = torch.load(
                io.BytesIO(content), map_location="cpu", weights_only=True
            )
            return state
    return None


def number_of(path: Path) -> int:
    """A checkpoint's place in their order."""
    return int(path.stem.partition("-")[0])


def clear(folder: Path) -> None:
    """Remove all checkpoints of a run that is over."""
    for path in folder.glob("*.pt"):
        path.unlink()
