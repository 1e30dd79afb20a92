"""Copies of a picture as people make them: saved again, smaller, cut, brighter, all at once."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def saved(picture: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def reencoded(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return opened(saved(picture, quality=40))


def resized(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return picture.resize((round(picture.width * 0.6), round(picture.height * 0.6)))


def cropped(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """5 % less wide and high, cut off wherever it falls."""
    width, height = round(picture.width * 0.95), round(picture.height * 0.95)
    left = int(rng.integers(0, picture.width - width + 1))
    top = int(rng.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def trimmed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """5 % off each of the four edges."""
    across, down = round(picture.width * 0.05), round(picture.height * 0.05)
    return picture.crop((across, down, picture.width - across, picture.height - down))


def brightened(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.3)


def darkened(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(0.6)


def all_at_once(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return reencoded(brightened(resized(cropped(picture, rng), rng), rng), rng)


CHANGES: dict[str, Change] = {
    one.__name__: one
    for one in (
        reencoded, resized, cropped, trimmed, brightened, darkened, all_at_once,
    )
}  # fmt: skip
