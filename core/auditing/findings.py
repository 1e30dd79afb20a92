"""The findings of a dataset: kept with the revision they were made for, shown for later ones too.

`audits/<revision>.json` in the dataset's folder is one audit. What has been put right since, or
found fine, is left out while a newer audit is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from core.auditing.kinds import KINDS
from core.data import dataset as datasets
from core.data import journal
from core.data.dataset import Dataset
from core.machine import late_pandas as pd
from core.storage import Json, read_json, write_json

# Kinds that follow from labels and parts: an image that got others is no longer meant.
OF_LABELS = frozenset(("leak", "contradiction", "label_error", "few_images", "giveaway"))


@dataclass(frozen=True)
class Group:
    """Images that belong together in a finding, or one image.

    about: what is to be said of them. to: the class that the image probably is, else "". near:
    the nearest images of that class. mixed: whether their labels differ.
    """

    names: tuple[str, ...]
    about: str = ""
    to: str = ""
    near: tuple[str, ...] = ()
    mixed: bool = False


@dataclass(frozen=True)
class Finding:
    """All that was found of one kind, the most important first."""

    kind: str
    groups: tuple[Group, ...]

    def to_json(self) -> Json:
        """As it is kept and as the shell prints it: lists beside each other, one entry a group."""
        kind = KINDS[self.kind]
        return {
            "kind": self.kind,
            "title": kind.title,
            "severity": kind.severity,
            "count": len(self.groups),
            "images": [list(one.names) for one in self.groups],
            "about": [one.about for one in self.groups],
            "to": [one.to for one in self.groups],
            "near": [list(one.near) for one in self.groups],
            "mixed": [one.mixed for one in self.groups],
        }


@dataclass(frozen=True)
class Findings:
    """An audit: what was found in which revision, and what else is to be said.

    revision, digest: of the data that was looked at. fresh: whether that is still the data as it
    is. notes: sentences, also on what could not be looked at. counts: for each class "class",
    "images", "train", "val", "test". seconds: what the audit took.
    """

    dataset: str
    revision: int
    digest: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    counts: tuple[Json, ...] = ()
    images: int = 0
    seconds: float = 0.0
    fresh: bool = True

    def of(self, kind: str) -> tuple[Group, ...]:
        """The groups of one kind."""
        return next((one.groups for one in self.findings if one.kind == kind), ())

    def to_json(self) -> Json:
        """As it is kept and as the shell prints it."""
        return {
            "dataset": self.dataset,
            "revision": self.revision,
            "digest": self.digest,
            "fresh": self.fresh,
            "images": self.images,
            "findings": [one.to_json() for one in self.findings],
            "notes": list(self.notes),
            "counts": list(self.counts),
            "seconds": round(self.seconds, 3),
        }


def from_json(content: Json) -> Findings:
    """What `Findings.to_json` gave."""
    return Findings(
        dataset=content["dataset"], revision=content["revision"], digest=content["digest"],
        findings=tuple(finding_of(one) for one in content["findings"] if one["kind"] in KINDS),
        notes=tuple(content["notes"]), counts=tuple(content["counts"]), images=content["images"],
        seconds=content["seconds"], fresh=content["fresh"],
    )  # fmt: skip


def finding_of(content: Json) -> Finding:
    """What `Finding.to_json` gave."""
    columns = (content[name] for name in ("images", "about", "to", "near", "mixed"))
    groups = (
        Group(tuple(names), about, to, tuple(near), mixed)
        for names, about, to, near, mixed in zip(*columns, strict=True)
    )
    return Finding(content["kind"], tuple(groups))


def save(folder: Path, findings: Findings) -> None:
    """Keep an audit with the revision it was made for."""
    write_json(folder / "audits" / f"{findings.revision}.json", findings.to_json())


def audited(dataset: Dataset) -> list[int]:
    """The revisions up to this one that have an audit, the newest first."""
    kept = (path.stem for path in (dataset.folder / "audits").glob("[0-9]*.json"))
    return sorted((int(one) for one in kept if int(one) <= dataset.revision), reverse=True)


def load(dataset: Dataset) -> Findings | None:
    """The findings of a revision, or what is left of an earlier one's; None before any audit.

    Left out is what was marked as fine or excluded, and what rests on labels changed since.
    """
    revisions = audited(dataset)
    if not revisions:
        return None
    kept = from_json(read_json(dataset.folder / "audits" / f"{revisions[0]}.json"))
    return as_now(kept, dataset)


def as_now(kept: Findings, dataset: Dataset) -> Findings:
    """An audit as it is to be shown for a revision, its own or a later one."""
    fresh = kept.digest == dataset.digest
    fine = journal.kept(dataset)
    there = set(dataset.table["name"])
    changed = set() if fresh else changed_since(kept, dataset)
    shown = (still(one, there, changed, fine.get(one.kind, set())) for one in kept.findings)
    return replace(kept, fresh=fresh, findings=tuple(one for one in shown if one.groups))


def changed_since(kept: Findings, dataset: Dataset) -> set[str]:
    """Images that have another label or part than they had for an audit."""
    columns = ["label", "part", "group"]
    then = datasets.load(dataset.id, kept.revision).table.set_index("name")[columns]
    now = dataset.table.set_index("name")[columns].reindex(then.index)
    return set(then.index[(then != now).any(axis=1)])


def still(finding: Finding, there: set[str], changed: set[str], fine: set[str]) -> Finding:
    """A finding without images that have gone, groups that are fine, and what no longer holds."""
    least = 2 if KINDS[finding.kind].of_groups and finding.kind in OF_COPIES else 1
    of_labels = finding.kind in OF_LABELS
    groups = []
    for group in finding.groups:
        names = tuple(name for name in group.names if name in there)
        outdated = of_labels and not changed.isdisjoint(group.names)
        if len(names) >= least and not outdated and not fine.issuperset(names):
            near = tuple(name for name in group.near if name in there)
            groups.append(replace(group, names=names, near=near))
    return Finding(finding.kind, tuple(groups))


# Kinds whose groups are copies of each other: one image alone is none.
OF_COPIES = frozenset(("exact_duplicate", "near_duplicate", "contradiction", "leak"))


def suggestion(kind: str, group: Group) -> Json | None:
    """The correction that one click makes, as the journal takes it; None where the user decides."""
    return SUGGESTIONS[KINDS[kind].action](group)


SUGGESTIONS: dict[str, Callable[[Group], Json | None]] = {
    "exclude": lambda group: {"action": "exclude", "names": list(group.names)},
    "exclude_copies": lambda group: (
        None if group.mixed else {"action": "exclude", "names": list(group.names[1:])}
    ),
    "relabel": lambda group: {"action": "relabel", "names": list(group.names), "to": group.to},
    "": lambda group: None,
}


def looked_at(kind: str, group: Group) -> Json:
    """The correction that says a group is fine, as the journal takes it."""
    return {"action": "keep", "kind": kind, "names": list(group.names)}


def marks(findings: Findings | None, names: Iterable[str]) -> list[str]:
    """The titles of the findings that each image is in, for a table or a map; "" for none."""
    told: dict[str, list[str]] = {}
    for finding in findings.findings if findings else ():
        for name in {name for group in finding.groups for name in group.names}:
            told.setdefault(name, []).append(KINDS[finding.kind].title)
    return ["; ".join(told.get(name, [])) for name in names]


def counts_of(per_class: pd.DataFrame) -> tuple[Json, ...]:
    """How many images each class has in all and in each part, from `split.per_class`."""
    return tuple(
        {"class": str(label), "images": int(row.sum()), **{str(k): int(v) for k, v in row.items()}}
        for label, row in per_class.iterrows()
    )


def timed(findings: Findings, seconds: float) -> Findings:
    """An audit, with what it took."""
    return replace(findings, seconds=seconds)
