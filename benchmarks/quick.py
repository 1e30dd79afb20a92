"""From a zip to a test accuracy with `--preset quick`, against the least that it could take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import photos
from benchmarks.pairs import Line, in_turns, seconds_of
from core import machine
from core.data.importing import import_all
from core.recipe import preset

REFERENCE = (
    "the sum of a fresh process that imports torch and timm, the bare scaled decode of all images, "
    "and one bare forward of all images in the fastest number format"
)
Work = Callable[[], object]


def measured(data: Path, repeat: int) -> Line:
    """Seconds of the whole process, its home new and its caches empty each time."""
    machine.keep_heap()
    with photos.fresh_home():
        least, facts = least_work(data)
    parts: dict[str, list[float]] = {part: [] for part in least}
    results: list[dict[str, Any]] = []

    def reference() -> float:
        for part, work in least.items():
            parts[part].append(seconds_of(work))
        return sum(column[-1] for column in parts.values())

    def quick() -> float:
        with photos.fresh_home():
            return seconds_of(lambda: results.append(trained(data)))

    pairs = in_turns(quick, reference, repeat)
    test = results[-1]["test"]
    facts |= {f"seconds_{part}": round(median(column), 3) for part, column in parts.items()}
    facts |= {"test_accuracy": round(test["accuracy"], 4), "test_n": test["n"]}
    facts["peak_memory_mb"] = results[-1]["peak_memory_mb"]
    return Line("quick", "s", "lower", REFERENCE, pairs, str(facts.pop("name")), facts)


def trained(data: Path) -> dict[str, Any]:
    """The result of `python -m core train` in a process of its own."""
    arguments = ["-m", "core", "train", str(data), "--preset", "quick", "--json"]
    result: dict[str, Any] = json.loads(child(arguments).splitlines()[-1])
    return result


def child(arguments: list[str]) -> str:
    """What a Python process prints; its complaints go where ours do."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=photos.ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def least_work(data: Path) -> tuple[dict[str, Work], dict[str, Any]]:
    """What no way around would save, by name; and facts about it."""
    dataset = import_all(data)
    files = photos.contents(dataset)
    forward, dtype, squares = bare_forward(dataset)
    work: dict[str, Work] = {
        "imports": partial(child, ["-c", "import torch, timm"]),
        "decode": partial(photos.decode_all, files),
        "forward": lambda: [forward(batch) for batch in squares],
    }
    return work, {"name": photos.named(data, dataset), "forward_format": dtype}


def bare_forward(dataset: Any) -> tuple[Callable[[Any], np.ndarray], str, list[Any]]:
    """The faster frozen forward of two number formats, its name, and all pictures in batches."""
    import torch

    from core.data import loader
    from core.models import device as devices
    from core.models import features, network

    torch.set_num_threads(machine.cores())
    recipe, device = preset("quick"), devices.resolve("auto")
    body = network.create(recipe, len(dataset.classes), pretrained=True)
    prepared = network.preprocessing_of(body, recipe)
    pictures, rows = loader.from_files(dataset, prepared), range(len(dataset.table))
    squares = list(loader.squares(pictures, rows, prepared, features.BATCH, machine.cores()))
    forwards = {
        dtype: features.forward_of(network.frozen(body, device, dtype), prepared, device, dtype)
        for dtype in (torch.float32, devices.forward_dtype(device))
    }
    fastest = min(forwards, key=lambda dtype: warm_seconds(forwards[dtype], squares[0]))
    return forwards[fastest], str(fastest).removeprefix("torch."), squares


def warm_seconds(forward: Callable[[Any], np.ndarray], batch: Any) -> float:
    """How long a batch takes after a first one, which may set things up."""
    forward(batch)
    return min(seconds_of(lambda: forward(batch)) for _ in range(3))
