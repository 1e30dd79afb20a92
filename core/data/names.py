"""Names of images that are each a name of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath


def distinct(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """The names, each once: the second of a name, or one that is taken, gets (2) behind it."""
    wanted, seen = {*names, *taken}, set(taken)
    result = []
    for first in names:
        name, number = first, 1
        while name in seen or (number > 1 and name in wanted):
            number += 1
            name = numbered(first, number)
        seen.add(name)
        result.append(name)
    return result


def numbered(name: str, number: int) -> str:
    """A file's name with a number before its ending, in the same folder."""
    folder, slash, last = name.rpartition("/")
    suffix = PurePosixPath(last).suffix
    return f"{folder}{slash}{last.removesuffix(suffix)} ({number}){suffix}"
