"""What a user can correct in a dataset: each action with its words and what it refuses.

`ACTIONS` is the table that pages and the shell read. How an action changes the table of images is
in `replay`; here it is asked whether it makes sense now.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from core.data import grouping, replay, split
from core.data.dataset import Dataset
from core.data.replay import Lines
from core.data.state import State
from core.errors import DatasetRefused, NotFound, NotNow
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.storage import Json

USUAL_SHARES = (0.7, 0.15, 0.15)
LONGEST_CLASS_NAME = 120
LONGEST_WHO = 80
LOOK_AGAIN = "Reload the page; it may show an older revision."
NOTHING = "There is nothing to save."


@dataclass(frozen=True)
class Before:
    """A dataset as it stands before a correction.

    state: all images by name, excluded ones too, as `replay` has them.
    """

    dataset: Dataset
    state: State
    lines: Lines

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.dataset.classes


@dataclass(frozen=True)
class Action:
    """One kind of correction.

    check: the values as the journal keeps them (a table among them goes into a file of its own);
    it raises a HeadstartError for what makes no sense. words: what a line of the journal did.
    """

    title: str
    help: str
    check: Callable[[Before, Json], Json]
    words: Callable[[Json], str]


def clean_text(text: str, most: int) -> str:
    """What somebody typed, as one line of composed letters, at most so many characters."""
    plain = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    visible = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in plain)
    return " ".join(visible.split())[:most]


def class_name(before: Before, values: Json) -> str:
    """The class name `to`: one there is as it stands, a new one cleaned.

    Raises: DatasetRefused for an empty name or one that is too long.
    """
    text = values.get("to")
    if not isinstance(text, str):
        raise DatasetRefused("No class was named.", "Name the class that the images belong to.")
    if text in before.classes:
        return text
    name = clean_text(text, LONGEST_CLASS_NAME + 1)
    if not name:
        raise DatasetRefused("A class needs a name.", "Type at least one letter or digit.")
    if len(name) > LONGEST_CLASS_NAME:
        raise DatasetRefused(
            f"{name[:40]}… is longer than {LONGEST_CLASS_NAME} characters.", "Choose a shorter one."
        )
    return name


def known_class(before: Before, text: Any) -> str:
    """A class that there is.

    Raises: NotFound.
    """
    if text not in before.classes:
        raise NotFound(
            f"{before.dataset.name} has no class {str(text)[:80]}.",
            f"Its classes are {', '.join(before.classes[:10])}.",
        )
    return str(text)


def known_images(before: Before, values: Json, *, excluded: bool = False) -> list[str]:
    """The images `names`, each once; all present, or all excluded.

    Raises: NotFound for images that are not there, NotNow for those that are in the other state.
    """
    given = values.get("names")
    if not isinstance(given, list | tuple) or not given:
        raise DatasetRefused("No images were chosen.", "Choose at least one image.")
    names = list(dict.fromkeys(map(str, given)))
    rows = before.state.places(names)
    if (rows < 0).any():
        name = names[int(np.argmax(rows < 0))]
        raise NotFound(f"{before.dataset.name} has no image {name[:80]}.", LOOK_AGAIN)
    others = before.state.excluded[rows] != excluded
    if others.any():
        state = "not excluded" if excluded else "excluded"
        raise NotNow(f"{names[int(np.argmax(others))][:80]} is {state}.", LOOK_AGAIN)
    return names


def check_relabel(before: Before, values: Json) -> Json:
    """Only those images whose class it changes."""
    names, to = known_images(before, values), class_name(before, values)
    labels = before.state.labels[before.state.places(names)]
    changed = [name for name, label in zip(names, labels, strict=True) if label != to]
    if not changed:
        raise NotNow(f"All of these images are {to} already.", NOTHING)
    return {"names": changed, "to": to}


def check_exclude(before: Before, values: Json) -> Json:
    """Images that are there."""
    return {"names": known_images(before, values)}


def check_include(before: Before, values: Json) -> Json:
    """Images that are excluded."""
    return {"names": known_images(before, values, excluded=True)}


def check_keep(before: Before, values: Json) -> Json:
    """Images that are there, and a kind of finding."""
    kind = clean_text(str(values.get("kind", "")), LONGEST_CLASS_NAME)
    if not kind:
        raise DatasetRefused("No finding was named.", "Say which finding the images are fine in.")
    return {"kind": kind, "names": known_images(before, values)}


def check_rename(before: Before, values: Json) -> Json:
    """A class there is, and a name that no class has."""
    former, to = known_class(before, values.get("from")), class_name(before, values)
    if to == former:
        raise NotNow(f"The class is called {to} already.", NOTHING)
    if to in before.classes:
        raise DatasetRefused(
            f"There is a class {to} already.", f"Merge {former} into it, or choose another name."
        )
    return {"from": former, "to": to}


def check_merge(before: Before, values: Json) -> Json:
    """Classes there are, into one of them, another one, or a new one."""
    given = values.get("from")
    if not isinstance(given, list | tuple) or not given:
        raise DatasetRefused("No classes were chosen.", "Choose at least two classes.")
    to = class_name(before, values)
    former = [known_class(before, one) for one in dict.fromkeys(map(str, given)) if one != to]
    if len(former) + (to in before.classes) < 2:
        raise DatasetRefused("A merge needs two classes.", "Choose another one, or rename this.")
    return {"from": former, "to": to}


def check_split(before: Before, values: Json) -> Json:
    """Shares, seed and pattern; the parts and groups of all images that they give.

    Raises: DatasetRefused for what is no grouping, or when a part that is needed stays empty.
    """
    shares, seed = shares_of(values.get("shares", USUAL_SHARES)), whole(values.get("seed", 0))
    group_by = str(values.get("group_by") or "")
    parts, _ = divided(before, shares, seed, group_by)
    everything = before.state.table
    groups = grouping.merged(everything, group_by)
    units = pd.Series(grouping.units(everything.assign(group=groups)), everything["name"])
    # Excluded images go where those lie that they belong with, in case they are taken in again.
    given = pd.Series(parts, before.dataset.table["name"])
    beside = dict(zip(units[given.index], given, strict=True))
    made = given.reindex(units.index).fillna(units.map(lambda unit: beside.get(unit, "")))
    table = pd.DataFrame({"name": units.index, "part": made.to_numpy(dtype=str), "group": groups})
    return {"shares": list(shares), "seed": seed, "group_by": group_by, "parts": table}


def divided(
    before: Before, shares: tuple[float, float, float], seed: int, group_by: str
) -> tuple[np.ndarray, np.ndarray]:
    """What a split would make of a dataset's images: the part and the group of each, N text each.

    Near-duplicates are those that the imports found: an earlier split may have joined others.
    Raises: DatasetRefused as `split.made` does, and when nothing is left for the test.
    """
    table = before.dataset.table
    copies = before.state.table["group"].to_numpy()[before.state.places(table["name"])]
    free = replace(before.dataset, table=table.assign(group=copies))
    parts, groups = split.made(free, shares, seed, group_by)
    if "test" not in parts:
        raise DatasetRefused(
            "No images are left for the test.",
            "Raise the third share, or group the images otherwise.",
        )
    return parts, groups


def shares_of(values: Any) -> tuple[float, float, float]:
    """Three shares above 0 that add up to 1.

    A saved split is the same for every training, so that none may have to draw a part of its own.
    Raises: DatasetRefused.
    """
    with suppress(TypeError, ValueError):
        train, val, test = map(float, values)
        if train > 0 and val >= 0 and test >= 0 and abs(train + val + test - 1) < 1e-6:
            if val > 0 and test > 0:
                return train, val, test
            raise DatasetRefused(
                f"A saved split needs images for {'validation' if val == 0 else 'the test'}.",
                "Give each of the three shares more than 0.",
            )
    raise DatasetRefused(
        f"{str(values)[:80]} are no three shares that add up to 1.",
        "Give the shares for training, validation and test, such as 0.7, 0.15 and 0.15.",
    )


def whole(value: Any) -> int:
    """A whole number from 0 on.

    Raises: DatasetRefused.
    """
    with suppress(TypeError, ValueError, OverflowError):
        if int(value) == float(value) and 0 <= int(value) < 2**63:
            return int(value)
    raise DatasetRefused(f"{str(value)[:80]} is no whole number.", "Give one from 0 on.")


def check_undo(before: Before, values: Json) -> Json:
    """A revision that stands; the newest one, if none is named.

    Raises: NotFound, or NotNow for one that was taken back already.
    """
    standing = [line["revision"] for line in replay.standing(before.lines)]
    wanted = values.get("of")
    if wanted is None and not standing:
        raise NotNow(f"{before.dataset.name} is as it was imported.", "There is nothing to undo.")
    of = standing[-1] if wanted is None else whole(wanted)
    if of not in {line["revision"] for line in before.lines}:
        raise NotFound(f"Revision {of} is no correction.", LOOK_AGAIN)
    if of in replay.taken_back(before.lines):
        raise NotNow(f"Revision {of} was taken back already.", "To have it again, undo its undo.")
    return {"of": of}


def check_add(before: Before, values: Json) -> Json:
    """The rows of an upload whose images lie in the dataset's folder, and what is to be said."""
    if not len(values["added"]):
        raise DatasetRefused(
            f"{before.dataset.name} has all of these images already.", "There is nothing to add."
        )
    name = clean_text(str(values["name"]), LONGEST_CLASS_NAME)
    return {"images": len(values["added"]), **values, "name": name}


