"""Any corrections, in any order, by several processes, on old data, on a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data import dataset, importing, journal, replay
from core.data.dataset import Dataset
from core.data.state import COLUMNS
from core.errors import DatasetRefused, HeadstartError, NotNow
from core.storage import read_json, write_json
from tests.conftest import make_photo

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and limits")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def insects(class_photos, make_zip) -> Dataset:
    return importing.import_all(make_zip(class_photos("ants", "bees", "wasps", each=2)), "Insects")


def forget() -> None:
    """As another process that has read nothing yet."""
    dataset._load.cache_clear()
    replay._lines.cache_clear()
    replay._first_state.cache_clear()


NAMES = [f"{label}/{n}.jpg" for label in ("ants", "bees", "wasps") for n in range(2)]
CLASSES = ("ants", "bees", "wasps", "Ants", "new")
some_names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)
some_class = st.sampled_from(CLASSES)
corrections = st.one_of(
    st.fixed_dictionaries(
        {"action": st.just("relabel"), "names": some_names, "to": some_class}
    ),
    st.fixed_dictionaries(
        {"action": st.sampled_from(["exclude", "include"]), "names": some_names}
    ),
    st.fixed_dictionaries(
        {"action": st.just("keep"), "names": some_names, "kind": st.just("dark")}
    ),
    st.fixed_dictionaries({"action": st.just("rename"), "from": some_class, "to": some_class}),
    st.fixed_dictionaries(
        {"action": st.just("merge"), "from": st.lists(some_class, min_size=1), "to": some_class}
    ),
    st.fixed_dictionaries(
        {"action": st.just("split"), "shares": st.just([0.5, 0.25, 0.25]), "seed": st.just(1)}
    ),
    st.fixed_dictionaries({"action": st.just("undo"), "of": st.none() | st.integers(2, 9)}),
)  # fmt: skip
Rows = dict[str, tuple[str, bool]]


def by_hand(lines: list[dict]) -> Rows:
    """Class of each image, and whether it is excluded, by the plainest reading of a journal."""
    counts = {line["revision"]: True for line in lines}
    for line in reversed(lines):
        if line["action"] == "undo" and counts[line["revision"]]:
            counts[line["of"]] = False
    rows = {name: (name.partition("/")[0], False) for name in NAMES}
    for line in lines:
        if counts[line["revision"]]:
            rows = {name: cell(line, name, *rows[name]) for name in rows}
    return rows


def cell(line: dict, name: str, label: str, out: bool) -> tuple[str, bool]:
    """What a line makes of one image."""
    kind = line["action"]
    if name in line.get("names", ()) and kind in ("exclude", "include"):
        return label, kind == "exclude"
    if name in line.get("names", ()) and kind == "relabel":
        return line["to"], out
    former = line.get("from", ())
    if kind in ("rename", "merge") and label in ([former] if kind == "rename" else former):
        return line["to"], out
    return label, out


@settings(max_examples=25)
@given(steps=st.lists(corrections, max_size=12))
def test_any_corrections_and_undos_come_to_what_the_journal_says(tmp_path_factory, steps: list):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_HOME", str(tmp_path_factory.mktemp("home")))
        folder = dataset.settings().datasets / "insects"
        folder.mkdir(parents=True)
        rows = [
            {"name": name, "label": name.partition("/")[0], "part": "", "sha256": f"{k:064d}",
             "width": 4, "height": 3, "bytes": 9, "format": "JPEG", "remarks": ""}
            for k, name in enumerate(NAMES)
        ]  # fmt: skip
        dataset.write(folder, "insects", "Insects", "2026-01-01", rows, [])
        seen = [dataset.load("insects")]
        for step in steps:
            with suppress(HeadstartError):
                seen.append(journal.record("insects", step))
        forget()
        lines = journal.lines("insects")
        assert [line["revision"] for line in lines] == list(range(2, len(seen) + 1))
        for former in seen:
            again = dataset.load("insects", former.revision)
            assert again.digest == former.digest and again.table.equals(former.table)
            wanted = by_hand(lines[: former.revision - 1])
            shown = dict(zip(again.table["name"], again.table["label"], strict=True))
            assert shown == {name: label for name, (label, out) in wanted.items() if not out}
            assert set(journal.excluded(again)["name"]) == {n for n, (_, o) in wanted.items() if o}
            assert len(again.classes) >= 2
        (facts,) = dataset.summaries()
        newest = seen[-1]
        assert (facts["digest"], facts["images"]) == (newest.digest, len(newest.table))
        assert facts["classes"] == list(newest.classes)


def test_a_correction_that_leaves_one_class_is_refused(insects: Dataset):
    journal.record(insects.id, {"action": "merge", "from": ["ants"], "to": "bees"})
    with pytest.raises(DatasetRefused, match="Only the class bees would be left"):
        journal.record(insects.id, {"action": "exclude", "names": ["wasps/0.jpg", "wasps/1.jpg"]})
    assert dataset.load(insects.id).revision == 2


def test_a_class_goes_with_its_last_image_and_comes_back_with_it(insects: Dataset):
    names = ["ants/0.jpg", "ants/1.jpg"]
    assert journal.record(insects.id, {"action": "exclude", "names": names}).classes == (
        "bees", "wasps",
    )  # fmt: skip
    back = journal.record(insects.id, {"action": "include", "names": names[:1]})
    assert back.classes == insects.classes


def test_what_was_kept_is_known_by_finding_until_it_is_undone(insects: Dataset):
    for kind, names in (("dark", NAMES[:2]), ("blurred", NAMES[3:4])):
        journal.record(insects.id, {"action": "keep", "kind": kind, "names": names})
    newest = journal.record(insects.id, {"action": "undo", "of": 3})
    assert newest.digest == insects.digest
    assert journal.kept(dataset.load(insects.id, 3)) == {
        "dark": set(NAMES[:2]), "blurred": {NAMES[3]},
    }  # fmt: skip
    assert journal.kept(newest) == {"dark": set(NAMES[:2])}
    assert journal.kept(insects) == {}


WRITER = """
import sys
from core.data import journal
from core.errors import NotNow
dataset_id, label = sys.argv[1:]
for number in range(15):
    name = f"ants/{number % 2}.jpg"
    try:
        journal.record(dataset_id, {"action": "relabel", "names": [name], "to": f"{label} {number}"}, label)
    except NotNow as error:
        print(error)
