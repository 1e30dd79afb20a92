"""A backbone's pooled output for every image, computed once and kept.

Kept in `cache/features/<key>/`, the key being weights, preprocessing and number format; each pass
adds one file with the digests and features of the images it computed, so that a killed pass loses
at most one piece, and two runs that compute at once do no harm to each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor, nn

from core.data.augment import Preprocessing, normalized
from core.data.dataset import Dataset
from core.data.loader import Pictures, squares
from core.models import network as networks
from core.models import weights
from core.settings import settings
from core.storage import write_bytes

BATCH = 32
# Images after which computed features are put on the disk.
PIECE = 1024


class FeatureCache:
    """Features by image digest, for one backbone, preprocessing and number format."""

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, dtype: torch.dtype
    ) -> None:
        parts = [
            weights.digest(network, networks.classifier_of(network)),
            preprocessing.to_dict(),
            str(dtype),
            networks_version(),
        ]
        key = sha256(json.dumps(parts).encode()).hexdigest()[:32]
        self.folder: Path = settings().cache / "features" / key
        self.known: dict[str, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self.known.update(read_piece(path))

    def add(self, digests: Sequence[str], values: np.ndarray) -> None:
        """Keep features, N×F float32, of images."""
        self.known.update(zip(digests, values, strict=True))
        names = np.frombuffer("".join(digests).encode(), dtype=np.uint8).reshape(-1, 64)
        content = save({"digests": names, "features": values})
        write_bytes(self.folder / f"{sha256(content).hexdigest()}.safetensors", content)


def networks_version() -> str:
    """What else changes features: the libraries that compute them."""
    import timm

    return f"{timm.__version__} {torch.__version__}"


def read_piece(path: Path) -> dict[str, np.ndarray]:
    """One file of features; one that is not what its name says counts as never written."""
    content = path.read_bytes()
    if sha256(content).hexdigest() != path.stem:
        return {}
    found = load(content)
    names = [row.tobytes().decode() for row in found["digests"]]
    return dict(zip(names, found["features"], strict=True))


def features(
    network: nn.Module,
    dataset: Dataset,
    rows: Sequence[int],
    pictures: Pictures,
    preprocessing: Preprocessing,
    *,
    dtype: torch.dtype,
    device: torch.device,
    threads: int,
) -> Iterator[int | np.ndarray]:
    """Features of the given rows; yields how many are computed, last N×F float32 in their order.

    network: with or without a head, weights as loaded. What is cached is neither decoded nor
    computed again.
    """
    cache = FeatureCache(network, preprocessing, dtype)
    digests = dataset.table["sha256"].to_numpy()
    wanted = {digests[row]: row for row in rows}
    missing = [row for digest, row in wanted.items() if digest not in cache.known]
    if missing:
        fast = networks.frozen(network, device, dtype)
        compute = forward_of(fast, preprocessing, device, dtype)
        done: list[np.ndarray] = []
        start = 0
        for batch in squares(pictures, missing, preprocessing, BATCH, threads):
            done.append(compute(batch))
            end = start + sum(map(len, done))
            if end - start >= PIECE or end == len(missing):
                cache.add([str(digests[row]) for row in missing[start:end]], np.concatenate(done))
                start, done = end, []
            yield end
    yield np.stack([cache.known[digests[row]] for row in rows])


def forward_of(
    network: nn.Module, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], np.ndarray]:
    """A function from uint8 squares, B×3×S×S, to pooled features, B×F float32.

    network: in evaluation mode, on the device, in the number format `dtype`.
    Every batch is computed at the same size, filled up with copies of its last picture: a
    picture's features then do not depend, in their last bits, on how many others came with it.
    """

    def compute(batch: Tensor) -> np.ndarray:
        n = len(batch)
        full = torch.cat([batch, batch[-1:].expand(BATCH - n, -1, -1, -1)])
        inputs = normalized(full.to(device), preprocessing).to(dtype)
        with torch.inference_mode():
            outputs = networks.pooled(network, inputs.contiguous(memory_format=torch.channels_last))
        return np.asarray(outputs[:n].float().cpu().numpy())

    return compute
