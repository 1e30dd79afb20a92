"""What the owner of an upload should know at once, in a sentence each, though it was taken."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from core.data.labels import Placed
from core.data.layout import is_junk
from core.machine import late_pandas as pd
from core.storage import Json

MOST_NAMED = 5
# Unicode's control and format characters: line breaks, marks that turn the direction of writing.
INVISIBLE = ("Cc", "Cf")


@dataclass(frozen=True)
class Seen:
    """What an import has seen.

    rows: the images that were taken, as `dataset.write` takes them. wanted: all that had a class.
    folders: those that the archive names. doubled: how many files had the name of another.
    """

    rows: Sequence[Json]
    wanted: Sequence[Placed]
    folders: Sequence[str] = ()
    doubled: int = 0

    @cached_property
    def counts(self) -> Counter[str]:
        """Images of each class."""
        return Counter(row["label"] for row in self.rows)


def notes(seen: Seen, notices: Sequence[Callable[[Seen], str]] | None = None) -> list[str]:
    """The sentences that are due, the gravest first; all kinds of them, or some."""
    chosen = NOTICES if notices is None else notices
    return [sentence for notice in chosen if (sentence := notice(seen))]


def of_images(table: pd.DataFrame) -> list[str]:
    """The sentences that are due about the images of a dataset, however they came there."""
    columns = ("label", "part", "sha256")
    cells = zip(*(table[name] for name in columns), strict=True)
    rows = [dict(zip(columns, row, strict=True)) for row in cells]
    return notes(Seen(rows, ()), OF_IMAGES)


def vanished(seen: Seen) -> str:
    """Classes none of whose images could be read."""
    gone = {one.label for one in seen.wanted} - set(seen.counts)
    return f"No image of {counted(gone)} could be read: left out." if gone else ""


def untrained(seen: Seen) -> str:
    """Classes that the split of the upload has in validation or test alone."""
    parts: defaultdict[str, set[str]] = defaultdict(set)
    for row in seen.rows:
        parts[row["label"]].add(row["part"])
    if not any("train" in found for found in parts.values()):
        return ""
    lacking = {label for label, found in parts.items() if not found & {"train", ""}}
    if not lacking:
        return ""
    return (
        f"{upper(counted(lacking))} with images for validation or test but none for training: "
        "what is not trained on is not learned."
    )


def leaked(seen: Seen) -> str:
    """Contents that the split of the upload has on both sides."""
    parts: defaultdict[str, set[str]] = defaultdict(set)
    for row in seen.rows:
        parts[row["sha256"]].add(row["part"])
    both = sum(1 for found in parts.values() if "train" in found and len(found) > 1)
    if not both:
        return ""
    return (
        f"{both:,} of the images are for training and for validation or test too: the score on "
        "them would be too good."
    )


def empty(seen: Seen) -> str:
    """Folders beside those of the classes that hold no image."""
    names = [one.name for one in seen.wanted]
    filled = {folder for name in names for folder in above(name)}
    beside = {folder.rpartition("/")[0] for one in seen.wanted if (folder := class_folder(one))}
    found = {
        folder.rpartition("/")[2]
        for folder in seen.folders
        if folder not in filled and folder.rpartition("/")[0] in beside and not is_junk(folder)
    }
    return f"There is no image in the folder of {counted(found)}: left out." if found else ""


def alike(seen: Seen) -> str:
    """Classes whose names look the same."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(seen.counts):
        groups[skeleton(label)].append(label)
    found = [label for group in groups.values() if len(group) > 1 for label in group]
    if not found:
        return ""
    return (
        f"Names of classes differ only in case, spaces or what cannot be seen ({listed(found)}): "
        "merge them if they mean the same."
    )


def invisible(seen: Seen) -> str:
    """Classes whose names hold characters that cannot be seen, but for joined emoji."""
    found = [label for label in seen.counts if escaped(label) != label]
    return f"What cannot be seen is in the name of {counted(found)}." if found else ""


def doubled(seen: Seen) -> str:
    """Files of one name, which all were kept."""
    if not seen.doubled:
        return ""
    return f"{seen.doubled:,} of the files had the name of another: all were kept, numbered."


def rare(seen: Seen) -> str:
    """Classes with a single image."""
    found = [label for label, count in seen.counts.items() if count == 1]
    if not found:
        return ""
    return f"There is a single image of {counted(found)}: it cannot be learned and tested both."


OF_UPLOAD: tuple[Callable[[Seen], str], ...] = (vanished, empty, doubled)
OF_IMAGES: tuple[Callable[[Seen], str], ...] = (untrained, leaked, alike, invisible, rare)
NOTICES = (vanished, untrained, leaked, empty, alike, invisible, doubled, rare)


def counted(labels: Collection[str]) -> str:
    """How many classes, and the first of their names."""
    number = "1 class" if len(labels) == 1 else f"{len(labels):,} classes"
    return f"{number} ({listed(sorted(labels))})"


def listed(labels: Sequence[str]) -> str:
    """The first of some names, cut where they are long, and how many more there are."""
    more = f" and {len(labels) - MOST_NAMED:,} more" if len(labels) > MOST_NAMED else ""
    return ", ".join(escaped(label)[:60] for label in labels[:MOST_NAMED]) + more


def upper(counted: str) -> str:
    """The beginning of a sentence about classes."""
    return f"There {'is' if counted.startswith('1 class ') else 'are'} {counted}"


def above(name: str) -> Iterable[str]:
    """All folders that a file is in, each with those above it."""
    parts = name.split("/")[:-1]
    return ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def class_folder(placed: Placed) -> str:
    """The folder that gave an image its class; "" if a table did."""
    return next((f for f in above(placed.name) if f.rpartition("/")[2] == placed.label), "")


def skeleton(label: str) -> str:
    """What is left of a name without case, spaces and what cannot be seen."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(c for c in folded if unicodedata.category(c) not in INVISIBLE and c != " ")


def escaped(label: str) -> str:
    """A name in which what cannot be seen is spelled out; emoji may be joined by such."""
    return "".join(
        ascii(c)[1:-1] if unicodedata.category(c) in INVISIBLE and c != "\u200d" else c
        for c in label
    )
