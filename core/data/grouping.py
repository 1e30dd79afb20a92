"""Images that must stay on one side of a split: copies of each other, one patient, one film.

The groups come from near-duplicates (`twins`, the column `group`) and, if the user says so, from
the names of files and folders.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.errors import DatasetRefused
from core.machine import late_numpy as np
from core.machine import late_pandas as pd

LONGEST_PATTERN = 200
PATTERN_SECONDS = 10.0
PATTERN = "pattern:"
FOLDER = "folder:"
NAME_LENGTH = 16
# A pattern may take longer than the world will last, and Python cannot interrupt it: a child can
# be ended. `-I` keeps the user's environment out of it.
SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = [re.search(pattern, name) for name in names]
json.dump([(one.group(1) or "") if one else "" for one in found], sys.stdout)
"""
EXAMPLE = r"An example: ^(patient\d+)_ takes patient12 from patient12_left.jpg."


@dataclass(frozen=True)
class Grouping:
    """A way to tell from an image's name which group it is of; "" is none."""

    title: str
    help: str
    of: Callable[[str], str]


def file_name(name: str) -> str:
    """The last part of a path without its ending."""
    return PurePosixPath(name).stem


def before(mark: str) -> Callable[[str], str]:
    """What stands before the first mark in a file's name; none where there is no such mark."""

    def of(name: str) -> str:
        head, found, _ = file_name(name).partition(mark)
        return head if found else ""

    return of


def without_number(name: str) -> str:
    """Folder and name of a file but for the number at its end; none where there is no number."""
    stem = file_name(name)
    head = stem.rstrip("0123456789")
    kept = head.rstrip("_- (.")
    return f"{name.rpartition('/')[0]}/{kept}" if kept and head != stem else ""


# Beside these `folder:2` is the second folder of the path, and `pattern:…` a regular expression.
GROUPINGS: dict[str, Grouping] = {
    "": Grouping("Near-duplicates only", "Names of files say nothing about groups.", lambda _: ""),
    "before_": Grouping(
        "Name before the first _",
        "patient12_left.jpg and patient12_right.jpg are one group.",
        before("_"),
    ),
    "before-": Grouping(
        "Name before the first -",
        "site3-001.jpg and site3-002.jpg are one group.",
        before("-"),
    ),
    "without_number": Grouping(
        "Name without its last number",
        "Pictures of one film: clip7_0001.jpg and clip7_0002.jpg are one group.",
        without_number,
    ),
}


def named(names: Sequence[str], group_by: str) -> np.ndarray:
    """The group of each image that its name says, N text; "" for none.

    group_by: a key of `GROUPINGS`; `folder:2` for the second folder of the path, counted from the
    outermost; `pattern:…` for a regular expression with one pair of parentheses around the group.
    Raises: DatasetRefused for none of these, and for a pattern that takes too long.
    """
    if group_by.startswith(PATTERN):
        return searched(names, group_by.removeprefix(PATTERN))
    if group_by.startswith(FOLDER):
        return np.array([folder(name, level_of(group_by)) for name in names], dtype=str)
    if group_by not in GROUPINGS:
        raise DatasetRefused(
            f"{group_by[:80]} is no way to group images.",
            f"Choose {', '.join(filter(None, GROUPINGS))}, folder:2 or pattern:….",
        )
    return np.array([GROUPINGS[group_by].of(name) for name in names], dtype=str)


def level_of(group_by: str) -> int:
    """The number after `folder:`.

    Raises: DatasetRefused for anything else, and 0.
    """
    text = group_by.removeprefix(FOLDER)
    if not re.fullmatch("[1-9][0-9]?", text):
        raise DatasetRefused(f"{text[:80]} is no level of folders.", "Give a number from 1 on.")
    return int(text)


def folder(name: str, level: int) -> str:
    """The path down to the folder on a level, the outermost being 1; "" if it lies less deep."""
    folders = name.split("/")[:-1]
    return "/".join(folders[:level]) if len(folders) >= level else ""


def searched(names: Sequence[str], pattern: str) -> np.ndarray:
    """What the parentheses of a pattern find in each name, N text; "" where it is not found.

    Raises: DatasetRefused for what is no such pattern, or takes longer than ten seconds.
    """
    check_pattern(pattern)
    try:
        answer = subprocess.run(
            [sys.executable, "-I", "-c", SEARCH],
            input=json.dumps([pattern, list(names)]),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATTERN_SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise DatasetRefused(
            f"The pattern {pattern[:80]} takes too long on these names.",
            "Avoid repeating what is itself repeated, as in (a+)+; or group by folder.",
        ) from error
    return np.array(json.loads(answer.stdout), dtype=str)


def check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression with exactly one group."""
    if len(pattern) > LONGEST_PATTERN:
        raise DatasetRefused(
            f"The pattern has {len(pattern):,} characters and the limit is {LONGEST_PATTERN}.",
            "Give a shorter one, or group by folder.",
        )
    try:
        groups = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise DatasetRefused(f"The pattern is none: {error}.", EXAMPLE) from error
    if groups != 1:
        raise DatasetRefused(
            f"The pattern has {groups} pairs of parentheses, and one says what the group is.",
            f"{EXAMPLE} Write (?:…) for parentheses that only hold together.",
        )


def units(table: pd.DataFrame, others: Sequence[np.ndarray] = ()) -> np.ndarray:
    """What each image stays together with, N text: the least content hash it is joined with.

    Joined are the same content, the same `group`, and the same text other than "" in any of
    `others` (N each), over any number of steps. A group is named after a content, which needs not
    name the group itself: so images can be added to one that was alone before.
    """
    contents = table["sha256"].to_numpy(dtype=str)
    own = table["sha256"].str[:NAME_LENGTH].to_numpy(dtype=str)
    group = groups_of(table)
    keys = [contents, np.where(group == "", own, group)]
    keys += [np.where(other == "", contents, other) for other in others]
    least = pd.Series(contents)
    while True:
        lower = least
        for key in keys:
            lower = lower.groupby(key).transform("min")
        if lower.equals(least):
            return least.to_numpy(dtype=str)
        least = lower


def groups_of(table: pd.DataFrame) -> np.ndarray:
    """The column `group`, N text; "" throughout in tables of older versions."""
    return table["group"].to_numpy(dtype=str) if "group" in table else np.full(len(table), "")


def merged(table: pd.DataFrame, group_by: str) -> np.ndarray:
    """The group of each image, N text: near-duplicates, and what the names say; "" if alone.

    Raises: DatasetRefused as `named` does.
    """
    said = named(list(table["name"]), group_by)
    unit = pd.Series(units(table, [said]))
    contents = table["sha256"].reset_index(drop=True).groupby(unit).transform("nunique")
    grouped = (contents > 1) | (groups_of(table) != "") | (said != "")
    return np.where(grouped, unit.str[:NAME_LENGTH], "").astype(str)


def told(groups: np.ndarray) -> str:
    """How many groups there are and how large, in a sentence."""
    sizes = pd.Series(groups)[groups != ""].value_counts()
    if not len(sizes):
        return "No image is in a group."
    alone = int((groups == "").sum())
    count = "1 group" if len(sizes) == 1 else f"{len(sizes):,} groups"
    return f"{count}, the largest of {sizes.max():,} images; {alone:,} images are in none."
