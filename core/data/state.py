"""All images of a dataset between two corrections, in a form that a correction changes quickly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from core.machine import late_numpy as np
from core.machine import late_pandas as pd

COLUMNS = (
    "name", "label", "part", "sha256", "width", "height", "bytes", "format", "remarks", "group",
)  # fmt: skip
# Columns that datasets of older versions lack, with what then stands in them.
LATER_COLUMNS = {"group": ""}


@dataclass(frozen=True)
class State:
    """N images, excluded ones too; corrections exchange the arrays and share the table.

    table: what no correction changes, in the rows of the others. index: the names. classes: names
    of classes, each once, also of those that lost their images. codes: N int32, the place of each
    image's class in `classes`. parts, groups: N texts. excluded: N bool.
    """

    table: pd.DataFrame
    index: pd.Index
    classes: tuple[str, ...]
    codes: np.ndarray
    parts: np.ndarray
    groups: np.ndarray
    excluded: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The class name of each image: N texts."""
        return np.asarray(np.array(self.classes, dtype=object)[self.codes])

    def places(self, names: Iterable[str]) -> np.ndarray:
        """Row number of each named image; -1 for a name that is not there."""
        return np.asarray(self.index.get_indexer(pd.Index(list(names), dtype=object)))

    def known(self, names: Iterable[str]) -> np.ndarray:
        """Row numbers of the named images; names that are not there are passed over.

        A correction may stand after the addition that brought its images was taken back.
        """
        found = self.places(names)
        return np.asarray(found[found >= 0])

    def code_of(self, label: str) -> tuple[State, int]:
        """The place of a class among `classes`, which a new class joins."""
        if label in self.classes:
            return self, self.classes.index(label)
        return replace(self, classes=(*self.classes, label)), len(self.classes)

    def rows(self, chosen: np.ndarray) -> pd.DataFrame:
        """Some images (N bool) with all columns, sorted by name."""
        rows = np.flatnonzero(chosen)
        if not self.index.is_monotonic_increasing:
            rows = rows[np.argsort(self.index.to_numpy()[rows], kind="stable")]
        texts = {"label": self.labels, "part": self.parts, "group": self.groups}
        columns = {name: pd.Series(cells[rows], dtype="str") for name, cells in texts.items()}
        return self.table.take(rows).reset_index(drop=True).assign(**columns)[list(COLUMNS)]


def state_of(table: pd.DataFrame) -> State:
    """A dataset's table before any correction."""
    codes, classes = pd.factorize(table["label"].to_numpy(dtype=object))
    return State(
        table=table,
        index=pd.Index(table["name"].to_numpy(dtype=object), dtype=object),
        classes=tuple(map(str, classes)),
        codes=codes.astype(np.int32),
        parts=table["part"].to_numpy(dtype=object),
        groups=table["group"].to_numpy(dtype=object),
        excluded=np.zeros(len(table), dtype=bool),
    )


def joined(state: State, table: pd.DataFrame) -> State:
    """A state with the images of another table besides."""
    other = state_of(table)
    for label in other.classes:
        state, _ = state.code_of(label)
    codes = np.array([state.classes.index(label) for label in other.classes], dtype=np.int32)
    return State(
        table=pd.concat([state.table, table], ignore_index=True),
        index=state.index.append(other.index),
        classes=state.classes,
        codes=np.concatenate([state.codes, codes[other.codes]]),
        parts=np.concatenate([state.parts, other.parts]),
        groups=np.concatenate([state.groups, other.groups]),
        excluded=np.concatenate([state.excluded, other.excluded]),
    )


def with_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it was written, with every column of today."""
    return table.assign(**{c: value for c, value in LATER_COLUMNS.items() if c not in table})
