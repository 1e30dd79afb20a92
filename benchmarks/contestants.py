"""Who is compared on accuracy, and one training of theirs, measured from outside its process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import photos
from core.data.importing import import_all
from core.data.split import split
from core.evaluation.intervals import wilson
from core.recipe import preset, to_yaml

# The kernel's unit for the peak memory of a process.
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Contestant:
    """Somebody who trains, and everything that the result depends on beside images and seed.

    command(data, folder, seed): what to run, on the archive or on its parts as folders; the last
    line that it prints is JSON, from which `counts` reads the test images: right ones, and all.
    """

    name: str
    settings: str
    command: Callable[[Path, Path, int], list[str]]
    counts: Callable[[dict[str, Any]], tuple[int, int]]


@dataclass(frozen=True)
class Result:
    """One training on the images of a set.

    ncorrect: of the `n` test images. cpu_seconds, peak_memory_mb: child processes too; memory of
    the largest one. load: how much went on before it, a core.
    """

    contestant: str
    settings: str
    images: str
    seed: int
    ncorrect: int
    n: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    load: float

    @property
    def accuracy(self) -> float:
        """Share of the test images that are classified correctly."""
        return self.ncorrect / self.n

    def to_json(self) -> dict[str, Any]:
        """As it is printed and kept; accuracy and interval are there to be read."""
        interval = [round(bound, 4) for bound in wilson(self.ncorrect, self.n)]
        shown = {"accuracy": round(self.accuracy, 4), "interval": interval}
        return {"measure": "accuracy", **asdict(self), **shown}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Result:
        """As it was kept."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


def rival(name: str, python: str, epochs: int) -> Contestant:
    """One of `benchmarks.rivals`, which learns from folders."""

    def command(data: Path, folder: Path, seed: int) -> list[str]:
        options = ["--seed", str(seed), "--epochs", str(epochs)]
        return [python, "-m", "benchmarks.rivals", name, str(folder), *options]

    def counts(said: dict[str, Any]) -> tuple[int, int]:
        return said["ncorrect"], said["n"]

    return Contestant(name, f"{epochs} epochs", command, counts)


def headstart(name: str) -> Contestant:
    """Headstart with a preset, through its shell."""
    recipe = to_yaml(preset(name)).encode()

    def command(data: Path, folder: Path, seed: int) -> list[str]:
        options = ["--preset", name, "--set", f"seed={seed}", "--json"]
        return [sys.executable, "-m", "core", "train", str(data), *options]

    def counts(said: dict[str, Any]) -> tuple[int, int]:
        test = said["test"]
        return round(test["accuracy"] * test["n"]), test["n"]

    return Contestant(name, hashlib.sha256(recipe).hexdigest()[:12], command, counts)


def lay_out(data: Path, folder: Path, seed: int) -> None:
    """The images in a folder for each part and class, divided as the presets do with this seed."""
    with photos.fresh_home():
        dataset = import_all(data)
        parts = split(dataset, preset("quick").data.split, seed)
        hashes = dataset.table["sha256"]
        for row, (part, label) in enumerate(zip(parts, dataset.labels, strict=True)):
            place = folder / part / f"{label:04d}"
            place.mkdir(parents=True, exist_ok=True)
            # Readers of folders go by the ending, Pillow by the content.
            shutil.copyfile(dataset.path_of(hashes.iloc[row]), place / f"{row}.jpg")


def trained(contestant: Contestant, name: str, data: Path, folder: Path, seed: int) -> Result:
    """One training in a process and a home of its own."""
    load = psutil.getloadavg()[0] / (os.cpu_count() or 1)
    with photos.fresh_home():
        started = time.perf_counter()
        printed, usage = child(contestant.command(data, folder, seed))
        seconds = time.perf_counter() - started
    ncorrect, n = contestant.counts(json.loads(printed.splitlines()[-1]))
    return Result(
        contestant.name, contestant.settings, name, seed, ncorrect, n,
        seconds=round(seconds, 1),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 1),
        peak_memory_mb=round(usage.ru_maxrss * MAXRSS_BYTES / 1e6, 1),
        load=round(load, 2),
    )  # fmt: skip


def child(command: list[str]) -> tuple[str, Any]:
    """What a process prints, and what it and its children used.

    Raises: CalledProcessError where it fails; what it complained of is on standard error.
    """
    with subprocess.Popen(command, cwd=photos.ROOT, stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # Nobody can wait for it again.
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed, usage
