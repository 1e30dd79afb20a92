"""Uploads that stream to the disk in pieces and can go on after a lost connection.

A page picks a random id and sends pieces in order; each is appended as it arrives, so that memory
stays flat whatever the size. A finished upload waits in `uploads/` until it is imported.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from core import jobs
from core.data import importing, samples
from core.data.importing import Imported, from_import_root, import_images, title_of
from core.data.layout import Reading
from core.errors import ArchiveRefused, MachineRefused, NotFound, NotNow
from core.jobs import Step
from core.settings import settings
from core.storage import Json, checked_id, free_bytes

HOURS_KEPT = 24
# A smaller archive cannot list so many files that this process would feel it.
LISTED_HERE_BYTES = 4_000_000
SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_LOOK = 300.0


def path_of(upload_id: str) -> Path:
    """Where an upload lies.

    Raises: NotFound for what is no id.
    """
    return settings().uploads / f"{checked_id(upload_id)}.part"


def received(upload_id: str) -> int:
    """How many bytes of an upload have arrived."""
    path = path_of(upload_id)
    return path.stat().st_size if path.exists() else 0


async def receive(upload_id: str, offset: int, total: int, pieces: AsyncIterator[bytes]) -> int:
    """Append one piece; how many bytes have arrived in all.

    Raises: NotNow when the piece does not begin where the file ends, ArchiveRefused beyond the
    limit, MachineRefused when the disk is (nearly) full.
    """
    path, limits = path_of(upload_id), settings()
    if total > limits.max_upload_bytes:
        raise ArchiveRefused(
            f"The file has {total:,} bytes and the limit is {limits.max_upload_bytes:,}.",
            "Divide it, or raise HEADSTART_MAX_UPLOAD_BYTES.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if offset == 0:
        clean_up()
        path.unlink(missing_ok=True)
        if free_bytes(path.parent) < total + limits.min_free_bytes:
            raise MachineRefused(
                f"The disk has no room for {total / 1e9:.1f} GB.", "Free some space on the server."
            )
    if offset != received(upload_id):
        raise NotNow(
            f"The upload continues at byte {received(upload_id)}, not {offset}.", "Send from there."
        )
    arrived = offset
    try:
        with path.open("ab", buffering=0) as file:
            async for piece in pieces:
                if arrived + len(piece) > total:
                    raise ArchiveRefused("More bytes came than were announced.", "Start anew.")
                if received(upload_id) != arrived:
                    # A newer connection has gone on; what this old one still brings is not wanted.
                    raise NotNow("The upload goes on elsewhere.", "Send from where it ends now.")
                arrived += file.write(piece) or 0
    except OSError as error:
        raise MachineRefused(
            f"The upload could not be written: {error.strerror or error}.", "Free some disk space."
        ) from error
    return arrived


def finished(upload_id: str) -> Path:
    """Where an upload lies that has arrived.

    Raises: NotFound when it is gone: imported, discarded, or older than a day.
    """
    path = path_of(upload_id)
    if not path.is_file():
        raise NotFound("The upload is gone.", "Send it again.")
    return path


def readings(upload_id: str, name: str, into: str = "") -> list[Reading]:
    """The ways in which a finished upload may be meant; usually one.

    into: the id of a dataset that it is to be added to.
    Raises: ArchiveRefused, and NotNow when it takes too long; NotFound when it is gone.
    """
    path = finished(upload_id)
    if path.stat().st_size < LISTED_HERE_BYTES:
        return importing.readings(path, Path(name).name, into)
    return read_elsewhere({"upload": upload_id, "name": name, "into": into})


def server_readings(server: str, into: str = "") -> list[Reading]:
    """The ways in which an entry of the allowed root on the server may be meant.

    into: the id of a dataset that it is to be added to.
    Raises: ArchiveRefused, DatasetRefused, and NotNow when it takes too long.
    """
    return read_elsewhere({"server": server, "into": into})


def read_elsewhere(values: Json) -> list[Reading]:
    """The readings as another process finds them: the list of 100,000 files takes 150 MB.

    Raises: ArchiveRefused; NotNow when the other process has not ended after some minutes.
    """
    job = jobs.start("look", values)
    began = time.monotonic()
    try:
        while job.state in jobs.LIVE:
            if time.monotonic() - began > SECONDS_TO_LOOK:
                raise NotNow(
                    f"Its list of files could not be read in {SECONDS_TO_LOOK / 60:.0f} minutes.",
                    "Choose the same file again when this machine has less to do: it need not be "
                    "sent again. Or pack the photos in several zips.",
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        job.cancel()  # Nothing, unless it is still at work while nobody waits for it.
    if job.refusal is not None:
        raise ArchiveRefused(*job.refusal)
    found = (job.result or {}).get("readings", [])
    return [Reading(**{**one, "classes": tuple(one["classes"])}) for one in found]


def looking_steps(
    stop: Callable[[], bool], *, upload: str = "", name: str = "", server: str = "", into: str = ""
) -> Iterator[Step]:
    """The job that lists what is in an upload, or in an entry of the allowed root on the server.

    Its result is {"readings": […]}, each with the fields of a `Reading`.
    """
    path = importing.in_import_root(server) if server else finished(upload)
    found = importing.readings(path, "" if server else Path(name).name, into)
    yield Step(1, 1, "Looking at the folders", result={"readings": [asdict(one) for one in found]})


def imported(
    upload_id: str, name: str, reading: str = "", into: str = "", who: str = ""
) -> Iterator[Imported]:
    """Import a finished upload under its own name, then remove it.

    The rest is as for `import_images`. One that is no usable archive is removed too. Any other
    refusal, and an import that was abandoned, leaves it for a day: with room on the disk, or in
    another dataset, the same bytes may do, and nobody need send them again.
    Raises: what `import_images` raises; NotFound when it is gone.
    """
    path = finished(upload_id)
    try:
        title, shown = title_of(Path(name)), Path(name).name
        yield from import_images(path, title, shown, reading, into, who)
    except ArchiveRefused:
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def importing_steps(
    stop: Callable[[], bool],
    *,
    upload: str = "",
    name: str = "",
    server: str = "",
    sample: bool = False,
    reading: str = "",
    into: str = "",
    who: str = "",
) -> Iterator[Step]:
    """The job that takes images in; its result is {"dataset": id, "known": bool}.

    known: the dataset was there before, with these very images. Its last act starts an audit.

    One of three: a finished upload and the file's name, an entry of the allowed root on the
    server, or the sample. reading, into, who: as for `import_images`. To stop is to abandon it:
    nothing stays behind.
    Raises: what `import_images` raises.
    """
    if sample:
        steps = samples.import_sample()
    else:
        steps = (
            from_import_root(server, reading, into, who)
            if server
            else imported(upload, name, reading, into, who)
        )
    for step in steps:
        result = {"dataset": step.dataset.id, "known": step.known} if step.dataset else None
        if step.dataset and settings().audit_after_import:
            jobs.start("audit", {"dataset": step.dataset.id}, f"Audit of {step.dataset.name}")
        yield Step(step.done, step.total, step.text, result=result)


def discard(upload_id: str) -> None:
    """Remove an upload."""
    path_of(upload_id).unlink(missing_ok=True)


def clean_up() -> None:
    """Remove uploads that nobody went on with for a day."""
    for path in settings().uploads.glob("*.part"):
        if time.time() - path.stat().st_mtime > HOURS_KEPT * 3600:
            path.unlink(missing_ok=True)
