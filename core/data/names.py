"""Names of images that are each a name of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath


def distinct(
    names: Sequence[str], taken: Collection[str] = (), same: Callable[[str], str] = str
) -> list[str]:
    """The names, each once: the second of a name, or one that is taken, gets (2) behind it.

    same: what two names have in common that count as one.
    """
    used = {same(name) for name in taken}
    wanted = used | {same(name) for name in names}
    last: dict[str, int] = {}  # The number that the latest of a name got, to go on from there.
    result = []
    for name in names:
        found = name
        if same(name) in used:
            number = last.get(same(name), 1) + 1
            while same(found := numbered(name, number)) in wanted or same(found) in used:
                number += 1
            last[same(name)] = number
        used.add(same(found))
        result.append(found)
    return result


def numbered(name: str, number: int) -> str:
    """A file's name with a number before its ending, in the same folder."""
    folder, slash, last = name.rpartition("/")
    suffix = PurePosixPath(last).suffix
    return f"{folder}{slash}{last.removesuffix(suffix)} ({number}){suffix}"
