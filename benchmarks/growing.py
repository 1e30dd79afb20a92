"""Taking in more and more images: the rate against bare decoding, and how the memory grows.

The images are copies of real photos with changed pixels, made here: as large as those are, but for
the largest sets, whose images are tiny, so that it is the number that counts there. The rates
include reading, checking, decoding, hashing, storing, syncing and the index; the search for
near-duplicates that follows is told apart. What was imported stays until the end: for minutes after
many files were removed some file systems (ext4) make new ones ten times as slowly.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import photos
from benchmarks.pairs import in_turns, rounded
from core import machine
from core.data import archive, importing

MOST_OF_FULL_SIZE, TINY_SIDE = 20_000, 100
AT_ONCE = 200  # Made at once and then written.


def report(data: Path, sizes: Sequence[int], repeat: int, folder: Path) -> Iterator[dict[str, Any]]:
    """One line for each number of images; the last says how the memory grew among alike ones."""
    peaks: dict[int, float] = {}
    for images in sizes:
        path = copies(data, images, folder / f"{images}.zip")
        line = against_decoding(path, images, repeat, folder)
        peaks[images] = line["peak_memory_mb"]
        yield line
        path.unlink()
    full = [images for images in sizes if images <= MOST_OF_FULL_SIZE]
    if len(full) > 1:
        first, last = full[0], full[-1]
        yield {
            "measure": "import growth",
            "images": [first, last],
            "peak_memory_mb": [peaks[first], peaks[last]],
            "kilobytes_an_image": rounded(1000 * (peaks[last] - peaks[first]) / (last - first)),
        }


def copies(data: Path, images: int, path: Path) -> Path:
    """A zip of so many different images in the class folders of an archive of photos."""
    side = 0 if images <= MOST_OF_FULL_SIZE else TINY_SIDE
    with (
        archive.opened(data) as source,
        zipfile.ZipFile(path, "w") as made,
        ThreadPoolExecutor(machine.processors()) as pool,
    ):
        pictures, _ = importing.sorted_out(source, "", ())

        def copied(number: int) -> bytes:
            return changed(source.read(pictures[number % len(pictures)][0]), side, number)

        for start in range(0, images, AT_ONCE):
            numbers = range(start, min(images, start + AT_ONCE))
            for number, content in zip(numbers, pool.map(copied, numbers), strict=True):
                label = pictures[number % len(pictures)][1].label
                made.writestr(f"{label}/{number:06d}.jpg", content)
    return path


def changed(content: bytes, side: int, seed: int) -> bytes:
    """A JPEG of a photo with noise of its own; its longer side so long, or as it was for 0."""
    image = Image.open(io.BytesIO(content))
    if side:
        image.draft("RGB", (side, side))
        image.thumbnail((side, side))
    image = image.convert("RGB")
    noise = np.random.default_rng(seed).integers(-8, 9, (image.height, image.width, 1))
    pixels = (np.asarray(image, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def against_decoding(path: Path, images: int, repeat: int, folder: Path) -> dict[str, Any]:
    """The rates of an import and of bare decoding, each in a process of its own, in turns."""
    seen: list[dict[str, float]] = []
    cpu: list[float] = []

    def imported() -> float:
        home = folder / f"home-{images}-{len(seen)}"
        seen.append(child("import", path, HEADSTART_HOME=str(home)))
        return images / seen[-1]["seconds"]

    def decoded() -> float:
        found = child("decode", path)
        cpu.append(found["cpu_seconds"])
        return images / found["seconds"]

    pairs = in_turns(imported, decoded, repeat)
    values, references = zip(*pairs, strict=True)
    return {
        "measure": "import",
        "images": images,
        "megabytes": rounded(path.stat().st_size / 1e6),
        "unit": "images/s",
        "value": rounded(median(values)),
        "reference_value": rounded(median(references)),
        "ratio": round(median(values) / median(references), 3),
        "ratios": [round(value / reference, 3) for value, reference in pairs],
        "cpu_ratio": round(median(cpu) / median(one["cpu_seconds"] for one in seen), 3),
        "copies_seconds": rounded(median(one["copies_seconds"] for one in seen)),
        "peak_memory_mb": rounded(max(one["peak_mb"] for one in seen)),
        "memory_before_mb": rounded(median(one["before_mb"] for one in seen)),
        "machine": machine.name(),
    }


def child(work: str, path: Path, **environment: str) -> dict[str, float]:
    """What a fresh process tells of an import or of bare decoding."""
    command = [sys.executable, "-m", "benchmarks.growing", work, str(path)]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=photos.ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    found: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    return found


def main(work: str, path: Path) -> None:
    """Do one or the other, and print what it took: clock, processor and memory."""
    warm_up()
    files: list[bytes] = []
    if work == "decode":
        with archive.opened(path) as source:
            files = [source.read(member) for member in source.members]
    copies_seconds = copies_cpu = 0.0
    before, cpu, began = machine.memory_mb(), processor_seconds(), time.perf_counter()
    if work == "decode":
        photos.decode_all(files)
    else:
        copies_seconds, copies_cpu = imported(path)
    facts = {
        "seconds": time.perf_counter() - began - copies_seconds,
        "cpu_seconds": processor_seconds() - cpu - copies_cpu,
        "copies_seconds": copies_seconds,
        "before_mb": before,
        "peak_mb": machine.peak_memory_mb(),
    }
    print(json.dumps(facts))


def imported(path: Path) -> tuple[float, float]:
    """Import an archive; the seconds, and those of the processor, that the search for copies took.

    That search is no part of reading images: it is told apart from checking them.
    """
    marks: list[tuple[float, float]] = []
    looking = False
    for step in importing.import_images(path):
        if looking != (step.text == importing.LOOKING):
            looking = not looking
            marks.append((time.perf_counter(), processor_seconds()))
    (began, cpu), (ended, cpu_then) = marks
    return ended - began, cpu_then - cpu


def warm_up() -> None:
    """Import once what an import needs, as a server's process has."""
    import pandas as pd

    buffer = io.BytesIO()
    pd.DataFrame({"name": ["a"]}).to_parquet(buffer)
    pd.read_parquet(buffer)


def processor_seconds() -> float:
    """What this process has used of all cores, the system's work for it included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
