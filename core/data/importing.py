"""Taking images in: archive -> names -> classes -> each file checked once -> a dataset, or nothing.

Data flow: `archive.opened` lists members; `layout.place` gives each a class; the threads of
`storing.stored` read, decode and keep them; the folder appears when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.data import appending, archive, dataset, layout, names, signatures, twins
from core.data.dataset import Dataset
from core.data.labels import Placed
from core.data.layout import Reading
from core.data.members import Member, Source
from core.data.noticing import Seen, notes
from core.data.storing import Skipped, stored
from core.data.tables import LARGEST_TABLE, LARGEST_TABLES
from core.errors import DatasetRefused, HeadstartError, MachineRefused
from core.settings import MEGABYTE, settings
from core.storage import Json, free_bytes, half_done, in_turn, new_id, whole_folder

ARCHIVE_ENDINGS = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
EMPTY = "The file is empty."
LOOKING = "Looking for copies among them"
TOO_LARGE = (
    f"It is no table that can be read: one may have {LARGEST_TABLE // MEGABYTE} MB, "
    f"and all together {LARGEST_TABLES // MEGABYTE} MB."
)


@dataclass(frozen=True)
class Imported:
    """How far an import has come, and with what; the last one carries the dataset.

    known: the dataset was there before, with these very images.
    """

    done: int
    total: int
    dataset: Dataset | None = None
    text: str = "Checking the images"
    known: bool = False


def import_images(
    path: Path, name: str = "", shown_as: str = "", reading: str = "", into: str = "", who: str = ""
) -> Iterator[Imported]:
    """Import a zip, tar or folder; yields how far it is, last the dataset.

    name: of the dataset; else the file's. shown_as: what refusals call the file. reading: the key
    of one of its `readings`; else the likeliest. into: the id of a dataset that it is to be added
    to, as a revision by `who`. The same images imported again give the dataset that is already
    there. To abandon the generator is to cancel the import; nothing stays behind.
    Raises: ArchiveRefused, DatasetRefused, MachineRefused; then nothing was written.
    """
    dataset_id = new_id()
    with archive.opened(path, shown_as) as source:
        known = dataset.load(into).classes if into else ()
        members, skipped = sorted_out(source, reading, known)
        need_room(sum(member.size for member, _ in members))
        place = half_done if into else whole_folder
        with place(settings().datasets / dataset_id) as folder:
            rows: list[Json] = []
            with signatures.written(folder) as sign:
                for done, outcome in enumerate(stored(source, members, folder), 1):
                    if isinstance(outcome, Skipped):
                        skipped.append(outcome)
                    else:
                        sign(outcome["sha256"], outcome.pop("gray"))
                        rows.append(outcome)
                    yield Imported(done, len(members))
            judge(rows, skipped, known)
            wanted = [placed for _, placed in members]
            seen = Seen(rows, wanted, source.folders, doubled(source))
            facts, title = [asdict(one) for one in skipped], name or title_of(path)
            if into:
                for share in appending.append(into, folder, seen, facts, shown_as or title, who):
                    yield Imported(int(share * len(rows)), len(rows), text=LOOKING)
            else:
                for share in twins.fill(folder, rows):
                    yield Imported(int(share * len(rows)), len(rows), text=LOOKING)
                yield Imported(len(members), len(members), text="Writing the list of images")
                created = datetime.now(UTC).isoformat(timespec="milliseconds")
                dataset.write(folder, dataset_id, title, created, rows, facts, notes(seen))
    made = dataset.load(into) if into else first_of_its_kind(dataset_id)
    known_before = not into and made.id != dataset_id
    yield Imported(len(members), len(members), made, known=known_before)


def import_all(
    path: Path, name: str = "", reading: str = "", into: str = "", who: str = ""
) -> Dataset:
    """Import without looking at the progress."""
    *_, last = import_images(path, name, reading=reading, into=into, who=who)
    if last.dataset is None:
        raise RuntimeError("an import that ends has a dataset")
    return last.dataset


def readings(path: Path, shown_as: str = "", into: str = "") -> list[Reading]:
    """The ways in which an upload may be meant, without reading its images; usually one.

    into: the id of a dataset that it is to be added to.
    Raises: ArchiveRefused; NotFound for no such dataset.
    """
    known = dataset.load(into).classes if into else ()
    with archive.opened(path, shown_as) as source:
        pictures, tables, _ = looked_through(source, members_of(source))
        return layout.readings([member.name for member in pictures], tables, known)


def import_root_entries() -> list[str]:
    """What a page may import from the server: folders and archives of the allowed root, by name."""
    root = settings().import_root
    if root is None or not root.is_dir():
        return []
    found = [p.name for p in root.iterdir() if not p.name.startswith(".") and not p.is_symlink()]
    return sorted(found)


def from_import_root(
    name: str, reading: str = "", into: str = "", who: str = ""
) -> Iterator[Imported]:
    """Import a folder or archive of the allowed root; the rest is as for `import_images`.

    Raises: DatasetRefused for a name that is not one of `import_root_entries`.
    """
    yield from import_images(in_import_root(name), reading=reading, into=into, who=who)


def in_import_root(name: str) -> Path:
    """Where a folder or archive of the allowed root lies.

    Raises: DatasetRefused for a name that is not one of `import_root_entries`.
    """
    root = settings().import_root
    if root is None or name not in import_root_entries():
        raise DatasetRefused(
            f"{name} is not in the folder that may be imported from.",
            "Set HEADSTART_IMPORT_ROOT on the server to the folder that holds it.",
        )
    return root / name


def title_of(path: Path) -> str:
    """A file's name without its endings: photos.tar.gz is called photos."""
    name = path.resolve().name
    return name if path.is_dir() else name.removesuffix(path.suffix).removesuffix(".tar")


