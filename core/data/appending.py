"""A second upload into a dataset: its new images become a revision, those it has already do not.

Copies are looked for while others may go on correcting. Then, under the journal's lock, contents
move into the dataset's folder, under their hashes, where nothing reads them yet, and one line of
the journal makes the revision. What an addition that died had moved is removed by the next start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from core.data import dataset as datasets
from core.data import grouping, journal, names, replay, signatures, split, twins
from core.data.actions import Before
from core.data.dataset import Dataset
from core.data.noticing import OF_UPLOAD, Seen, counted, notes
from core.errors import HeadstartError
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.settings import settings
from core.storage import Json, read_json, sync_folder, sync_tree, write_json

UNDIVIDED = (
    "An upload that was added said which images are for training and which for the test. That was "
    "not taken over, since nothing here was divided in this way."
)


def append(
    dataset_id: str,
    folder: Path,
    seen: Seen,
    skipped: Sequence[Json],
    name: str = "",
    who: str = "",
) -> twins.Steps[Dataset]:
    """Add images whose contents lie in `folder/images`; returns the dataset after it.

    Yields how much of the search for copies is done. skipped: as `dataset.write` takes it. Images
    whose content the dataset has, excluded ones too, are skipped as well. name: what the journal
    calls the upload.
    Raises: DatasetRefused when there is nothing new; what `journal.record` raises.
    """
    home = datasets.folder_of(dataset_id)
    sync_tree(folder)
    while True:
        known = journal.now(home)
        groups = yield from near_copies(known, folder, seen.rows)
        with journal.writing(dataset_id):
            before = journal.now(home)
            if not before.state.table["sha256"].equals(known.state.table["sha256"]):
                continue  # Somebody else has added images since: they may be copies too.
            remove_leftovers(home)
            action = addition(before, seen, skipped, groups)
            contents = list(action["added"]["sha256"])
            with moved_in(folder, home, contents):
                journal.write(home, before, {"name": name, **action}, who)
        signatures.taken_over(folder, home, set(contents))
        return datasets.load(dataset_id)


def near_copies(before: Before, folder: Path, rows: Sequence[Json]) -> twins.Steps[dict[str, str]]:
    """The group of each content, old or new, as near-duplicates make it; "" for those alone."""
    columns = ["sha256", "width", "height"]
    old = before.state.table[columns].drop_duplicates("sha256")
    new = pd.DataFrame(rows, columns=columns).drop_duplicates("sha256")
    new = new[~new["sha256"].isin(old["sha256"])]
    here, places = signatures.of(before.dataset, list(old["sha256"]))
    brought = signatures.Signatures(folder)
    places_of_new = brought.places(list(new["sha256"])) + len(here)
    union = pd.concat([old, new], ignore_index=True)
    groups = yield from twins.grouped(
        union,
        signatures.Both(here, brought),
        np.concatenate([places, places_of_new]),
        np.arange(len(union)) >= len(old),
    )
    return dict(zip(union["sha256"], map(str, groups), strict=True))


def addition(
    before: Before, seen: Seen, skipped: Sequence[Json], groups: Mapping[str, str]
) -> Json:
    """The correction that adds what is new of an upload."""
    fresh, copies = sifted(before, seen.rows)
    table = datasets.table_of(fitting(before, renamed(before, fresh)))
    added, regrouped = beside_copies(before, table, groups)
    return {
        "action": "add",
        "added": added,
        **({"regrouped": regrouped} if len(regrouped) else {}),
        "skipped": pd.DataFrame([*skipped, *copies], columns=["file", "why"], dtype="str"),
        "notes": noted(before, seen, table),
    }


def noted(before: Before, seen: Seen, table: pd.DataFrame) -> list[str]:
    """What is to be said of an upload that is added; of all images see `noticing.of_images`."""
    found = notes(seen, OF_UPLOAD)
    if new := sorted(set(table["label"]) - set(before.dataset.classes)):
        found.insert(0, f"New in revision {before.dataset.revision + 1}: {counted(new)}.")
    if not before.state.parts.any() and any(row["part"] for row in seen.rows):
        found.append(UNDIVIDED)
    return found


@contextmanager
def moved_in(folder: Path, home: Path, contents: Sequence[str]) -> Iterator[None]:
    """Contents in a dataset's folder, safely on the disk; taken away if what follows fails.

    What is to come is written down first, for the case that this process dies meanwhile.
    """
    new = [sha256 for sha256 in contents if not stored(home, sha256).exists()]
    write_json(home / "adding.json", {"contents": new})
    try:
        for sha256 in new:
            stored(home, sha256).parent.mkdir(parents=True, exist_ok=True)
            stored(folder, sha256).replace(stored(home, sha256))
        for parent in {stored(home, sha256).parent for sha256 in new}:
            sync_folder(parent)
        yield
    finally:
        remove_leftovers(home)


def stored(home: Path, sha256: str) -> Path:
    """Where a content lies in a dataset's folder."""
    return home / "images" / sha256[:2] / sha256


def remove_leftovers(home: Path) -> None:
    """Remove the contents that an addition brought whose revision was never made."""
    note = home / "adding.json"
    if not note.exists():
        return
    known = {sha256 for table in tables_of(home) for sha256 in table["sha256"]}
    for sha256 in read_json(note)["contents"]:
        if sha256 not in known:
            stored(home, sha256).unlink(missing_ok=True)
    note.unlink()


