"""The labelled images on disk: one folder for each dataset, content stored under its hash.

`images.parquet` and `dataset.json` are revision 1 and never change; each line of `journal.jsonl`
makes another revision (`core.data.replay`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core import damage
from core.damage import DamagedItem
from core.data import noticing, replay
from core.data.state import COLUMNS, LATER_COLUMNS
from core.errors import Damaged, NotFound
from core.machine import late_pandas as pd
from core.settings import settings
from core.storage import Json, checked_id, read_json, write_json


@dataclass(frozen=True)
class Dataset:
    """One revision of labelled images, and where they lie.

    table: one row an image, sorted by name: `name` (as in the archive, unique), `label` (class
    name), `part` (train, val, test where the user chose it, else empty), `sha256` of the content,
    `width`, `height`, `bytes`, `format`, `remarks`, `group` (images of the same non-empty group
    stay on one side of a split). Columns are text but for the three sizes. Images that the user
    excluded are not in it.
    classes: the class names, sorted; class number k is `classes[k]`.
    skipped: the files that were left out while importing, with the reason. notes: sentences that
    the import, or an addition, had to say about the whole.
    """

    id: str
    name: str
    revision: int
    digest: str
    created: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    skipped: tuple[Json, ...]
    folder: Path
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> pd.Series[int]:
        """Class number of each image: N int64 in [0, C)."""
        numbers = {label: number for number, label in enumerate(self.classes)}
        return self.table["label"].map(numbers).astype("int64")

    def path_of(self, sha256: str) -> Path:
        """The file with an image's bytes."""
        return self.folder / "images" / sha256[:2] / sha256


def digest_of(table: pd.DataFrame) -> str:
    """One hash of all names, labels, parts and contents: equal data, equal digest."""
    rows = table[["name", "label", "part", "sha256"]].sort_values("name")
    text = json.dumps(rows.to_numpy().tolist(), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def table_of(rows: list[Json]) -> pd.DataFrame:
    """The rows of imported images as a table; what they do not say of later columns is empty."""
    return pd.DataFrame([{**LATER_COLUMNS, **row} for row in rows], columns=list(COLUMNS))


def write(
    folder: Path,
    dataset_id: str,
    name: str,
    created: str,
    rows: list[Json],
    skipped: list[Json],
    notes: Sequence[str] = (),
) -> None:
    """Write the index of a dataset whose images already lie in `folder/images`."""
    table = table_of(rows).sort_values("name", ignore_index=True)
    table.to_parquet(folder / "images.parquet", index=False)
    write_json(
        folder / "dataset.json",
        {
            "id": dataset_id,
            "name": name,
            "revision": 1,
            "digest": digest_of(table),
            "created": created,
            "classes": sorted(table["label"].unique()),
            "images": len(table),
            "skipped": skipped,
            "notes": list(notes),
        },
    )


def load(dataset_id: str, revision: int | None = None) -> Dataset:
    """A revision of the dataset with this id; the newest, if none is named.

    Raises: NotFound, Damaged.
    """
    folder = folder_of(dataset_id)
    with damage.reading("dataset", folder):
        newest = replay.newest(replay.lines_of(folder))
    wanted = newest if revision is None else revision
    if not 1 <= wanted <= newest:
        raise NotFound(
            f"The dataset {dataset_id} has no revision {wanted}.",
            f"The newest is {newest}; `python -m core journal {dataset_id}` lists all.",
        )
    with damage.reading("dataset", folder):
        return _load(folder, wanted)


def folder_of(dataset_id: str) -> Path:
    """The folder of the dataset with this id.

    Raises: NotFound.
    """
    folder = settings().datasets / checked_id(dataset_id)
    if not (folder / "dataset.json").exists():
        raise NotFound(
            f"There is no dataset {dataset_id}.", "`python -m core datasets` lists all of them."
        )
    return folder


@lru_cache(maxsize=16)
def _load(folder: Path, revision: int) -> Dataset:
    """A revision never changes once it is written, so that one reading serves everybody."""
    facts = read_json(folder / "dataset.json")
    lines = [line for line in replay.lines_of(folder) if line["revision"] <= revision]
    table = replay.table_at(folder, lines)
    return Dataset(
        id=facts["id"],
        name=facts["name"],
        revision=revision,
        digest=digest_of(table) if lines else facts["digest"],
        created=facts["created"],
        classes=tuple(sorted(table["label"].unique())),
        table=table,
        skipped=(*facts["skipped"], *replay.skipped_later(folder, lines)),
        folder=folder,
        notes=notes_of(facts.get("notes", ()), folder, lines, table),
    )


def notes_of(
    first: Sequence[str], folder: Path, lines: replay.Lines, table: pd.DataFrame
) -> tuple[str, ...]:
    """What there is to say of a revision: of its uploads, and of its images as they now are."""
    if not lines:
        return tuple(first)
    mended = set(noticing.of_images(replay.first_table(folder)))
    of_uploads = [one for one in (*first, *replay.notes_later(lines)) if one not in mended]
    return (*dict.fromkeys(of_uploads), *noticing.of_images(table))


def summaries() -> list[Json]:
    """Id, name, creation time and, of the newest revision, its number, digest, classes and size.

    The newest dataset comes first. `first_digest` is that of revision 1.
    """
    found = []
    for folder in folders():
        with suppress(Damaged):
            found.append(summary_of(folder))
    return sorted(found, key=lambda facts: str(facts["created"]), reverse=True)


def folders() -> list[Path]:
    """The folders of all datasets, damaged ones too."""
    return [path.parent for path in settings().datasets.glob("[!.]*/dataset.json")]


def damaged() -> list[DamagedItem]:
    """The datasets that cannot be read, each with its reason; they are left out of all lists."""
    found = []
    for folder in folders():
        try:
            summary_of(folder)
        except Damaged as error:
            found.append(damage.item("dataset", folder, error))
    return found


def summary_of(folder: Path) -> Json:
    """The facts of a dataset's newest revision; each line of its journal says what it changed.

    Raises: Damaged.
    """
    with damage.reading("dataset", folder):
        facts = read_json(folder / "dataset.json")
        del facts["skipped"]
        facts.pop("notes", None)
        facts["first_digest"] = facts["digest"]
        for line in replay.lines_of(folder):
            facts |= {**line["then"], "revision": line["revision"]}
        # What every list reads of it.
        _ = str(facts["id"]), str(facts["name"]), str(facts["created"]), [*facts["classes"]]
        _ = int(facts["images"]), int(facts["revision"])
        return facts


def find(text: str) -> Dataset | None:
    """The dataset with this id, or the newest one with this name."""
    for facts in summaries():
        if text in (facts["id"], facts["name"]):
            return load(facts["id"])
    return None


def with_digest(digest: str, but_not: str) -> Dataset | None:
    """The dataset that was imported with this content, but for the one with the id `but_not`.

    It may have been corrected since: what is found is its newest revision.
    """
    others = (facts for facts in summaries() if facts["id"] != but_not)
    match = next((facts for facts in others if facts["first_digest"] == digest), None)
    return load(match["id"]) if match else None


def delete(dataset_id: str) -> None:
    """Remove a dataset and its images; runs keep their figures."""
    shutil.rmtree(folder_of(dataset_id), ignore_errors=True)
    _load.cache_clear()
