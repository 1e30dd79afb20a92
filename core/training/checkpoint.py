"""Where a training stands, on disk: written whole, checked by hash, the former one kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from core.errors import MachineRefused
from core.storage import sha256_of, sync_folder, whole_file

KEPT = 2


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint under a name that holds its order and its hash.

    Raises: MachineRefused when the disk is full; the former checkpoints are then untouched.
    """
    written = folder / "written"
    with whole_file(written) as file:  # At once, not through memory: a soup is several networks.
        try:
            torch.save(state, file)
        except RuntimeError as error:  # So torch says that the disk is full.
            raise MachineRefused(
                f"The checkpoint could not be written: {error}.", "Free some disk space."
            ) from error
    number = max((number_of(path) for path in folder.glob("*.pt")), default=0) + 1
    written.replace(folder / f"{number:08d}-{sha256_of(written)[:32]}.pt")
    sync_folder(folder)
    for path in sorted(folder.glob("*.pt"))[:-KEPT]:
        path.unlink()


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is undamaged, or None."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        if sha256_of(path)[:32] == path.stem.partition("-")[2]:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
    return None


def number_of(path: Path) -> int:
    """A checkpoint's place in their order."""
    return int(path.stem.partition("-")[0])


def clear(folder: Path) -> None:
    """Remove all checkpoints of a run that is over."""
    for path in folder.glob("*.pt"):
        path.unlink()
