"""Text for the cells of a CSV, so that no spreadsheet takes it for a formula, and back again."""

from __future__ import annotations

# What a spreadsheet takes for the start of a formula (OWASP, CSV injection).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
QUOTE = "'"


def safe_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: it gets a quote in front, as quotes do."""
    return QUOTE + text if text.startswith((*FORMULA_STARTS, QUOTE)) else text


def plain_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    return text.removeprefix(QUOTE)
