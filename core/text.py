"""Names as documents and pages show them: they come from files and may hold anything."""

from __future__ import annotations

import re
import unicodedata

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
# Turns the direction of what follows it: "gpj.exe" would read "exe.jpg".
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
# What Markdown may read as its own; a backslash before any of these is always allowed.
MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$~:&@])")


def line(text: object, most: int | None = None) -> str:
    """Text as one line that every kind of document can hold, at most so many characters.

    What XML has no place for (control characters, halves of letters) becomes a �.
    """
    known = (c if c.isspace() or is_writable(c) else UNKNOWN for c in TURNING.sub("", str(text)))
    whole = " ".join("".join(known).split())
    return whole if most is None or len(whole) <= most else whole[: most - 1] + "…"


def is_writable(character: str) -> bool:
    """Whether XML has a place for a character that is no space."""
    is_no_character = ord(character) & 0xFFFE == 0xFFFE
    return unicodedata.category(character) not in ("Cc", "Cs") and not is_no_character


def markdown(text: object) -> str:
    """Text that Markdown shows literally, on one line."""
    return MARKS.sub(r"\\\1", line(text))
