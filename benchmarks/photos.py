"""The images that are measured on, a home of their own for each run, and the bare decode."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from PIL import Image

from core.data.dataset import Dataset

ROOT = Path(__file__).resolve().parent.parent
ZIP = "hymenoptera.zip"
# The shorter side that decoding aims at: what an import and the default backbone ask for.
SHORT_SIDE = 256


def default(folder: Path) -> Path:
    """The photos of ants and bees if they are on this machine; else digits, packed in `folder`."""
    return on_this_machine(ZIP) or digits_zip(folder)


def on_this_machine(name: str) -> Path | None:
    """A zip of real photos, where one lies beside the repository or where the tests look."""
    places = [ROOT.parent / "shared" / "data" / name]
    if "HEADSTART_TEST_DATA" in os.environ:
        places.insert(0, Path(os.environ["HEADSTART_TEST_DATA"]) / "data" / name)
    return next((place for place in places if place.is_file()), None)


def digits_zip(folder: Path) -> Path:
    """A zip of scikit-learn's 1,797 handwritten digits, for machines without photos."""
    from core.data.samples import write_digits

    unpacked = folder / "digits"
    unpacked.mkdir()
    write_digits(unpacked)
    return Path(shutil.make_archive(str(unpacked), "zip", unpacked))


@contextmanager
def fresh_home() -> Iterator[Path]:
    """An empty HEADSTART_HOME for this process and its children, removed at the end."""
    former = os.environ.get("HEADSTART_HOME")
    with tempfile.TemporaryDirectory(prefix="headstart-home-") as name:
        os.environ["HEADSTART_HOME"] = name
        try:
            yield Path(name)
        finally:
            os.environ.pop("HEADSTART_HOME")
            if former is not None:
                os.environ["HEADSTART_HOME"] = former


def named(data: Path, dataset: Dataset) -> str:
    """The images in words."""
    return f"{data.name}, {len(dataset.table)} images"


def contents(dataset: Dataset) -> list[bytes]:
    """The bytes of every image file, in memory."""
    return [dataset.path_of(digest).read_bytes() for digest in dataset.table["sha256"]]


def decode_all(files: Sequence[bytes], short_side: int = SHORT_SIDE) -> None:
    """Pillow's scaled decode of every file in as many threads as there are cores, kept nowhere."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(partial(decode, short_side=short_side), files):
            pass


def decode(content: bytes, short_side: int) -> None:
    """`draft` and `load` alone: nothing judged, turned, converted or resized."""
    image = Image.open(io.BytesIO(content))
    shrink = max(1.0, min(image.size) / short_side)
    image.draft("RGB", (int(image.width / shrink), int(image.height / shrink)))
    image.load()
