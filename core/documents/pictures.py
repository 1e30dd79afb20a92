"""Pictures inside a document: they travel in the file itself, as data addresses."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from core.data import images
from core.data.dataset import Dataset
from core.documents.facts import Facts
from core.errors import HeadstartError
from core.evaluation import mistakes
from core.models import catalog, weights
from core.runs.run import Run

MOST_MISTAKES = 12
SIDE = 168  # pixels
STRENGTH = 0.6  # of Grad-CAM over the picture
# Multiply-adds, in billions for one image, up to which twelve maps take a few seconds on a laptop.
MOST_GMACS = 5.0


@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrongly; picture and heat are data addresses, "" without."""

    name: str
    true: str
    predicted: str
    confidence: float
    picture: str
    heat: str


def data_address(content: bytes, media_type: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def worst(facts: Facts) -> list[Mistake]:
    """The surest mistakes, each with a small picture and what spoke for the wrong class."""
    scores, classes = facts.main.scores, facts.classes
    mapped = facts.dataset is not None and maps_are_quick(facts.run)
    found = []
    for k in mistakes.positions(scores, classes, None, None)[:MOST_MISTAKES]:
        name, predicted = str(scores.images[k]), classes[scores.predicted[k]]
        content = content_of(facts.dataset, name)
        heat = heat_of(facts.run, content, predicted) if mapped and content else ""
        found.append(
            Mistake(
                name, classes[scores.labels[k]], predicted, float(scores.confidence[k]),
                thumbnail(content), heat,
            )
        )  # fmt: skip
    return found


def content_of(dataset: Dataset | None, name: str) -> bytes:
    """The bytes of an image; none where it is not here any more."""
    if dataset is None:
        return b""
    digests = dataset.table.loc[dataset.table["name"] == name, "sha256"]
    paths = [dataset.path_of(digest) for digest in digests]
    return paths[0].read_bytes() if paths and paths[0].is_file() else b""


def thumbnail(content: bytes) -> str:
    """An image as a small JPEG, without anything else that its file holds."""
    with suppress(HeadstartError):
        if content:
            small = images.as_jpeg(images.decode(content, SIDE), SIDE)
            return data_address(small, "image/jpeg")
    return ""


def maps_are_quick(run: Run) -> bool:
    """Whether a dozen Grad-CAMs take a few seconds; of a network nobody knows, no."""
    known = catalog.backbone(weights.full_name(run.recipe.backbone.name))
    if known is None:
        return False
    size = int(run.config["headstart"]["preprocessing"]["size"])
    return known.gmacs * (size / known.input_size) ** 2 <= MOST_GMACS


def heat_of(run: Run, content: bytes, predicted: str) -> str:
    """What spoke for a class, over what the network saw of an image, as a small JPEG."""
    from core.evaluation import explain

    with suppress(HeadstartError):
        found = explain.explain(run.model, content, predicted)
        blended = Image.fromarray(explain.blended(found, STRENGTH))
        return data_address(images.as_jpeg(blended, SIDE), "image/jpeg")
    return ""