"""  # noqa: E501


def test_two_processes_that_write_at_once_lose_nothing(insects: Dataset):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, insects.id, label], cwd=ROOT)
        for label in ("one", "two")
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    lines = journal.lines(insects.id)
    assert [line["revision"] for line in lines] == list(range(2, 32))
    for label in ("one", "two"):
        mine = [line["to"] for line in lines if line["who"] == label]
        assert mine == [f"{label} {number}" for number in range(15)]
    assert dataset.load(insects.id).revision == 31


def test_of_two_who_saw_the_same_revision_one_is_refused(insects: Dataset):
    command = [sys.executable, "-c", WRITER.replace("label)\n", "label, 1)\n"), insects.id]
    writers = [
        subprocess.Popen([*command, label], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for label in ("one", "two")
    ]
    said = [writer.communicate(timeout=120)[0].count("Somebody has saved") for writer in writers]
    assert sum(said) == 29
    assert [line["revision"] for line in journal.lines(insects.id)] == [2]


@posix_only
def test_a_writer_that_is_killed_leaves_whole_revisions(insects: Dataset):
    endless = WRITER.replace("range(15)", "range(10**6)")
    for _ in range(2):
        before = len(journal.lines(insects.id))
        writer = subprocess.Popen([sys.executable, "-c", endless, insects.id, "one"], cwd=ROOT)
        while len(journal.lines(insects.id)) < before + 3:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    forget()
    lines = journal.lines(insects.id)
    assert [line["revision"] for line in lines] == list(range(2, len(lines) + 2))
    assert journal.record(insects.id, {"action": "undo"}).revision == len(lines) + 2


@pytest.mark.parametrize("torn", [b'{"revision": 3, "acti', b'{"revision": 3, "action": "undo"}'])
def test_a_torn_last_line_is_no_revision_and_is_cut_off(insects: Dataset, torn: bytes):
    exclude = {"action": "exclude", "names": ["ants/0.jpg"]}
    journal.record(insects.id, exclude)
    path = replay.journal_of(insects.folder)
    with path.open("ab") as file:
        file.write(torn)
    assert dataset.load(insects.id).revision == 2
    assert journal.record(insects.id, {"action": "undo"}, expected_revision=2).revision == 3
    assert len(path.read_bytes().splitlines()) == 2
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


FULL = """
import resource, signal, sys
from core.data import journal
from core.errors import MachineRefused
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    journal.record(sys.argv[1], {"action": "exclude", "names": ["bees/0.jpg"]})
except MachineRefused as error:
    print(error.what)
