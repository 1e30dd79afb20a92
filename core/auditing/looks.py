"""What each image looks like, in a few numbers: measured once, kept with the dataset.

Each file is decoded small, in threads; brightness and edges are measured as cleanvision does
(`cleanvision.issue_managers.image_property`). Kept by content, so that a later revision measures
only what it added.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core import machine
from core.data import images
from core.data.dataset import Dataset
from core.data.loader import threaded
from core.errors import ImageRefused
from core.machine import late_pandas as pd
from core.storage import whole_file

SIDE = 128
# Gray levels in small: noise and compression are averaged away, a small thing on a wall is not.
COARSE = 32
BORDER = 0.04
MAKE, MODEL = 0x010F, 0x0110
LONGEST_CAMERA = 60
COLUMNS = (
    "sha256", "readable", "brightest", "darkest", "edges", "span", "color", "border",
    "border_spread", "camera",
)  # fmt: skip
EVERY = 50


def file_of(folder: Path) -> Path:
    """Where the looks of a dataset's images are kept; another name when they mean other things."""
    return folder / "looks-1.parquet"


def measured(dataset: Dataset) -> Generator[int, None, pd.DataFrame]:
    """Looks of all images, one row an image in the table's order; yields how many are measured.

    `brightest` and `darkest` are brightness, 0–1, of the 99th and the 5th percentile; `edges` the
    deviation of the edges, `span` the range of a coarse picture, `color` how far channels differ,
    `border` the mean of the outermost pixels and `border_spread` their deviation, all in gray
    levels, 0–255; `camera` as EXIF says.
    """
    path = file_of(dataset.folder)
    known = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))
    contents = list(dict.fromkeys(dataset.table["sha256"]))
    have = set(known["sha256"])
    missing = [sha256 for sha256 in contents if sha256 not in have]
    rows: list[tuple[Any, ...]] = []
    try:
        for row in threaded(lambda one: look(dataset, one), missing, machine.cores(), 64):
            rows.append(row)
            if len(rows) % EVERY == 0:
                yield len(contents) - len(missing) + len(rows)
    finally:
        # What was measured before a stop need not be measured again.
        known = joined(known, rows)
        if rows:
            with whole_file(path) as file:
                known.to_parquet(file, index=False)
    return known.set_index("sha256").loc[dataset.table["sha256"]].reset_index()


def joined(known: pd.DataFrame, rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """Former looks and new ones."""
    new = pd.DataFrame(rows, columns=list(COLUMNS))
    parts = [one for one in (known, new) if len(one)]
    return pd.concat(parts, ignore_index=True) if parts else new


def look(dataset: Dataset, sha256: str) -> tuple[Any, ...]:
    """The row of one image; one that can no longer be read has nothing to tell."""
    try:
        image = images.opened(dataset.path_of(sha256).read_bytes())
        camera = camera_of(image)
        picture = images.decoded(image, SIDE)
    except (OSError, ImageRefused):
        return (sha256, False, *[np.nan] * 7, "")
    return (sha256, True, *numbers(picture), camera)


def numbers(picture: Image.Image) -> tuple[float, ...]:
    """The seven measures of an RGB picture, as `measured` explains them."""
    from cleanvision.issue_managers import image_property

    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    darkest, brightest = image_property.calc_percentile_brightness(small, [5, 99])
    gray = small.convert("L")
    channels = np.asarray(small, dtype=np.int16)
    apart = channels.max(axis=2) - channels.min(axis=2)
    levels = np.asarray(gray)
    coarse = np.asarray(gray.resize(coarse_size(gray.size), Image.Resampling.BOX), dtype=np.int16)
    edge = outermost(levels)
    # Pillow leaves the outermost pixels of a filtered picture as they were: they are no edges.
    edges = np.asarray(image_property.get_edges(gray))[1:-1, 1:-1]
    return (
        float(brightest), float(darkest), float(edges.std()) if edges.size else 0.0,
        float(coarse.max() - coarse.min()), float(np.percentile(apart, 99)),
        float(edge.mean()), float(edge.std()),
    )  # fmt: skip


def coarse_size(size: tuple[int, int]) -> tuple[int, int]:
    """A size of at most COARSE pixels a side."""
    shrink = max(1.0, max(size) / COARSE)
    return max(1, round(size[0] / shrink)), max(1, round(size[1] / shrink))


def outermost(levels: np.ndarray) -> np.ndarray:
    """The pixels along the four sides of a gray picture H×W, in one row."""
    wide = max(1, round(BORDER * min(levels.shape)))
    inner = np.ones(levels.shape, dtype=bool)
    inner[wide:-wide, wide:-wide] = False
    return levels[inner]


def camera_of(image: Image.Image) -> str:
    """Maker and model of the camera, if EXIF names them; "" else."""
    named: list[str] = []
    with suppress(*images.DECODER_ERRORS):
        tags = image.getexif()
        named = [str(tags.get(tag, "")).strip("\0 ") for tag in (MAKE, MODEL)]
    text = "".join(one for one in " ".join(filter(None, named)) if one.isprintable())
    return text[:LONGEST_CAMERA]
