"""From the bytes of a file to an RGB picture: the one decoder that every part of Headstart uses.

An image file is somebody else's program for our decoder, so everything is judged from the header
before a pixel is touched, and only formats on an allow-list are tried.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from posixpath import splitext

from PIL import Image, UnidentifiedImageError

from core.data import strangers
from core.errors import ImageRefused
from core.machine import late_numpy as np
from core.settings import Settings, settings

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
FORMATS = tuple(ENDINGS)
# Endings that say "I am meant as an image", so that one we cannot read is listed, not passed over.
IMAGE_ENDINGS = frozenset(e for endings in ENDINGS.values() for e in endings) | frozenset(
    (".heic", ".heif", ".tga", ".psd", ".svg", ".ico", ".jp2", ".ppm", ".pgm", ".eps", ".raw")
)
# What ends a scan's data: no stuffed zero, restart, or byte that fills (ITU-T T.81, B.1.1).
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Markers that no segment follows, and those of no meaning, which a decoder passes over.
ALONE = frozenset((*range(0x01, 0xC0), *range(0xD0, 0xD9)))
SCAN, END = 0xDA, 0xD9
# A progressive JPEG of some kilobytes may ask for thousands of passes over the picture.
MOST_SCANS = 100
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
SMALLEST_SIDE = 8
# The least that tells two photos of the same kind apart from two copies of one photo.
GRAY_SIDE = 64
ODD_ASPECT = 50
# Floats that are shares of full brightness may be a little above 1: resampling overshoots.
MOST_SHARE = 1.5
# Of pictures with more pixels than this only a few are decoded at once, however many threads there
# are: one of 60 million that are floats takes a gigabyte.
LARGE_PIXELS = 16_000_000
LARGE_AT_ONCE = threading.BoundedSemaphore(2)
MOST_SAMPLED = 1_000_000
# A JPEG with a second picture inside (stereo cameras, some phones) opens as MPO.
MULTI_JPEG = "MPO"
# What Pillow warns of is either judged here or shown to the user in our own words.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # `opened` has a limit of its own, before anything is decoded.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, EOFError, RuntimeError,
    MemoryError, OverflowError, ZeroDivisionError, AttributeError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is worth knowing about an image file that can be read.

    gray: the picture upright, gray and stretched to a square, 64×64 uint8; copies are found by it.
    """

    format: str
    width: int
    height: int
    remarks: tuple[str, ...]
    gray: np.ndarray = field(compare=False, repr=False)


def refused(
    why: str, remedy: str = "Open it in an image program and save it as JPEG or PNG."
) -> ImageRefused:
    """The refusal of one file, for the given reason."""
    return ImageRefused(f"The file cannot be used as an image: {why}.", remedy)


def beyond(said: str, limit: str, most: int, unit: str = "") -> ImageRefused:
    """The refusal of one file that is beyond a limit of the settings."""
    return refused(
        f"it has {said} and the limit is {most:,}{unit}",
        f"Save it smaller, or raise HEADSTART_{limit.upper()}.",
    )


def opened(content: bytes, limits: Settings | None = None) -> Image.Image:
    """The image, its header judged and nothing decoded yet.

    limits: the settings; whoever opens many images asks for them once.
    Raises: ImageRefused for no image, a format off the list, or one beyond the limits.
    """
    if not content:
        raise refused("it is empty")
    limits = limits or settings()
    if len(content) > limits.max_file_bytes:
        raise beyond(f"{len(content):,} bytes", "max_file_bytes", limits.max_file_bytes)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise not_an_image(content) from None
    except DECODER_ERRORS as error:
        raise refused(f"its header is broken ({error})") from error
    width, height = image.size
    shape = f"{width:,} × {height:,} pixels"
    if width * height > limits.max_pixels:
        raise beyond(shape, "max_pixels", limits.max_pixels)
    if max(width, height) > limits.max_side:
        raise beyond(shape, "max_side", limits.max_side, " a side")
    if width < 1 or height < 1:
        raise refused("it has no pixels")
    if format_of(image) == "JPEG" and scans(content, image) > MOST_SCANS:
        raise refused(f"it asks for more than {MOST_SCANS} passes of the decoder")
    return image


def scans(content: bytes, image: Image.Image) -> int:
    """How many passes a JPEG asks for; counted to just beyond the most that is allowed.

    Only its first picture counts: phones put a film behind it, whose bytes may be anything. Nor is
    there a second pass where the first one of no progressive picture brings all of its layers.
    """
    count, place = 0, 2
    while count <= MOST_SCANS and (found := MARKER.search(content, place)):
        kind, place = content[found.end() - 1], found.end()
        if kind == END:
            break
        count += kind == SCAN
        layers = content[place + 2 : place + 3] if kind == SCAN else b""
        if layers == bytes([len(image.getbands())]) and "progressive" not in image.info:
            break
        if kind not in ALONE:
            place += int.from_bytes(content[place : place + 2], "big")
    return count


def not_an_image(content: bytes) -> ImageRefused:
    """The refusal of what is in none of our formats: what it is instead, where that is known."""
    read = ", ".join(FORMATS)
    stranger = strangers.recognized(content)
    if stranger is None:
        return refused(f"it is none of {read}, whatever its name says")
    return ImageRefused(
        f"The file cannot be used as an image: it is {stranger.what}, and only {read} are read.",
        stranger.remedy,
    )


