"""Test accuracy and cost of the presets, beside rivals that start from the same weights.

`python -m benchmarks --only accuracy` takes hours on two cores, so it is no part of the default
run; `--keep FILE` lets it go on where it was interrupted. Every contestant is a fresh process that
learns from, chooses by and is judged on the same images, and decodes them itself. Only Headstart
also sorts the archive: rivals find the parts in folders. Needs Linux or macOS, to read what a
child process cost.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import contestants, photos
from benchmarks.contestants import Contestant, Result
from benchmarks.pairs import rounded
from benchmarks.rivals import FASTAI_EPOCHS, RIVALS
from core import machine

# It holds three folders of photos of cloth, made to look faultless or faulty (MIT).
TEXTILE = "conformal_clip_data"
WITHOUT_SET = "it is not on this machine; name a zip or folder, or install conformal-clip-data"
WITHOUT_FASTAI = "install fastai, or give --fastai-python an interpreter that has it"


@dataclass(frozen=True)
class Plan:
    """What is run: names of sets and contestants, and how.

    epochs: of the tutorial's loop. fastai_python: the interpreter that has fastai, if not this one.
    keep: a file of results; those in it are not measured again, new ones are added.
    """

    sets: tuple[str, ...]
    rivals: tuple[str, ...]
    presets: tuple[str, ...]
    seeds: int
    epochs: int
    fastai_python: str
    keep: Path | None


def report(plan: Plan) -> Iterator[dict[str, Any]]:
    """A line of JSON for whatever is skipped, for each training, and for each contestant's sum."""
    places = {name: place_of(name) for name in plan.sets}
    python = {"tutorial": sys.executable, "fastai": fastai_python(plan)}
    yield from (skipped(name, WITHOUT_SET) for name, place in places.items() if not place)
    yield from (skipped(name, WITHOUT_FASTAI) for name in plan.rivals if not python[name])
    taking_part = [
        *(contestants.rival(n, python[n], epochs_of(n, plan)) for n in plan.rivals if python[n]),
        *(contestants.headstart(name) for name in plan.presets),
    ]
    done: list[Result] = []
    for name, place in places.items():
        for seed in range(plan.seeds if place else 0):
            for result in results(taking_part, name, place, seed, plan.keep):
                done.append(result)
                yield result.to_json()
    lines = summaries(done)
    yield from lines
    if lines:
        print(table(lines), file=sys.stderr)


def skipped(name: str, why: str) -> dict[str, Any]:
    """The line for something that cannot be measured here."""
    return {"measure": "accuracy", "skipped": name, "why": why}


def place_of(name: str) -> Path | None:
    """The archive or folder of a set by its name or path, if it is on this machine."""
    if name != "textile":
        return photos.on_this_machine(f"{name}.zip") or existing(Path(name))
    found = find_spec(TEXTILE)
    inside = "data/textile_images/simulated"
    return existing(Path(str(found.origin)).parent / inside) if found else None


def existing(path: Path) -> Path | None:
    """The path, if there is anything."""
    return path.resolve() if path.exists() else None


def fastai_python(plan: Plan) -> str:
    """An interpreter that has fastai; else nothing."""
    return plan.fastai_python or (sys.executable if find_spec("fastai") else "")


def epochs_of(rival: str, plan: Plan) -> int:
    """How many epochs a rival trains all layers."""
    return FASTAI_EPOCHS if rival == "fastai" else plan.epochs


def results(
    taking_part: Sequence[Contestant], name: str, data: Path, seed: int, keep: Path | None
) -> Iterator[Result]:
    """What each contestant reaches on a set with a seed; kept results are not measured again."""
    known = kept(keep)
    keys = {who.name: (who.name, who.settings, name, seed) for who in taking_part}
    with tempfile.TemporaryDirectory(prefix="headstart-parts-") as folder:
        if not set(keys.values()) <= known.keys():
            contestants.lay_out(data, Path(folder), seed)
        for who in taking_part:
            yield known.get(keys[who.name]) or new(who, name, data, Path(folder), seed, keep)


def new(
    who: Contestant, name: str, data: Path, folder: Path, seed: int, keep: Path | None
) -> Result:
    """A result that was not known, added to the file if there is one."""
    result = contestants.trained(who, name, data, folder, seed)
    if keep:
        with keep.open("a") as file:
            file.write(json.dumps(result.to_json()) + "\n")
    return result


def kept(keep: Path | None) -> dict[tuple[str, str, str, int], Result]:
    """The results of a file by contestant, settings, set and seed."""
    lines = keep.read_text().splitlines() if keep and keep.exists() else []
    found = [Result.from_json(json.loads(line)) for line in lines]
    return {(one.contestant, one.settings, one.images, one.seed): one for one in found}


def summaries(done: Sequence[Result]) -> list[dict[str, Any]]:
    """Each contestant over all sets and seeds, beside the rival with the best mean accuracy."""
    names = list(dict.fromkeys(result.contestant for result in done))
    totals = {name: total([r for r in done if r.contestant == name]) for name in names}
    rivals = [name for name in names if name in RIVALS]
    best = max(rivals, key=lambda name: float(totals[name]["value"]), default="")
    about = {"measure": "accuracy", "machine": machine.name()}
    return [
        about | {"contestant": name} | figures | beside(figures, best, totals.get(best))
        for name, figures in totals.items()
    ]


def total(own: Sequence[Result]) -> dict[str, Any]:
    """One contestant's mean accuracy, over seeds first and then sets; its costs, summed."""
    sets = dict.fromkeys(result.images for result in own)
    by_set = {name: mean(r.accuracy for r in own if r.images == name) for name in sets}
    return {
        "value": round(mean(by_set.values()), 4),
        "by_set": {name: round(value, 4) for name, value in by_set.items()},
        "trainings": len(own),
        "seconds": rounded(sum(r.seconds for r in own)),
        "cpu_seconds": rounded(sum(r.cpu_seconds for r in own)),
        "peak_memory_mb": max(r.peak_memory_mb for r in own),
    }


def beside(figures: dict[str, Any], rival: str, reference: dict[str, Any] | None) -> dict[str, Any]:
    """How much better than the best rival, and in which share of its time; nothing without one."""
    if reference is None:
        return {}
    return {
        "reference": rival,
        "difference": round(figures["value"] - reference["value"], 4),
        "ratio_seconds": round(figures["seconds"] / reference["seconds"], 3),
        "ratio_cpu_seconds": round(figures["cpu_seconds"] / reference["cpu_seconds"], 3),
    }


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The summaries as text: a row a contestant, accuracies in percent, costs of all trainings."""
    sets = list(lines[0]["by_set"])
    head = ["contestant", *sets, "mean", "seconds", "×", "cpu s", "×", "MB"]
    rows = [head]
    for line in lines:
        shares = [*(line["by_set"][name] for name in sets), line["value"]]
        costs = [line["seconds"], line.get("ratio_seconds", "")]
        costs += [line["cpu_seconds"], line.get("ratio_cpu_seconds", ""), line["peak_memory_mb"]]
        rows.append([line["contestant"], *(f"{share:.2%}" for share in shares), *map(str, costs)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
