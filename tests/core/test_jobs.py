"""Jobs in true processes of their own: watched, cancelled, killed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from core import jobs, storage
from core.data import dataset
from core.errors import NotFound
from core.jobs import Job
from core.serving import uploads
from core.settings import settings
from tests.core import odd_jobs

posix_only = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")


@pytest.fixture(autouse=True)
def odd_kinds(monkeypatch: pytest.MonkeyPatch):
    """The kinds of `odd_jobs`; no process of theirs outlives the test."""
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-m", "tests.core.odd_jobs"))
    monkeypatch.setattr(jobs, "KINDS", jobs.KINDS | odd_jobs.KINDS)
    before = set(jobs.started_here)
    yield
    for job_id in set(jobs.started_here) - before:
        child = jobs.started_here.pop(job_id)
        if child.poll() is None:
            jobs.processes.kill_with_children(child.pid)
        child.wait()


def wait(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def over(job: Job) -> str:
    """The state in which it ends."""
    wait(lambda: job.state not in jobs.LIVE)
    return job.state


def begun(kind: str, **values: object) -> Job:
    """A job that has told its first step."""
    job = jobs.start(kind, values)
    wait(lambda: job.latest().done)
    assert job.state == "running"
    return job


def test_a_job_tells_how_far_it_is_and_what_came_out():
    job = jobs.start("counting", {"to": 3}, "One, two, three")
    assert job.state in jobs.LIVE and job.result is None and job.refusal is None
    assert over(job) == "done"
    assert (job.latest().done, job.latest().total) == (3, 3)
    assert job.latest().text == "counting to 3"
    assert job.result == {"sum": 6} and job.refusal is None
    assert jobs.load(job.id) == job and job.name == "One, two, three"


def test_the_time_left_follows_from_the_pace():
    assert jobs.Step(25, 100, seconds=10.0).seconds_left == 30.0
    assert jobs.Step(0, 100, seconds=10.0).seconds_left is None
    assert jobs.Step(25, 0, seconds=10.0).seconds_left is None
    assert jobs.Step(125, 500, seconds=10.0, first=100).seconds_left == 150.0
    assert jobs.Step(100, 500, seconds=0.1, first=100).seconds_left is None


def test_each_part_of_the_work_is_told_and_timed_by_itself():
    job = jobs.start("staged", {})
    assert over(job) == "done"
    lines = storage.read_lines(job.log)
    assert [line["first"] for line in lines if line["text"] == "the quick part"] == [1]
    slow = [line for line in lines if line["text"] == "the slow part"]
    assert {line["first"] for line in slow} == {11} and slow[0]["seconds"] < 0.2
    middle = next(line for line in slow if line["done"] == 16)
    assert 0.8 < 4 * 0.3 / jobs.Step(16, 20, "", middle["seconds"], first=11).seconds_left < 1.3


def test_a_thousand_quick_steps_are_few_lines():
    job = jobs.start("counting", {"to": 1000})
    assert over(job) == "done"
    assert len(storage.read_lines(job.log)) < 50 and job.latest().done == 1000


def test_a_refusal_carries_what_is_wrong_and_what_to_do():
    job = jobs.start("refusing", {})
    assert over(job) == "refused"
    assert job.refusal == ("There are no images in it.", "Add some.")


def test_a_fault_of_ours_is_told_in_a_sentence_and_its_traceback_is_in_the_log_alone():
    job = jobs.start("mistaken", {})
    assert over(job) == "failed"
    what, remedy = job.refusal or ("", "")
    assert "ZeroDivisionError" in what and "Traceback" not in what + remedy and remedy
    assert "Traceback" in (job.folder / "job.log").read_text()


def test_a_cancelled_job_stops_at_its_next_step_and_leaves_nothing(home: Path):
    job = begun("building")
    assert list((home / "datasets").iterdir())
    job.cancel()
    assert over(job) == "cancelled"
    wait(lambda: not list((home / "datasets").iterdir()))
    assert job.refusal is None and job.result is None


def test_a_job_that_takes_no_notice_is_ended_with_all_that_it_started():
    job = begun("deaf")
    grandchild = psutil.Process(job.latest().done)
    job.cancel()
    assert over(job) == "cancelled"
    wait(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_a_job_that_does_not_even_watch_is_killed_when_it_is_cancelled_once_more(monkeypatch):
    job = begun("deaf")
    process = psutil.Process(jobs.started_here[job.id].pid)
    process.suspend()
    job.cancel()
    os.utime(job.stop_file, (time.time() - 3600,) * 2)
    assert job.state == "running"
    job.cancel()
    assert over(job) == "cancelled"


@posix_only
def test_the_death_of_a_job_is_seen_at_once():
    job = begun("building")
    jobs.started_here[job.id].kill()
    jobs.started_here[job.id].wait()
    assert job.state == "died"
    assert job.refusal and all(job.refusal)


def test_a_job_that_cannot_even_start_is_seen_at_once_by_who_started_it(monkeypatch):
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-c", "1/0"))
    job = jobs.start("counting", {"to": 3})
    assert over(job) == "died"


@posix_only
def test_what_dead_jobs_left_is_removed_and_what_living_ones_fill_is_not(home: Path):
    dead, living = begun("building"), begun("building")
    assert len(list((home / "datasets").glob(".half.*.tmp"))) == 2
    jobs.started_here[dead.id].kill()
    jobs.started_here[dead.id].wait()
    jobs.clean_up()
    assert len(list((home / "datasets").glob(".half.*.tmp"))) == 1
    assert living.state == "running"
    living.cancel()
    assert over(living) == "cancelled"
    wait(lambda: not list((home / "datasets").iterdir()))


def test_jobs_are_found_by_their_kind_and_values_newest_first():
    first = jobs.start("counting", {"to": 2})
    time.sleep(0.005)
    second = jobs.start("counting", {"to": 2, "seconds": 0.0})
    jobs.start("refusing", {})
    assert jobs.of("counting") == [second, first]
    assert jobs.of("counting", to=2, seconds=0.0) == [second]
    assert jobs.of("counting", to=5) == []


def test_a_job_that_is_over_for_a_day_is_removed_and_unknown_ones_are_not_found():
    old, young = jobs.start("counting", {"to": 1}), jobs.start("counting", {"to": 1})
    assert (over(old), over(young)) == ("done", "done")
    wait(lambda: not storage.is_held(old.lock))
    for path in old.folder.iterdir():
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    jobs.clean_up()
    assert jobs.load(young.id) == young
    with pytest.raises(NotFound):
        jobs.load(old.id)
    with pytest.raises(NotFound):
        jobs.load("../" + young.id)


def test_an_upload_becomes_a_dataset_in_a_process_of_its_own(class_photos, make_zip):
    settings().uploads.mkdir(parents=True)
    make_zip(class_photos("ants", "bees")).rename(uploads.path_of("up-1"))
    job = jobs.start("import", {"upload": "up-1", "name": "insects.zip"}, "insects.zip")
    assert over(job) == "done", job.refusal
    assert job.result is not None
    found = dataset.load(job.result["dataset"])
    assert job.result == {"dataset": found.id, "known": False}
    assert (found.name, len(found.table)) == ("insects", 8)
    assert job.latest().done == 8
    assert not list(settings().uploads.iterdir())


def test_an_upload_that_is_no_archive_is_refused_by_name():
    settings().uploads.mkdir(parents=True)
    uploads.path_of("up-1").write_bytes(b"words")
    job = jobs.start("import", {"upload": "up-1", "name": "insects.zip"})
    assert over(job) == "refused"
    assert job.refusal and "insects.zip is something else" in job.refusal[0]


def test_of_heavy_jobs_one_is_at_work_and_the_others_wait_for_it():
    first = begun("heavy")
    second = jobs.start("heavy", {})
    wait(lambda: second.latest().text == jobs.WAITING)
    assert second.state == "running" and not second.latest().done
    first.cancel()
    assert over(first) == "cancelled"
    wait(lambda: second.latest().done)
    second.cancel()
    assert over(second) == "cancelled"


def test_a_heavy_job_that_waits_can_be_cancelled():
    first = begun("heavy")
    second = jobs.start("heavy", {})
    wait(lambda: second.latest().text == jobs.WAITING)
    second.cancel()
    assert over(second) == "cancelled" and first.state == "running"
