"""A dataset as it now is, as a zip that every system can unpack and Headstart takes in again.

A folder for each class, below train, val and test where the split is fixed; the images' own bytes;
`labels.csv` with the names that classes and images have here; `journal.csv` with the corrections.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from core.data import dataset as datasets
from core.data import journal, layout
from core.data.cells import safe_cell
from core.data.dataset import Dataset
from core.data.labels import PACKED_COLUMNS
from core.data.names import distinct
from core.errors import MachineRefused, NotFound
from core.jobs import Step
from core.settings import settings
from core.storage import free_bytes, whole_file

HOURS_KEPT = 24
# What some file system forbids in a name.
FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
# Names that Windows takes for devices, whatever their ending.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
LONGEST_BYTES = 120
# The zip of the same revision has the same bytes, so that copies can be compared.
ALWAYS = (1980, 1, 1, 0, 0, 0)
LABELS, JOURNAL = "labels.csv", "journal.csv"
JOURNAL_COLUMNS = ("revision", "when", "who", "action", "what", "undone")


def packing_steps(
    stop: Callable[[], bool], *, dataset: str, revision: int | None = None
) -> Iterator[Step]:
    """The job that packs a revision for download; its result is {"dataset", "revision", "bytes"}.

    A zip that is there already is enough; it is kept for a day.
    Raises: NotFound, MachineRefused.
    """
    found = datasets.load(dataset, revision)
    clean_up()
    path = path_of(found)
    if not path.exists():
        yield from pack(found, path)
    result = {"dataset": found.id, "revision": found.revision, "bytes": path.stat().st_size}
    yield Step(len(found.table), len(found.table), "Packed", result=result)


def path_of(dataset: Dataset) -> Path:
    """Where the zip of a revision lies once it is packed."""
    return settings().cache / "packs" / f"{dataset.id}-{dataset.revision}.zip"


def packed(dataset: Dataset) -> Path:
    """The zip of a revision.

    Raises: NotFound before it is packed, or a day after.
    """
    path = path_of(dataset)
    if not path.exists():
        raise NotFound(
            f"Revision {dataset.revision} of {dataset.name} is not packed.",
            "Pack it on the Data page; the zip is kept for a day.",
        )
    return path


def clean_up() -> None:
    """Remove zips that were packed more than a day ago, and what a killed packing left."""
    for path in (settings().cache / "packs").glob("*"):
        if time.time() - path.stat().st_mtime > HOURS_KEPT * 3600:
            path.unlink(missing_ok=True)


def pack(dataset: Dataset, path: Path) -> Iterator[Step]:
    """Write a revision into a zip, image by image from disk to disk; yields how far it is.

    To abandon it is to cancel: the file appears when it is complete.
    Raises: MachineRefused when the disk has no room.
    """
    need_room(dataset, path)
    table, paths = dataset.table, members(dataset)
    lines = list(zip(paths, table["label"], table["part"], table["name"], strict=True))
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(info_of(LABELS), csv_of(PACKED_COLUMNS, lines).encode("utf-8-sig"))
        archive.writestr(info_of(JOURNAL), journal_csv(dataset).encode("utf-8-sig"))
        for done, (member, sha256) in enumerate(zip(paths, table["sha256"], strict=True), 1):
            store(archive, member, dataset.path_of(sha256))
            yield Step(done, len(paths), "Packing the images")


def need_room(dataset: Dataset, path: Path) -> None:
    """Refuse before writing what the disk cannot hold."""
    size = int(dataset.table["bytes"].sum())
    if size + settings().min_free_bytes > free_bytes(path.absolute().parent):
        raise MachineRefused(
            f"The zip needs {size / 1e9:.1f} GB and the disk of {path.parent} cannot spare that.",
            "Free some space, or write it to a larger disk.",
        )


def info_of(member: str) -> zipfile.ZipInfo:
    """A member that is compressed, of no date, an ordinary file."""
    info = zipfile.ZipInfo(member, ALWAYS)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    return info


def store(archive: zipfile.ZipFile, member: str, source: Path) -> None:
    """Add an image as it is: photos are compressed already."""
    info = info_of(member)
    info.compress_type, info.file_size = zipfile.ZIP_STORED, source.stat().st_size
    with source.open("rb") as content, archive.open(info, "w") as target:
        shutil.copyfileobj(content, target, 1 << 20)


def members(dataset: Dataset) -> list[str]:
    """The path of each image in the zip: safe on every system, and each its own on all of them."""
    table = dataset.table
    names = apart([LABELS, JOURNAL, *map(safe, dataset.classes)])[2:]
    folders = dict(zip(dataset.classes, names, strict=True))
    # Without any part the dataset has no split of its own; beside some, the rest is trained on.
    above = [f"{part or 'train'}/" if table["part"].any() else "" for part in table["part"]]
    paths = [
        f"{part}{folders[label]}/{safe(PurePosixPath(name).name)}"
        for part, label, name in zip(above, table["label"], table["name"], strict=True)
    ]
    return apart(paths)


def apart(names: Sequence[str]) -> list[str]:
    """Names that differ also where upper and lower case are one: the second of a kind gets (2)."""
    return distinct(names, same=str.casefold)


def safe(text: str) -> str:
    """One folder's or file's name that every system takes, as near to the text as can be."""
    plain = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    plain = "".join("_" if unicodedata.category(c)[0] == "C" else c for c in plain)
    plain = shortened(FORBIDDEN.sub("_", plain)).strip().rstrip(". ")
    if not plain or DEVICES.match(plain) or layout.is_junk(plain):
        plain = f"_{plain}"
    return plain


def shortened(name: str) -> str:
    """A name of not too many bytes, its ending kept."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= LONGEST_BYTES // 4 else ""
    stem = name.removesuffix(suffix).encode()[: LONGEST_BYTES - len(suffix.encode())]
    return stem.decode("utf-8", "ignore") + suffix


def journal_csv(dataset: Dataset) -> str:
    """The corrections that made this revision, the oldest first."""
    found = [r for r in reversed(journal.listed(dataset.id)) if r["revision"] <= dataset.revision]
    return csv_of(JOURNAL_COLUMNS, [[str(r[c]) for c in JOURNAL_COLUMNS] for r in found])


def csv_of(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as text, without a cell that a spreadsheet takes for a formula."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows([[safe_cell(cell) for cell in line] for line in lines])
    return buffer.getvalue()
