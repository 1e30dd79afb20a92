"""What the Predict page needs of one image: its classes, and pictures ready for a browser."""

from __future__ import annotations

import base64
from pathlib import Path

from core.evaluation import explain as explaining
from core.models import classifier as classifiers
from core.models.classifier import Prediction


def predict(model: Path, content: bytes) -> Prediction:
    """Classify the bytes of one image file with the classifier in a `model` folder.

    Raises: ImageRefused, NotFound.
    """
    return classifiers.predicted(model, content)


def maps(model: Path, content: bytes, class_name: str, method: str) -> tuple[str, str]:
    """What the network saw and its map for a class by a method, as data URLs.

    Raises: ImageRefused, NotFound, RecipeRefused.
    """
    found = explaining.explain(model, content, class_name, method)
    return data_url(explaining.png(found.picture)), data_url(explaining.heat_png(found))


def data_url(content: bytes) -> str:
    """A PNG as a URL that carries it."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