def first_of_its_kind(dataset_id: str) -> Dataset:
    """The dataset that had the same content before, the new copy removed; else the new one.

    One import at a time: two of the same content would each remove the other's.
    """
    with in_turn(settings().home / "placing.lock"):
        new = dataset.load(dataset_id)
        former = dataset.with_digest(new.digest, but_not=new.id)
        if former is None or said(dataset.load(former.id, 1)) != said(new):
            return new
        dataset.delete(new.id)
        return former


def said(found: Dataset) -> tuple[object, ...]:
    """All that an import had to say beside the images themselves."""
    return found.skipped, found.notes


def need_room(size: int) -> None:
    """Refuse before writing what the disk cannot hold."""
    folder = settings().datasets
    if size + settings().min_free_bytes > free_bytes(folder):
        raise MachineRefused(
            f"The images need {size / 1e9:.1f} GB and the disk of {folder} cannot spare that.",
            "Free some space, or set HEADSTART_HOME to a larger disk.",
        )


def looked_through(
    source: Source, members: Sequence[Member]
) -> tuple[list[Member], dict[str, str], list[Skipped]]:
    """The members that may be images, the text of each table, and the damaged tables with why."""
    pictures = [m for m in members if layout.is_image_name(m.name)]
    return pictures, *read_tables(source, members)


def members_of(source: Source) -> list[Member]:
    """The members that are meant, under names of their own."""
    return distinct([m for m in source.members if not layout.is_junk(m.name)])


def sorted_out(
    source: Source, reading: str, known: Sequence[str]
) -> tuple[list[tuple[Member, Placed]], list[Skipped]]:
    """The members that are images of a class, with their class; and what is left out, with why.

    known: classes of the dataset that they are to be added to.
    """
    members = members_of(source)
    pictures, tables, damaged = looked_through(source, members)
    found = layout.place([m.name for m in pictures], tables, reading, known)
    placed = {one.name: one for one in found}
    said = {*placed, *tables, *(one.file for one in damaged)}
    skipped = damaged + [Skipped(m.name, reason_to_skip(m)) for m in members if m.name not in said]
    skipped += [Skipped(m.name, EMPTY) for m in pictures if m.name in placed and not m.size]
    pairs = [(m, placed[m.name]) for m in pictures if m.name in placed and m.size]
    return pairs, skipped


def read_tables(source: Source, members: Sequence[Member]) -> tuple[dict[str, str], list[Skipped]]:
    """Text of each table by its name; and those that are damaged, with why."""
    tables: dict[str, str] = {}
    damaged, total = [], 0
    for member in members:
        if not member.name.lower().endswith((".csv", ".tsv")):
            continue
        if member.size > min(LARGEST_TABLE, LARGEST_TABLES - total):
            damaged.append(Skipped(member.name, TOO_LARGE))
            continue
        try:
            tables[member.name] = text_of(source.read(member))
            total += member.size
        except HeadstartError as error:
            damaged.append(Skipped(member.name, error.what))
    return tables, damaged


def distinct(members: Sequence[Member]) -> list[Member]:
    """Members under names of their own: the second photo of a name gets (2) behind it."""
    new = names.distinct([member.name for member in members])
    return [Member(n, m.size, m.handle) for n, m in zip(new, members, strict=True)]


def doubled(source: Source) -> int:
    """How many files have the name of another."""
    meant = [member.name for member in source.members if not layout.is_junk(member.name)]
    return len(meant) - len(set(meant))


def reason_to_skip(member: Member) -> str:
    """Why a file is no labelled image."""
    if layout.is_image_name(member.name):
        return "It has no class: it lies in no class folder, or in no row of the table."
    if member.name.lower().endswith(ARCHIVE_ENDINGS):
        return "It is an archive inside the archive: unpack it first."
    return "It is no image."


def text_of(content: bytes) -> str:
    """A table's text: UTF-8 if it is that, else as old Windows programs write it."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def judge(rows: Sequence[Json], skipped: Sequence[Skipped], known: Sequence[str] = ()) -> None:
    """Refuse what nothing can be learned from, saying what was wrong with the files.

    known: classes of the dataset that they are to be added to.
    """
    classes = {row["label"] for row in rows}
    example = f" For example {skipped[0].file[:80]}: {skipped[0].why}" if skipped else ""
    if not rows:
        raise DatasetRefused(f"None of the images can be read.{example}", layout.EXPECTED)
    if len(classes | set(known)) < 2:
        raise DatasetRefused(
            f"Only one class has images that can be read ({next(iter(classes))[:80]}).{example}",
            layout.EXPECTED,
        )
    if len(classes) > settings().max_classes:
        raise DatasetRefused(
            f"There are {len(classes):,} classes and the limit is {settings().max_classes:,}.",
            "If each photo lies in a folder of its own, sort them by class first.",
        )