def clean_up() -> None:
    """Remove what additions that died left in datasets."""
    for note in settings().datasets.glob("[!.]*/adding.json"):
        # One that is at work keeps its dataset and cleans up after itself; one dataset that is
        # damaged must not keep the others, or the server, from going on.
        with (
            suppress(HeadstartError, OSError, ValueError, KeyError),
            journal.writing(note.parent.name, 0) as home,
        ):
            remove_leftovers(home)


def tables_of(home: Path) -> list[pd.DataFrame]:
    """The images that a dataset ever had, also of additions that were taken back."""
    lines = [line for line in replay.lines_of(home) if line["action"] == "add"]
    return [replay.first_table(home), *(pd.read_parquet(home / line["added"]) for line in lines)]


def sifted(before: Before, rows: Sequence[Json]) -> tuple[list[Json], list[Json]]:
    """The rows whose content is new, and what is to be said of the others."""
    state = before.state
    here = zip(state.index, state.labels, strict=True)
    known = dict(zip(state.table["sha256"], here, strict=True))
    out = set(state.index[state.excluded])
    fresh, twins = [], []
    for row in rows:
        twin = known.get(row["sha256"])
        if twin is None:
            known[row["sha256"]] = row["name"], row["label"]
            fresh.append(row)
        else:
            where = "is excluded" if twin[0] in out else f"is of the class {twin[1]}"
            twins.append(
                {"file": row["name"], "why": f"It is the same as {twin[0]}, which {where}."}
            )
    return fresh, twins


def renamed(before: Before, rows: Sequence[Json]) -> list[Json]:
    """The rows under names that no image of the dataset ever had.

    Also of additions that were taken back: they may come back.
    """
    taken = {name for table in tables_of(before.dataset.folder) for name in table["name"]}
    new = names.distinct([row["name"] for row in rows], taken)
    return [{**row, "name": name} for row, name in zip(rows, new, strict=True)]


def fitting(before: Before, rows: Sequence[Json]) -> list[Json]:
    """The rows without parts, where the dataset has none: a few images do not fix its split."""
    if before.state.parts.any():
        return list(rows)
    return [{**row, "part": ""} for row in rows]


def beside_copies(
    before: Before, table: pd.DataFrame, groups: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """New images in the group of their near-duplicates, and in the part of those the dataset has.

    Also the old images, with columns name and group, that new ones join with others of them, or
    with excluded ones. groups: of each content. A group is named after a content in it, so that one
    that was alone before needs no change. Where a split was saved, its way of grouping by name
    counts too, and what belongs to no old image is divided in its shares.
    """
    old = before.state.rows(np.ones(len(before.state.index), dtype=bool))
    union = pd.concat([old, table], ignore_index=True)
    found = union["sha256"].map(groups).to_numpy(dtype=str)
    saved = replay.saved_split(before.dataset.folder, before.dataset.revision)
    if saved:
        found = grouping.merged(union.assign(group=found), saved["group_by"])
    # The first old image of each group says what the group is called, and where it lies.
    own = old["group"].where(old["group"] != "", old["sha256"].str[: grouping.NAME_LENGTH])
    # Without a part beside others that have one, an image is learned from: `split.given`.
    lies = old["part"].where(old["part"] != "", "train" if saved else "")
    known: dict[str, tuple[str, str]] = {"": ("", "")}
    for name, group, part in zip(found, own, lies, strict=False):  # the old ones alone
        known.setdefault(name, (group, part))
    new = [known.get(name, (name, "")) for name in found[len(old) :]]
    parts = [part or beside for part, (_, beside) in zip(table["part"], new, strict=True)]
    grouped = table.assign(group=[group for group, _ in new], part=parts).astype(
        {"group": "str", "part": "str"}
    )
    joined = set(found[len(old) :]) - {""}
    called = np.array([known[name][0] if name in joined else "" for name in found[: len(old)]])
    apart = (called != "") & (called != own.to_numpy(dtype=str))
    regrouped = old.loc[apart, ["name"]].assign(group=called[apart])
    return (divided(old, grouped, saved) if saved else grouped), regrouped


def divided(old: pd.DataFrame, table: pd.DataFrame, saved: Json) -> pd.DataFrame:
    """New images that have no part yet in parts of their own, as a saved split was drawn."""
    parts = table["part"].to_numpy(dtype=str)
    of_group = {group: part for group, part in zip(table["group"], parts, strict=True) if part}
    of_group[""] = ""
    beside = np.array([of_group.get(group, "") for group in table["group"]], dtype=str)
    # Old images without a part beside others that have one are learned from: `split.given`.
    lying = old.assign(part=old["part"].where(old["part"] != "", "train"))
    union = pd.concat([lying, table.assign(part=np.where(parts == "", beside, parts))])
    union = union.reset_index(drop=True)
    given = union["part"].to_numpy(dtype=str)
    drawn = split.draw(union, given == "", split.PARTS, saved["shares"], saved["seed"], given)
    whole = np.where(given == "", drawn, given)[len(old) :]
    return table.assign(part=whole).astype({"part": "str"})
