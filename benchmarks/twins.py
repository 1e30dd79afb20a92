"""Finding copies among many images, against decoding as many: what the import spends on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import photos
from benchmarks.pairs import Line, drained, in_turns, seconds_of
from core.data import images, twins
from core.data.importing import import_all

IMAGES = 20_000


def varied(grays: np.ndarray, count: int) -> np.ndarray:
    """Signatures of pictures that are like real ones and unlike each other: mixtures of two."""
    rng = np.random.default_rng(0)
    side = grays.shape[1]
    result = np.empty((count, side, side), np.uint8)
    for number in range(count):
        one, other = grays[rng.integers(len(grays), size=2)]
        one, other = (np.roll(g, rng.integers(side, size=2), (0, 1)) for g in (one, other))
        share = rng.uniform(0.2, 0.8)
        result[number] = one * share + other * (1 - share)
    return result


def measured(data: Path, repeat: int) -> Line:
    """Images a second when copies are looked for among 20,000; the files are in memory."""
    with photos.fresh_home():
        dataset = import_all(data)
        files, name = photos.contents(dataset), photos.named(data, dataset)
    grays = np.stack([images.examine(content, "").gray for content in files])
    many, sides = varied(grays, IMAGES), np.full((IMAGES, 2), 400)

    def looked_for() -> float:
        return IMAGES / seconds_of(lambda: drained(twins.near(many, np.arange(IMAGES), sides)))

    def decoded() -> float:
        return len(files) / seconds_of(lambda: photos.decode_all(files))

    reference = "bare scaled decode of the real files (Pillow draft and load, a thread a core)"
    return Line(
        "twins", "images/s", "higher", reference, in_turns(looked_for, decoded, repeat), name
    )