def plural(n: int) -> str:
    """Image or images."""
    return "image" if n == 1 else "images"


def images_text(names: Sequence[str]) -> str:
    """How many images, or the one image's name."""
    return names[0] if len(names) == 1 else f"{len(names):,} images"


ACTIONS: dict[str, Action] = {
    "relabel": Action(
        "Relabel",
        "Puts images into another class, which may be a new one.",
        check_relabel,
        lambda line: f"{images_text(line['names'])} relabelled to {line['to']}",
    ),
    "exclude": Action(
        "Exclude",
        "Leaves images out of everything from here on. Their files stay; they can be taken back.",
        check_exclude,
        lambda line: f"{images_text(line['names'])} excluded",
    ),
    "include": Action(
        "Take back in",
        "Takes images that were excluded in again.",
        check_include,
        lambda line: f"{images_text(line['names'])} taken back in",
    ),
    "keep": Action(
        "Keep",
        "Says that images are fine as they are: the finding lists them no longer.",
        check_keep,
        lambda line: f"{images_text(line['names'])} found fine ({line['kind']})",
    ),
    "rename": Action(
        "Rename a class",
        "Gives a class another name.",
        check_rename,
        lambda line: f"Class {line['from']} renamed to {line['to']}",
    ),
    "merge": Action(
        "Merge classes",
        "Makes one class of several.",
        check_merge,
        lambda line: f"Classes {', '.join(line['from'])} merged into {line['to']}",
    ),
    "split": Action(
        "Change the split",
        "Divides all images anew into training, validation and test, and keeps it so.",
        check_split,
        lambda line: f"Split changed to {' / '.join(f'{share:.0%}' for share in line['shares'])}",
    ),
    "add": Action(
        "Add an upload",
        "Adds the images of another upload; the same classes become one.",
        check_add,
        lambda line: f"{line['images']:,} {plural(line['images'])} added from {line['name']}",
    ),
    "undo": Action(
        "Undo",
        "Takes back one revision; an undo can be undone too.",
        check_undo,
        lambda line: f"Revision {line['of']} taken back",
    ),
}
