"""From file names alone to classes and splits: what people mean by the way they sorted photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from posixpath import splitext

from core.data.images import IMAGE_ENDINGS
from core.data.labels import PARTS, Placed, from_tables, packed
from core.errors import DatasetRefused

JUNK = frozenset(("__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "__pycache__"))
EXPECTED = (
    "Put each class in a folder of its own (photos/ants/…, photos/bees/…), or the images beside "
    "one CSV file with the columns file and label."
)


@dataclass(frozen=True)
class Reading:
    """One way in which folders or tables may be meant.

    key: names it, for `place`. title: what it goes by, in words. classes: the class names that it
    gives, sorted. example: a file and its class. default: whether it is taken if nobody is asked.
    """

    key: str
    title: str
    classes: tuple[str, ...]
    example: str
    default: bool


def is_junk(name: str) -> bool:
    """Whether a file is the leftover of some program: hidden, or known to be one."""
    return any(p.startswith(".") or p.lower() in JUNK for p in name.split("/"))


def is_image_name(name: str) -> bool:
    """Whether a file is meant as an image; one without an ending may be."""
    suffix = splitext(name)[1].lower()  # Ten times as fast as PurePosixPath.
    return suffix in IMAGE_ENDINGS or not suffix


LabelOf = Callable[[tuple[str, ...]], str]


def outer(folders: tuple[str, ...]) -> str:
    """The uppermost folder: photos/ants/female/1.jpg is of the class ants."""
    return folders[0]


def joined(folders: tuple[str, ...]) -> str:
    """Two levels: ants/female."""
    return "/".join(folders[:2])


def inner(folders: tuple[str, ...]) -> str:
    """The folder below the uppermost, where there is one: female."""
    return folders[:2][-1]


Way = tuple[Reading, list[Placed]]


def readings(
    names: Sequence[str], tables: Mapping[str, str], known: Sequence[str] = ()
) -> list[Reading]:
    """The ways in which people may have meant their folders and tables, the likeliest first.

    Each gives at least two classes, or one beside those known; usually there is one way. names,
    tables, known: as for `place`.
    """
    return [reading for reading, _ in ways(names, tables, known)]


def place(
    names: Sequence[str],
    tables: Mapping[str, str],
    reading: str = "",
    known: Sequence[str] = (),
) -> list[Placed]:
    """Class and part of every image.

    names: of the image files, with `/`. tables: text of each CSV file by its name. reading: the
    key of one of `readings`; else the likeliest. known: classes of the dataset that they are added
    to; images of one class will do then, but of a new one only by its key.
    Raises: DatasetRefused when no way of reading the folders gives two classes, or for a key that
    is none of them.
    """
    found = ways(names, tables, known)
    chosen = next(((one, placed) for one, placed in found if reading in ("", one.key)), None)
    if chosen is not None and not reading and unsure(chosen[0], known):
        raise DatasetRefused(
            f"All images would be of a new class ({chosen[0].classes[0][:80]}).",
            f"If it is one, say so: `--classes {chosen[0].key}`. Else call the folder like a class "
            "of the dataset.",
        )
    if chosen is not None:
        return chosen[1]
    if found:
        raise DatasetRefused(
            f"The images cannot be read by {reading[:80]}.",
            f"Choose one of {', '.join(one.key for one, _ in found)}.",
        )
    raise refusal(names)


def unsure(reading: Reading, known: Sequence[str]) -> bool:
    """Whether images for a dataset are all of one class that it does not have: better ask."""
    return bool(known) and len(reading.classes) == 1 and reading.classes[0] not in known


def refusal(names: Sequence[str]) -> DatasetRefused:
    """Why no way of reading the folders gives two classes."""
    classes = {placed.label for placed in from_folders(names)}
    if not names:
        return DatasetRefused("There are no images in it.", EXPECTED)
    if not classes:
        return DatasetRefused("The images are not sorted into classes.", EXPECTED)
    return DatasetRefused(
        f"There are images of one class only ({next(iter(classes))[:80]}).", EXPECTED
    )


def ways(names: Sequence[str], tables: Mapping[str, str], known: Sequence[str] = ()) -> list[Way]:
    """Each reading with the class of every image; readings that come to the same are one.

    known: those with more images of these classes come first.
    """
    ours = next((way for name in tables if (way := packed(names, name, tables[name]))), None)
    if ours:
        return [(described("packed", "As Headstart packed it", ours, default=True), ours)]
    by_folders = folder_ways(names)
    first = by_folders[0][2]
    usual = several(first) and not all(one.label.lower() in PARTS for one in first)
    by_tables = list(from_tables(names, tables, named_only=usual))
    order = [*by_folders, *by_tables] if usual else [*by_tables, *by_folders]
    if known:
        order += [("known", "The folder that is called like a class", from_known(names, known))]
        order.sort(key=lambda way: -sum(one.label in known for one in way[2]))
    result: list[Way] = []
    for key, title, placed in order:
        enough = several(placed) or (known and placed)
        if enough and not any(same(placed, other) for _, other in result):
            result.append((described(key, title, placed, default=not result), placed))
    return result


def several(placed: Sequence[Placed]) -> bool:
    """Whether there are two classes or more."""
    return len({one.label for one in placed}) > 1


def same(some: Sequence[Placed], others: Sequence[Placed]) -> bool:
    """Whether two readings come to the same for every image."""
    return set(some) == set(others)


def folder_ways(names: Sequence[str]) -> list[tuple[str, str, list[Placed]]]:
    """The readings that folders give: key, title, class of each image; the uppermost comes first.

    A deeper level is one where it says more than the uppermost, and not of each image something
    else; the inner folder alone, where its names recur (patient 1/ill, patient 2/ill).
    """
    first, both = from_folders(names), from_folders(names, joined)
    found = [("folders", "The folder of each image", first)]
    coarse, fine = (len({one.label for one in way}) for way in (first, both))
    if coarse < fine <= len(both) // 2:
        found.append(("folders/2", "Two levels of folders", both))
        last = from_folders(names, inner)
        if len({one.label for one in last}) < fine:
            found.append(("inner", "The inner folder of each image", last))
    return found


def described(key: str, title: str, placed: Sequence[Placed], *, default: bool) -> Reading:
    """A reading in words, with an example."""
    one = placed[-1]
    example = f"{one.name} is {one.label}"
    return Reading(key, title, tuple(sorted({p.label for p in placed})), example, default)


def from_folders(names: Sequence[str], label_of: LabelOf = outer) -> list[Placed]:
    """Each image by the folder it is in: below the wrapping folders, and below train/val/test.

    label_of: which of the folders is the class; `outer` is the uppermost.
    Files that lie beside the class folders have no class and are left out.
    """
    pairs = [(name, tuple(name.split("/")[:-1])) for name in names]
    pairs = below(pairs, shared(pairs))
    part_of = {name: part for name, folders in pairs if (part := PARTS.get(folders[0].lower()))}
    inside = [(n, folders[1:]) for n, folders in pairs if n in part_of and len(folders) > 1]
    sorted_in = below(inside, shared(inside))
    trained_on = {folders[0] for name, folders in sorted_in if part_of[name] == "train"}
    # Other folders beside train and test ("images to test") hold what nobody has labelled.
    if len(trained_on) < 2 or len(set(part_of.values())) < 2:
        return [Placed(name, label_of(folders), None) for name, folders in pairs]
    return [Placed(name, label_of(folders), part_of[name]) for name, folders in sorted_in]


def from_known(names: Sequence[str], known: Sequence[str]) -> list[Placed]:
    """Each image by the innermost of its folders that is called like a known class; or none.

    Others above it may say the part.
    """
    found = []
    for name in names:
        folders = name.split("/")[:-1]
        labels = [folder for folder in folders if folder in known]
        parts = [part for folder in folders if (part := PARTS.get(folder.lower()))]
        if labels:
            found.append(Placed(name, labels[-1], parts[0] if parts else None))
    return found if len(found) == len(names) else []


Pairs = list[tuple[str, tuple[str, ...]]]


def below(pairs: Pairs, depth: int) -> Pairs:
    """The images that lie in folders below a depth, those folders alone."""
    return [(name, folders[depth:]) for name, folders in pairs if len(folders) > depth]


def shared(pairs: Pairs) -> int:
    """How many leading folders only wrap the class folders: one at each depth, more below it."""
    depth = 0
    while True:
        here = {folders[depth] for _, folders in pairs if len(folders) > depth}
        deeper = any(len(folders) > depth + 1 for _, folders in pairs)
        if len(here) != 1 or not deeper:
            return depth
        depth += 1
