"""Tables as any program writes them: which sign divides the cells, and their rows, within limits.

The standard library's Sniffer is not used: its time grows with the fourth power of the quotes.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

from core.settings import MEGABYTE

DELIMITERS = (",", ";", "\t", "|")
# Rows and characters by which the delimiter is chosen.
SAMPLE_ROWS, SAMPLE_CHARACTERS = 100, 100_000
MOST_ROWS, MOST_COLUMNS = 1_000_000, 1_000
LARGEST_TABLE, LARGEST_TABLES = 20 * MEGABYTE, 60 * MEGABYTE
LINE = re.compile(r"[^\n]*\n|[^\n]+")


def read_table(text: str) -> list[list[str]]:
    """The rows of a CSV that have as many cells as its header, without empty ones.

    None for what is no table: a single column, over a thousand, or over a million rows.
    """
    text = unicodedata.normalize("NFC", text.lstrip("\ufeff"))
    sample = text[:SAMPLE_CHARACTERS]
    fit, width, delimiter = max((fitting(sample, d) for d in DELIMITERS), key=lambda f: f[:2])
    if not fit or width > MOST_COLUMNS:
        return []
    try:
        rows = (row for row in cells(text, delimiter) if len(row) == width and any(row))
        found = list(islice(rows, MOST_ROWS + 1))
    except csv.Error:
        return []
    return found if len(found) <= MOST_ROWS else []


def fitting(sample: str, delimiter: str) -> tuple[int, int, str]:
    """How many of the first rows are as wide as the header, if that is wider than 1; how wide."""
    widths = []
    try:
        for row in islice(cells(sample, delimiter), SAMPLE_ROWS):
            widths.append(len(row))
    except csv.Error:
        pass  # The sample may end inside a cell.
    width = widths[0] if widths else 0
    return (widths.count(width) if width > 1 else 0), width, delimiter


def cells(text: str, delimiter: str) -> Iterator[list[str]]:
    """Row by row; cells may be quoted, by the quotes with which the text begins, if it does."""
    quote = "'" if text.startswith("'") else '"'
    lines = (found.group() for found in LINE.finditer(text))
    return csv.reader(lines, delimiter=delimiter, quotechar=quote, skipinitialspace=True)