"""


@posix_only
def test_when_the_disk_is_full_in_the_middle_of_a_line_nothing_is_saved_and_it_is_said(
    insects: Dataset,
):
    journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    path = replay.journal_of(insects.folder)
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL, insects.id, str(len(before) + 30)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "could not be saved" in done.stdout
    assert path.read_bytes() == before
    assert dataset.load(insects.id).revision == 2


def test_somebody_who_keeps_saving_makes_others_wait_and_then_refuses(insects, monkeypatch):
    monkeypatch.setattr(journal, "SECONDS_TO_GET_THE_LOCK", 0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from core.data import journal\n"
         "with journal.writing(sys.argv[1]): print('held', flush=True); time.sleep(60)",
         insects.id],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(NotNow, match="Somebody else is just saving"):
            journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    finally:
        holder.kill()
        holder.wait()
    assert journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]}).revision == 2


def test_a_dataset_of_an_older_version_is_read_and_corrected(insects: Dataset):
    path = insects.folder / "images.parquet"
    old = pd.read_parquet(path).drop(columns=["group"])
    old.to_parquet(path, index=False)
    facts = read_json(insects.folder / "dataset.json")
    keys = ("id", "name", "revision", "digest", "created", "classes", "images", "skipped")
    write_json(insects.folder / "dataset.json", {key: facts[key] for key in keys})
    forget()
    found = dataset.load(insects.id)
    assert list(found.table.columns) == list(COLUMNS)
    assert found.digest == insects.digest and set(found.table["group"]) == {""}
    corrected = journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    assert list(corrected.table.columns) == list(COLUMNS) and len(corrected.table) == 5


def test_a_journal_of_a_newer_version_is_refused_in_words(insects: Dataset):
    line = {"revision": 2, "when": "", "who": "", "action": "rotate", "then": {}}
    replay.journal_of(insects.folder).write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(DatasetRefused, match="does not know"):
        dataset.load(insects.id)
    assert dataset.load(insects.id, 1).digest == insects.digest
    assert [facts["id"] for facts in dataset.summaries()] == [insects.id]


@pytest.mark.parametrize("who", ["", "Ada\nLovelace", "\u202eada", " " * 9, "x" * 999])
def test_who_made_a_correction_is_one_short_line(insects: Dataset, who: str):
    journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]}, who)
    (row,) = journal.listed(insects.id)
    assert len(row["who"]) <= 80 and "\n" not in row["who"] and "\u202e" not in row["who"]


def test_a_class_may_have_a_name_in_any_letters(insects: Dataset):
    relabel = {
        "action": "relabel",
        "names": ["ants/0.jpg"],
        "to": " \u5c0f\u718a  e\u0301 \U0001f41c ",
    }
    assert "\u5c0f\u718a \xe9 \U0001f41c" in journal.record(insects.id, relabel).classes


def test_a_run_is_pinned_to_its_revision(insects: Dataset):
    from core import recipe as recipes
    from core.runs import run as runs
    from core.runs import status

    run = runs.create(insects, recipes.preset("quick"))
    corrected = journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    assert runs.data_of(run).revision == 1 and len(runs.data_of(run).table) == 6
    later = runs.create(corrected, recipes.preset("quick"))
    assert (later.revision, later.digest) == (2, corrected.digest)
    assert runs.data_of(runs.load(later.id)).digest == corrected.digest
    assert [row["revision"] for row in status.table([run, later])] == [1, 2]


def test_the_same_training_on_another_revision_is_another_run(insects: Dataset, monkeypatch):
    from core import recipe as recipes
    from core.runs import queue, supervisor
    from core.runs import run as runs

    monkeypatch.setattr(supervisor, "ensure", lambda: None)
    first = runs.start(insects, recipes.preset("quick"))
    assert runs.start(insects, recipes.preset("quick")).id == first.id
    corrected = journal.record(insects.id, {"action": "exclude", "names": ["ants/0.jpg"]})
    assert runs.start(corrected, recipes.preset("quick")).id != first.id
    assert len(queue.entries()) == 2


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=200)
@given(
    kind=st.sampled_from([kind for kind in journal.ACTIONS if kind != "add"]) | st.text(max_size=5),
    values=st.dictionaries(
        st.sampled_from(["names", "to", "from", "kind", "shares", "seed", "group_by", "of"]),
        anything | some_names | some_class,
    ),
)
def test_whatever_is_asked_is_done_or_refused_in_words(insects, kind: str, values: dict):
    before = dataset.load(insects.id)
    try:
        after = journal.record(insects.id, {"action": kind, **values})
        assert after.revision == before.revision + 1
    except HeadstartError as error:
        assert error.what.endswith(".") and error.remedy.endswith(".")
        assert dataset.load(insects.id) is before


def test_an_excluded_image_taken_back_in_lies_where_its_copy_does(make_zip):
    photos = {
        f"{label}/{n}.jpg": make_photo(n, kind=kind)
        for kind, label in enumerate(("ants", "bees"))
        for n in range(6)
    }
    copies = {f"ants/copy {n}.jpg": photos[f"ants/{n}.jpg"] for n in range(6)}
    found = importing.import_all(make_zip({**photos, **copies}))
    journal.record(found.id, {"action": "exclude", "names": list(copies)})
    journal.record(found.id, {"action": "split", "shares": [0.4, 0.3, 0.3], "seed": 1})
    again = journal.record(found.id, {"action": "include", "names": list(copies)})
    part_of = dict(zip(again.table["name"], again.table["part"], strict=True))
    assert [part_of[f"ants/copy {n}.jpg"] for n in range(6)] == [
        part_of[f"ants/{n}.jpg"] for n in range(6)
    ]
    assert set(part_of.values()) == {"train", "val", "test"}
