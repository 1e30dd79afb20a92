from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from core import jobs
from core.errors import ArchiveRefused, HeadstartError, MachineRefused, NotFound, NotNow
from core.serving import uploads
from core.settings import settings
from tests.core.conftest import sentence


def put(client: TestClient, content: bytes, offset: int, total: int, upload_id: str = "up-1"):
    where = f"/api/uploads/{upload_id}?offset={offset}&total={total}"
    return client.put(where, content=content)


def kept(upload_id: str = "up-1") -> bytes:
    return (settings().uploads / f"{upload_id}.part").read_bytes()


def test_a_file_sent_in_two_pieces_arrives_whole(client: TestClient):
    content = os.urandom(300_000)
    assert put(client, content[:200_000], 0, 300_000).json() == {"received": 200_000}
    assert client.get("/api/uploads/up-1").json() == {"received": 200_000}
    assert put(client, content[200_000:], 200_000, 300_000).json() == {"received": 300_000}
    assert kept() == content


def test_a_piece_that_does_not_fit_is_refused_and_what_arrived_is_kept(client: TestClient):
    put(client, b"first", 0, 20)
    for offset in (3, 9):
        assert "continues at byte 5" in sentence(put(client, b"more", offset, 20), 422)
    assert kept() == b"first"


def test_an_upload_begun_again_starts_from_nothing(client: TestClient):
    put(client, b"first", 0, 20)
    assert put(client, b"anew", 0, 20).json() == {"received": 4}
    assert kept() == b"anew"


def test_more_bytes_than_announced_are_refused(client: TestClient):
    assert "More bytes" in sentence(put(client, b"x" * 21, 0, 20), 422)
    assert len(kept()) <= 20


def test_a_file_beyond_the_limit_is_refused_before_anything_is_written(client, monkeypatch):
    monkeypatch.setenv("HEADSTART_MAX_UPLOAD_BYTES", "1000")
    assert "limit is 1,000" in sentence(put(client, b"x", 0, 1001), 422)
    assert not settings().uploads.exists()


def test_a_file_that_the_disk_cannot_hold_is_refused(client: TestClient, monkeypatch):
    monkeypatch.setenv("HEADSTART_MIN_FREE_BYTES", str(10**18))
    assert "no room" in sentence(put(client, b"x", 0, 10), 422)


@pytest.mark.parametrize("upload_id", ["..%2Fescaped", "..", "A", "a%00b", "x" * 65, "%2e%2e%5cx"])
def test_no_upload_climbs_out_of_its_folder(client: TestClient, home: Path, upload_id: str):
    answer = put(client, b"x", 0, 1, upload_id)
    assert answer.status_code in (404, 405)
    assert not [path for path in home.parent.rglob("*") if path.is_file()]


def test_a_discarded_upload_is_gone(client: TestClient):
    put(client, b"x", 0, 1)
    assert client.delete("/api/uploads/up-1").json() == {"received": 0}
    assert client.get("/api/uploads/up-1").json() == {"received": 0}
    assert not list(settings().uploads.iterdir())


def test_a_connection_that_was_given_up_cannot_write_into_what_came_after_it():
    """A phone that changes its network comes back while the server still waits for the old one."""
    content = os.urandom(30_000)
    broken_off = asyncio.Event()

    async def old_connection() -> AsyncIterator[bytes]:
        yield content[:10_000]
        yield content[10_000:10_500]
        await broken_off.wait()

    async def new_connection(start: int) -> AsyncIterator[bytes]:
        yield content[start:]

    async def both() -> None:
        old = asyncio.create_task(uploads.receive("up", 0, len(content), old_connection()))
        await asyncio.sleep(0.05)
        start = uploads.received("up")
        await uploads.receive("up", start, len(content), new_connection(start))
        broken_off.set()
        with suppress(HeadstartError):
            await old

    asyncio.run(both())
    assert kept("up") == content


def test_only_uploads_that_nobody_went_on_with_for_a_day_are_cleaned_up(client: TestClient):
    put(client, b"old", 0, 3, "old")
    put(client, b"new", 0, 3, "new")
    yesterday = time.time() - 25 * 3600
    os.utime(settings().uploads / "old.part", (yesterday, yesterday))
    uploads.clean_up()
    assert [path.name for path in settings().uploads.iterdir()] == ["new.part"]


