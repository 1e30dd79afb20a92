"""One damaged item, or a full disk, takes nothing else down."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from core import damage, jobs
from core import recipe as recipes
from core.__main__ import guarded
from core.data import dataset as datasets
from core.data import importing, journal
from core.errors import Damaged, MachineRefused
from core.runs import damaged, queue, supervisor
from core.runs import run as runs
from core.runs.status import table
from core.settings import settings
from core.storage import append_line
from tests.pages.opening import opened, texts

WAYS = {
    "empty": b"",
    "cut": b'{"id": "x", "name',
    "binary": bytes(range(256)),
    "a list": b"[1, 2]",
    "a number": b"7",
    "other fields": b'{"id": "x"}',
}
PAGES = ("home", "data", "recipe", "train", "studies", "evaluate", "compare", "predict")


@pytest.fixture
def two(class_photos, make_folder):
    """Two datasets, each with a run that waits for nobody."""
    found = []
    for name in ("good", "bad"):
        photos = class_photos(f"{name} ants", f"{name} bees", each=6)
        dataset = importing.import_all(make_folder(photos), name)
        found.append((dataset, runs.create(dataset, recipes.preset("quick"), "quick")))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_dataset_or_run_is_named_and_the_others_are_listed(two, way):
    (good, good_run), (bad, bad_run) = two
    (bad.folder / "dataset.json").write_bytes(WAYS[way])
    (bad_run.folder / "run.json").write_bytes(WAYS[way])
    assert [one["id"] for one in datasets.summaries()] == [good.id]
    assert [one.id for one in runs.listed()] == [good_run.id]
    assert [row["id"] for row in table(runs.listed())] == [good_run.id]
    for item, folder in ((datasets.damaged(), bad.folder), (damaged.damaged(), bad_run.folder)):
        (one,) = item
        assert one.id == folder.name and one.id in one.what and "damaged" in one.what
        assert str(folder) in one.remedy
    datasets._load.cache_clear()  # As in a process that had not read it before.
    with pytest.raises(Damaged):
        datasets.load(bad.id)
    datasets.delete(bad.id)
    damaged.remove(bad_run.id)
    assert (datasets.damaged(), damaged.damaged()) == ([], [])


@pytest.mark.parametrize("line", [{"revision": 2}, {"revision": "x", "action": 7}, {"then": 1}])
def test_a_damaged_line_of_a_journal_damages_its_own_dataset_alone(two, line):
    (good, _), (bad, _) = two
    journal.record(bad.id, {"action": "exclude", "names": [bad.table["name"][0]]})
    append_line(bad.folder / "journal.jsonl", line)
    assert [one["id"] for one in datasets.summaries()] == [good.id]
    assert [one.id for one in datasets.damaged()] == [bad.id]


def test_a_recipe_that_cannot_be_read_damages_its_own_run_alone(two):
    (_, good), (_, bad) = two
    (bad.folder / "recipe.yaml").write_text("backbone: [")
    assert [one.id for one in runs.listed()] == [good.id]
    assert [one.id for one in damaged.damaged()] == [bad.id]


def test_every_page_opens_beside_damaged_items_and_home_shows_them(two):
    (_, _), (bad, bad_run) = two
    (bad.folder / "dataset.json").write_text("{")
    (bad_run.folder / "run.json").write_text("{")
    for page in PAGES:
        opened(page)  # It raises what a page raises.
    shown = opened("home")
    assert f"dataset {bad.id} is damaged" in texts(shown).replace("\\", "")
    for kind in ("dataset", "run"):
        name = f"Delete this damaged {kind}"
        next(one for one in shown.button if one.label == name).click().run()
    assert (datasets.damaged(), damaged.damaged()) == ([], [])


def test_an_unreadable_run_at_the_head_of_the_queue_fails_and_the_queue_goes_on(two):
    (_, good), (_, bad) = two
    for run in (bad, good):
        queue.add(run.id)
    (bad.folder / "recipe.yaml").write_text("technique: {name: [}")

    class Full:
        """An engine that has one place and starts nothing."""

        def __init__(self):
            self.started: list[str] = []

        def slots(self):
            return ["machine"]

        def submit(self, run, place):
            self.started.append(run.id)

    engine = Full()
    supervisor.fill(supervisor.Watch(engine))
    assert engine.started == [good.id]
    assert queue.entry(bad.id) is None
    last = bad.events()[-1]
    assert last.reason == "failed" and bad.id in last.what


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "is full"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "cannot be written to"),
        (sqlite3.OperationalError("database or disk is full"), "is full"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be written to"),
        (RuntimeError("PytorchStreamWriter: unexpected pos 64 vs 0"), "is full"),
    ],
)
def test_a_disk_error_is_one_sentence_with_the_disk_and_its_free_space(error, words, capsys):
    with pytest.raises(MachineRefused) as refused, damage.disk_errors():
        raise error
    assert words in refused.value.what and "MB are free" in refused.value.what
    assert str(settings().home) in refused.value.what and "cache" in refused.value.remedy

    def fails() -> None:
        raise error

    assert guarded(fails) == 2
    said = capsys.readouterr().err
    assert "MB are free" in said and "Traceback" not in said


def test_other_errors_stay_what_they_are():
    for error in (FileNotFoundError(errno.ENOENT, "x"), RuntimeError("x"), sqlite3.Error("x")):
        with pytest.raises(type(error)), damage.disk_errors():
            raise error


def test_pages_are_read_where_nothing_can_be_written(two, monkeypatch):
    queue.add(two[0][1].id)
    queue.release(two[0][1].id)

    def refuse(*given, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    home, mkdir, opening = settings().home, os.mkdir, os.open

    def no_writing(path, flags, *given, **options):
        inside = str(path).startswith(str(home))
        if inside and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse()
        return opening(path, flags, *given, **options)

    monkeypatch.setattr(os, "open", no_writing)
    monkeypatch.setattr(
        os,
        "mkdir",
        lambda path, *given, **options: (
            refuse() if str(path).startswith(str(home)) else mkdir(path, *given, **options)
        ),
    )
    monkeypatch.setattr(queue, "connected", refuse)
    for page in PAGES:
        shown = opened(page)
        assert not any("Headstart's home" in str(one.value) for one in shown.error), page


def test_a_job_on_a_full_disk_ends_with_the_sentence(monkeypatch):
    def steps():
        yield jobs.Step(1, 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(jobs, "work_of", lambda job: steps())
    folder = settings().jobs / "x"
    last = list(jobs.happening(jobs.Job("map", {}, "x", "", folder)))[-1]
    assert last["ended"] == "refused" and "MB are free" in last["what"]
