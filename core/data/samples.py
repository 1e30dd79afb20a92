"""The sample that comes with Headstart: real handwritten digits, no network needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from core.data.importing import Imported, import_images

NAME = "Sample: handwritten digits"
# The 8×8 scans fill their frame; a margin keeps the middle crop of a backbone from cutting them.
ENLARGED, MARGIN = 4, 4


def write_digits(folder: Path) -> None:
    """scikit-learn's 1,797 digits (Alpaydin and Kaynak 1998) as PNGs, one folder a digit."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(exist_ok=True)
        image = Image.fromarray((pixels * (255 / 16)).round().astype("uint8"))
        scan = image.resize((8 * ENLARGED, 8 * ENLARGED), Image.Resampling.NEAREST)
        ImageOps.expand(scan, MARGIN, fill=0).save(path)


def import_sample() -> Iterator[Imported]:
    """Import the sample; yields how far it is, last the dataset."""
    with tempfile.TemporaryDirectory() as name:
        write_digits(Path(name))
        yield from import_images(Path(name), NAME)
