"""The features of the images that a run scored, in the order of its scores."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from core.errors import NotFound
from core.storage import write_bytes

FILE = "features.safetensors"


def save(features: np.ndarray, path: Path) -> None:
    """Keep features N×F; as float16, which tells neighbors apart as well."""
    from safetensors.numpy import save as packed

    write_bytes(path, packed({"features": features.astype(np.float16)}))


def load(path: Path) -> np.ndarray:
    """The features of a run: N×F float16.

    Raises: NotFound for a run that has none.
    """
    if not path.exists():
        raise NotFound("This run kept no features.", "Train it again to see its neighbors.")
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load(path: Path, written: int) -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(str(path))["features"]
