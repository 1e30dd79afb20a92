"""Images checked, hashed and stored under their hash, by as many threads as there are cores."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core import machine
from core.data import images
from core.data.labels import Placed
from core.data.members import Member, Source
from core.errors import HeadstartError
from core.settings import settings
from core.storage import Json

# Threads are handed some images at once, since handing over costs as much as a small image; few
# enough to keep memory flat.
PORTION_IMAGES, PORTION_BYTES = 16, 4_000_000
PORTIONS_AHEAD_PER_THREAD = 2
UNFORESEEN = "It cannot be read, in a way that was not foreseen"


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    file: str
    why: str


Outcome = Json | Skipped
Read = Callable[[], bytes]


def stored(
    source: Source, members: Sequence[tuple[Member, Placed]], folder: Path
) -> Iterator[Outcome]:
    """Each image checked and stored, in order: its row, or why it was skipped."""
    threads = machine.processors()
    waiting: deque[Future[list[Outcome]]] = deque()
    shelves = Shelves(folder / "images")
    with ThreadPoolExecutor(threads) as pool:
        try:
            for portion in portions(members):
                reads = [(reader(source, member), placed) for member, placed in portion]
                waiting.append(pool.submit(store_all, reads, shelves))
                if len(waiting) > threads * PORTIONS_AHEAD_PER_THREAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def portions(
    members: Sequence[tuple[Member, Placed]],
) -> Iterator[list[tuple[Member, Placed]]]:
    """The members in order, some at a time: few images, and few bytes unless one alone is large."""
    portion: list[tuple[Member, Placed]] = []
    size = 0
    for member, placed in members:
        if portion and (len(portion) == PORTION_IMAGES or size + member.size > PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append((member, placed))
        size += member.size
    if portion:
        yield portion


def reader(source: Source, member: Member) -> Read:
    """How a thread gets a member's bytes; where only one may read, they are read now."""
    if not source.in_order:
        return lambda: source.read(member)
    try:
        content = source.read(member)
    except HeadstartError as error:
        return raising(error)
    return lambda: content


def raising(error: HeadstartError) -> Read:
    """A reading that fails, though it was found out before."""

    def read() -> bytes:
        raise error

    return read


def store_all(reads: Sequence[tuple[Read, Placed]], shelves: Shelves) -> list[Outcome]:
    """What became of some images."""
    return [store(read, placed, shelves) for read, placed in reads]


def store(read: Read, placed: Placed, shelves: Shelves) -> Outcome:
    """Check one image and write it under its hash; its row in the index, or why it was skipped."""
    try:
        content = read()
        facts = images.examine(content, placed.name, shelves.limits)
    except HeadstartError as error:
        return Skipped(placed.name, str(error))
    except Exception as error:
        return Skipped(placed.name, f"{UNFORESEEN} ({type(error).__name__}).")
    return {
        "name": placed.called or placed.name,
        "label": placed.label,
        "part": placed.part or "",
        "sha256": shelves.keep(content),
        "width": facts.width,
        "height": facts.height,
        "bytes": len(content),
        "format": facts.format,
        "remarks": "; ".join(facts.remarks),
        "gray": facts.gray,
    }


class Shelves:
    """A folder of contents, each in a file named after its hash, in 256 folders.

    limits: the settings when it was begun, for all images alike.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.limits = str(folder), settings()
        for number in range(256):
            (folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)

    def keep(self, content: bytes) -> str:
        """Write a content, unless it is here already; its SHA-256 as text."""
        digest = hashlib.sha256(content).hexdigest()
        try:
            # Text and not a Path, which costs a tenth of what a small image does.
            with open(f"{self.folder}/{digest[:2]}/{digest}", "xb", buffering=0) as file:  # noqa: PTH123
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
        except FileExistsError:
            pass
        return digest