def test_a_finished_upload_becomes_a_dataset_of_its_own_name(client, class_photos, make_zip):
    content = make_zip(class_photos("ants", "bees")).read_bytes()
    put(client, content, 0, len(content))
    *_, last = uploads.imported("up-1", "my insects.zip")
    assert last.dataset.name == "my insects"
    assert len(last.dataset.table) == 8
    assert not list(settings().uploads.iterdir())


def test_an_upload_that_cannot_be_imported_is_removed_and_called_by_its_name(client: TestClient):
    put(client, b"no archive", 0, 10)
    with pytest.raises(HeadstartError, match=r"my insects\.zip"):
        list(uploads.imported("up-1", "my insects.zip"))
    assert not list(settings().uploads.iterdir())


def test_an_upload_refused_for_the_time_being_is_kept_and_can_be_imported_then(
    client, class_photos, make_zip, monkeypatch
):
    content = make_zip(class_photos("ants", "bees")).read_bytes()
    put(client, content, 0, len(content))
    with monkeypatch.context() as full:
        full.setenv("HEADSTART_MIN_FREE_BYTES", str(10**18))
        with pytest.raises(MachineRefused, match="cannot spare"):
            list(uploads.imported("up-1", "insects.zip"))
    assert kept() == content
    with pytest.raises(NotFound):
        list(uploads.imported("up-1", "insects.zip", into="no-such"))
    assert kept() == content
    *_, last = uploads.imported("up-1", "insects.zip")
    assert len(last.dataset.table) == 8
    assert not list(settings().uploads.iterdir())


def test_an_upload_that_is_gone_is_said_in_a_sentence():
    with pytest.raises(NotFound, match="Send it again"):
        uploads.readings("up-1", "insects.zip")
    with pytest.raises(NotFound, match="Send it again"):
        list(uploads.imported("up-1", "insects.zip"))


def test_a_large_upload_is_looked_through_by_another_process(
    client, class_photos, make_zip, monkeypatch
):
    layout = {
        f"{species}/{sex}/{n}": content
        for species in ("ants", "bees")
        for sex in ("male", "female")
        for n, content in class_photos(f"{species} {sex}", each=2).items()
    }
    content = make_zip(layout).read_bytes()
    put(client, content, 0, len(content))
    here = uploads.readings("up-1", "insects.zip")
    monkeypatch.setattr(uploads, "LISTED_HERE_BYTES", 0)
    assert uploads.readings("up-1", "insects.zip") == here and here
    put(client, b"no archive", 0, 10, "up-2")
    with pytest.raises(ArchiveRefused, match=r"words\.zip is something else"):
        uploads.readings("up-2", "words.zip")


def test_a_look_that_takes_too_long_is_given_up_and_ended(
    client, class_photos, make_zip, monkeypatch
):
    content = make_zip(class_photos("ants", "bees")).read_bytes()
    put(client, content, 0, len(content))
    monkeypatch.setattr(uploads, "LISTED_HERE_BYTES", 0)
    monkeypatch.setattr(uploads, "SECONDS_TO_LOOK", 0)
    with pytest.raises(NotNow, match="could not be read in 0 minutes"):
        uploads.readings("up-1", "insects.zip")
    (job,) = jobs.of("look")
    assert job.stop_file.exists()


def test_a_folder_on_the_server_is_looked_through_too(class_photos, make_folder, monkeypatch):
    monkeypatch.setenv(
        "HEADSTART_IMPORT_ROOT", str(make_folder(class_photos("ants", "bees")).parent)
    )
    (found,) = uploads.server_readings("photos")
    assert found.classes == ("ants", "bees")
    with pytest.raises(HeadstartError, match="may be imported from"):
        uploads.server_readings("../etc")


def test_a_disk_that_fills_up_is_told_in_a_sentence_and_what_arrived_is_kept(monkeypatch):
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        monkeypatch.setattr(Path, "open", full)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    asyncio.run(uploads.receive("up-1", 0, 20, pieces()))
    with pytest.raises(MachineRefused, match="No space left on device"):
        asyncio.run(uploads.receive("up-1", 5, 20, pieces()))
    monkeypatch.undo()
