"""What becomes of every input of a manifest: `python -m tests.core.corpora MANIFEST`.

Run in a process of its own, so that its memory can be limited and what it does is seen from
outside. Prints one line of JSON for each line of the manifest.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core import machine
from core.data import images, importing
from core.data.cells import FORMULA_STARTS
from core.data.dataset import Dataset
from core.errors import HeadstartError
from core.serving import packing

# Address space, not memory: libraries and threads reserve far more than they use.
MOST_ADDRESSES = 6_000_000_000


def image(path: Path) -> dict[str, Any]:
    """An image is examined as an import does, and decoded as training does."""
    content = path.read_bytes()
    facts = images.examine(content, path.name)
    picture = images.decode(content, 224)
    assert picture.mode == "RGB"
    small = picture.resize((8, 8), Image.Resampling.BOX)
    return {"warnings": list(facts.remarks), "colors": np.asarray(small).ravel().tolist()}


def archive(path: Path) -> dict[str, Any]:
    """An archive is imported."""
    found = importing.import_all(path)
    remarks = found.table.loc[found.table["remarks"] != "", "remarks"]
    skipped = [f"{one['file']}: {one['why']}" for one in found.skipped]
    return {
        "warnings": [*found.notes, *skipped, *remarks],
        "images": len(found.table),
        "classes": list(found.classes),
        "splits": sorted(set(found.table["part"]) - {""}),
        "formulas": [one for one in cells(found) if one.startswith(FORMULA_STARTS)],
    }


def cells(dataset: Dataset) -> list[str]:
    """All cells of the tables that are packed with a dataset."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.zip"
        for _ in packing.pack(dataset, path):
            pass
        with zipfile.ZipFile(path) as packed:
            tables = [
                packed.read(name).decode("utf-8-sig") for name in (packing.LABELS, packing.JOURNAL)
            ]
    return [cell for table in tables for row in csv.reader(io.StringIO(table)) for cell in row]


def outcome(line: dict[str, str], folder: Path) -> dict[str, Any]:
    """What becomes of one line, how long it took and the most memory so far."""
    started = time.perf_counter()
    try:
        found = {"image": image, "archive": archive}[line["kind"]](folder / line["path"])
        found["outcome"] = "accept-with-warning" if found["warnings"] else "accept"
    except HeadstartError as error:
        found = {"outcome": "reject", "what": error.what, "remedy": error.remedy}
    seconds = time.perf_counter() - started
    return {**line, **found, "seconds": seconds, "peak_mb": machine.peak_memory_mb()}


def main(manifest: Path) -> None:
    """Tell of each line in turn."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    with manifest.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            print(json.dumps(outcome(line, manifest.parent)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