def decode(content: bytes, short_side: int | None = None) -> Image.Image:
    """The picture as RGB, turned as its EXIF says; the first frame of several.

    With `short_side` a large JPEG is decoded at a fraction of its size (libjpeg's scaled
    decoding), no smaller than asked for; the exact size is `augment.picture`'s work.
    Transparent parts become white. 16-bit and float pixels are brought to 0–255 by `to_8_bit`.
    Raises: ImageRefused for what cannot be decoded to its end.
    """
    return decoded(opened(content), short_side)


def decoded(image: Image.Image, short_side: int | None, *, gray: bool = False) -> Image.Image:
    """An opened image decoded to its end; see `decode`. With `gray` a gray one stays so."""
    try:
        if short_side is not None:
            shrink = max(1.0, min(image.size) / short_side)
            image.draft("RGB", (int(image.width / shrink), int(image.height / shrink)))
        with turn(image):
            image.load()
            picture = upright(image)
            plain = gray and picture.mode == "L" and not picture.has_transparency_data
            return picture if plain else to_rgb(picture)
    except DECODER_ERRORS as error:
        raise refused(f"it is damaged ({error})") from error


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says.

    Only that one field is read: Pillow's own `exif_transpose` writes all the others anew and fails
    on photos in which any of them is damaged.
    """
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except DECODER_ERRORS:
        turn = None  # EXIF that cannot be read says nothing.
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB, with nothing clipped to black or white on the way."""
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Gray pixels of any range as uint8: H×W.

    Whole numbers are divided by the range of the fewest bits that hold them (a 12-bit camera
    fills 0–4095 of its 16 bits). Floats are taken as shares of full brightness if 99 of 100 that
    are above 0 are at most 1.5: what is above 1 is then clipped. The lowest is black if more than
    1 in 100 are negative (signed data), else 0 is. What is no number is black.
    """
    finite = np.isfinite(pixels)
    values = np.where(finite, pixels, 0).astype(np.float64)
    low = float(values.min(initial=0.0)) if share_of(values, 1) < 0.0 else 0.0
    top = float(values.max(initial=0.0))
    if not np.issubdtype(pixels.dtype, np.floating):
        full = float(2 ** max(8, int(top - low).bit_length()) - 1)
    elif share_of(values[values > 0.0], 99) <= MOST_SHARE:
        full = 1.0 - low
    else:
        full = max(255.0, top - low)
    scaled = np.where(finite, np.clip((values - low) * (255.0 / full), 0.0, 255.0), 0.0)
    return np.asarray(np.round(scaled), dtype=np.uint8)


def share_of(values: np.ndarray, percent: float) -> float:
    """The value that so many of 100 pixels are at most; of every so-manieth of very many; or 0."""
    few = values.ravel()[:: max(1, values.size // MOST_SAMPLED)]
    return float(np.percentile(few, percent)) if few.size else 0.0


def examine(content: bytes, name: str, limits: Settings | None = None) -> Facts:
    """Decode a file once, to know that it can be, and say what is odd about it.

    limits: as for `opened`.
    Raises: ImageRefused with the reason.
    """
    image = opened(content, limits)
    try:
        # Whether there are several frames is known only once the second is looked for.
        format, (width, height), said = format_of(image), image.size, tuple(remarks(image, name))
        # An eighth of a JPEG in gray is enough: all of its data is read on the way there.
        image.draft("L", (max(GRAY_SIDE, width // 8), max(GRAY_SIDE, height // 8)))
        return Facts(format, width, height, said, small_gray(decoded(image, None, gray=True)))
    except DECODER_ERRORS as error:
        raise refused(f"it is damaged ({error})") from error


def turn(image: Image.Image) -> AbstractContextManager[object]:
    """To be held while a picture is decoded; of large ones few threads have it at once."""
    large = image.width * image.height > LARGE_PIXELS
    return LARGE_AT_ONCE if large else nullcontext()


def small_gray(picture: Image.Image) -> np.ndarray:
    """A picture in gray, stretched to a square: 64×64 uint8."""
    square = (GRAY_SIDE, GRAY_SIDE)
    small = picture.resize(square, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small.convert("L"))


def format_of(image: Image.Image) -> str:
    """The format on the allow-list that an image is in."""
    return "JPEG" if image.format in (MULTI_JPEG, None) else image.format


def remarks(image: Image.Image, name: str) -> list[str]:
    """What its owner should know about a file that was taken all the same."""
    found = []
    ending = splitext(name)[1].lower()  # Ten times as fast as PurePosixPath.
    if ending not in ENDINGS[format_of(image)]:
        said = "its name says otherwise" if ending else "its name has no ending"
        found.append(f"its content is {format_of(image)}, {said}")
    if getattr(image, "is_animated", False) and image.format != MULTI_JPEG:
        found.append("it has several frames; the first is used")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        found.append("its pixels have more than 8 bits; they were rescaled")
    if min(image.size) < SMALLEST_SIDE:
        found.append(f"it is under {SMALLEST_SIDE} pixels wide or high")
    if max(image.size) > ODD_ASPECT * min(image.size):
        found.append(f"it is over {ODD_ASPECT} times as long as wide")
    return found


def as_jpeg(image: Image.Image, longest: int, quality: int = 85) -> bytes:
    """A picture for a browser: fresh JPEG bytes without any of the file's own data (no GPS)."""
    image = image.copy()
    image.info = {}  # Comments and the like would be written again.
    image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
