"""The corrections of a dataset: each one a line of its journal, each line a revision.

`record` asks `actions` whether a correction makes sense, writes its large values into files of
their own, and then, under a lock, one line: only that line makes the revision. A writer that dies
before it has changed nothing.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from core.data import dataset as datasets
from core.data import replay
from core.data.actions import ACTIONS as ACTIONS
from core.data.actions import LONGEST_WHO, Before, clean_text, divided, shares_of
from core.data.comparing import compare as compare
from core.data.dataset import Dataset
from core.errors import DatasetRefused, HeadstartError, MachineRefused, NotNow
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.settings import settings
from core.storage import Json, append_line, cut_lines, held, whole_file

SECONDS_TO_GET_THE_LOCK = 20.0


def record(
    dataset_id: str, action: Json, who: str = "", expected_revision: int | None = None
) -> Dataset:
    """Make one correction; the dataset after it.

    action: its kind under "action", and its values, such as
    `{"action": "relabel", "names": ["ants/1.jpg"], "to": "bees"}`. who: else the user of this
    process. expected_revision: the one that the user saw.
    Raises: NotNow when that is not the newest any more; NotFound and DatasetRefused for what makes
    no sense; MachineRefused when the disk is full. Then nothing has changed.
    """
    with writing(dataset_id) as folder:
        before = now(folder)
        need(before, expected_revision)
        write(folder, before, action, who)
    return datasets.load(dataset_id)


def write(folder: Path, before: Before, action: Json, who: str) -> None:
    """Make one correction while nobody else may (`writing`)."""
    line = {
        "revision": before.dataset.revision + 1,
        "when": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": clean_text(who, LONGEST_WHO) or user_name(),
        "action": kind_of(action),
        **ACTIONS[kind_of(action)].check(before, action),
    }
    line = with_files(folder, line)
    try:
        append(folder, before, line)
    except HeadstartError:
        for name in line.values():
            if str(name).endswith(f"-{line['revision']}.parquet"):
                (folder / str(name)).unlink(missing_ok=True)
        raise


@contextmanager
def writing(dataset_id: str, seconds: float = SECONDS_TO_GET_THE_LOCK) -> Iterator[Path]:
    """The folder of a dataset while nobody else may correct it.

    Raises: NotFound, and NotNow when somebody else keeps it for so many seconds.
    """
    folder = datasets.folder_of(dataset_id)
    try:
        with held(folder / "journal.lock", seconds):
            cut_lines(replay.journal_of(folder))
            yield folder
    except Timeout as error:
        raise NotNow("Somebody else is just saving.", "Try again in a minute.") from error


def now(folder: Path) -> Before:
    """A dataset as it stands."""
    lines = replay.lines_of(folder)
    return Before(datasets.load(folder.name), replay.state_at(folder, lines), lines)


def need(before: Before, expected_revision: int | None) -> None:
    """Refuse a correction of something that has changed since the user looked."""
    revision = before.dataset.revision
    if expected_revision not in (None, revision):
        raise NotNow(
            f"Somebody has saved revision {revision} while you looked at {expected_revision}.",
            "Look at the newest revision and correct that.",
        )


def kind_of(action: Json) -> str:
    """The kind of a correction.

    Raises: DatasetRefused for an unknown one.
    """
    kind = action.get("action")
    if not isinstance(kind, str) or kind not in ACTIONS:
        raise DatasetRefused(
            f"There is no correction called {str(kind)[:80]}.", f"Known are {', '.join(ACTIONS)}."
        )
    return kind


def user_name() -> str:
    """The user whose process this is; "" where the system does not say."""
    with suppress(OSError, KeyError, ImportError):
        return clean_text(getpass.getuser(), LONGEST_WHO)
    return ""


def with_files(folder: Path, line: Json) -> Json:
    """A line whose tables have gone into files beside the journal, named after the revision."""
    names = {
        key: f"{key}-{line['revision']}.parquet"
        for key, value in line.items()
        if isinstance(value, pd.DataFrame)
    }
    for key, name in names.items():
        with whole_file(folder / name) as file:
            line[key].to_parquet(file, index=False)
    return {**line, **names}


def append(folder: Path, before: Before, line: Json) -> None:
    """Write a line, with what it changes in the dataset's summary.

    Raises: DatasetRefused when what is left could not be learned from; MachineRefused.
    """
    former = before.dataset
    table = replay.table_at(folder, [*before.lines, line])
    classes = sorted(table["label"].unique())
    judge(former, classes)
    facts = {"digest": datasets.digest_of(table), "images": len(table), "classes": classes}
    known = {
        "digest": former.digest, "images": len(former.table), "classes": list(former.classes),
    }  # fmt: skip
    then = {key: value for key, value in facts.items() if value != known[key]}
    write_line(replay.journal_of(folder), {**line, "then": then})


def judge(former: Dataset, classes: list[str]) -> None:
    """Refuse a correction after which there are too few classes, or too many."""
    if len(classes) < 2:
        left = f"Only the class {classes[0]}" if classes else "No class"
        raise DatasetRefused(
            f"{left} would be left in {former.name}.",
            "A classifier needs two classes with images; keep some of another.",
        )
    if len(classes) > settings().max_classes:
        raise DatasetRefused(
            f"There would be {len(classes):,} classes and the limit is {settings().max_classes:,}.",
            "Choose a class that there is.",
        )


def write_line(path: Path, line: Json) -> None:
    """Add a line to the journal, or nothing at all.

    Raises: MachineRefused.
    """
    size = path.stat().st_size if path.exists() else 0
    try:
        append_line(path, line, durable=True)
    except OSError as error:
        with suppress(OSError):
            os.truncate(path, size)
        raise MachineRefused(
            f"The correction could not be saved: {error.strerror or error}.",
            "Free some disk space, or check who may write to HEADSTART_HOME.",
        ) from error


def proposed(
    dataset: Dataset, shares: tuple[float, float, float], seed: int, group_by: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """What the correction "split" would make of a dataset: part and group of each image, N text.

    Raises: DatasetRefused as that correction does.
    """
    found = lines_until(dataset)
    before = Before(dataset, replay.state_at(dataset.folder, found), found)
    return divided(before, shares_of(shares), seed, group_by)


def lines(dataset_id: str) -> list[Json]:
    """The journal: one line for each revision after the first, the oldest first."""
    return list(replay.lines_of(datasets.folder_of(dataset_id)))


def in_words(line: Json) -> str:
    """What a line did."""
    return ACTIONS[line["action"]].words(line) if line["action"] in ACTIONS else line["action"]


def listed(dataset_id: str) -> list[Json]:
    """The journal as rows of a table, the newest revision first; `undone` says what counts not."""
    found = lines(dataset_id)
    gone = replay.taken_back(found)
    return [
        {
            "revision": line["revision"],
            "when": line["when"],
            "who": line["who"],
            "action": line["action"],
            "what": in_words(line),
            "undone": line["revision"] in gone,
        }
        for line in reversed(found)
    ]


def kept(dataset: Dataset) -> dict[str, set[str]]:
    """The images that somebody found fine in this revision, by kind of finding."""
    found: dict[str, set[str]] = {}
    for line in replay.standing(lines_until(dataset)):
        if line["action"] == "keep":
            found.setdefault(line["kind"], set()).update(line["names"])
    return found


def excluded(dataset: Dataset) -> pd.DataFrame:
    """The images that are excluded in this revision: the columns of a dataset's table."""
    state = replay.state_at(dataset.folder, lines_until(dataset))
    return state.rows(state.excluded)


def lines_until(dataset: Dataset) -> list[Json]:
    """The lines that made this revision."""
    known = replay.lines_of(dataset.folder)
    return [line for line in known if line["revision"] <= dataset.revision]
