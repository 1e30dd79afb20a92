"""Files that people take for images and that are none of ours: what they are, and what to do.

A photo that looks fine to its owner (HEIC) is not believed to be "no image".
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Stranger:
    """A kind of file, by how it begins: what it is in words, and what to do with it."""

    magic: re.Pattern[bytes]
    what: str
    remedy: str


SAVE_AS_JPEG = "Open it in an image program and save it as JPEG or PNG."
STRANGERS = tuple(
    Stranger(re.compile(magic, re.DOTALL | re.IGNORECASE), what, remedy)
    for magic, what, remedy in (
        (rb"....ftyp(hei[cxms]|hev[cmxs]|mif1|msf1)", "a HEIC photo, as phones take them",
         "Export it as JPEG. An iPhone takes JPEGs with Settings, Camera, Formats, Most "
         "Compatible."),
        (rb"....ftyp", "a video", "Save the frames that you want as JPEG."),
        (rb"<(!doctype )?html", "a web page", "Download the image itself, not the page around it."),
        (rb"(<\?xml|<svg)", "a drawing (SVG)", SAVE_AS_JPEG),
        (rb"%PDF", "a PDF", "Export its pages as JPEG or PNG."),
        (rb"(%!PS|\xc5\xd0\xd3\xc6)", "a PostScript drawing", SAVE_AS_JPEG),
        (rb"8BPS", "a Photoshop file", SAVE_AS_JPEG),
        (rb"(\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51)", "a JPEG 2000", SAVE_AS_JPEG),
        (rb"(\xff\x0a|\x00\x00\x00\x0cJXL )", "a JPEG XL", SAVE_AS_JPEG),
        (rb"\x00\x00\x01\x00", "an icon", SAVE_AS_JPEG),
        (rb"P[1-7]\s", "a PPM or PGM", SAVE_AS_JPEG),
        (rb"FUJIFILM", "a raw photo", SAVE_AS_JPEG),
        (rb"(PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b)", "an archive", "Unpack it first."),
    )
)  # fmt: skip


def recognized(content: bytes) -> Stranger | None:
    """The kind of a file that is none of our formats, if it is a well-known one."""
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((one for one in STRANGERS if one.magic.match(start)), None)
