"""Taking images in, against nothing but decoding them: how much all the care around it costs."""

from __future__ import annotations

from pathlib import Path

from benchmarks import photos
from benchmarks.pairs import Line, drained, in_turns, seconds_of
from core.data.importing import import_all, import_images


def measured(data: Path, repeat: int) -> Line:
    """Images a second from a zip to a dataset, each time in a new home."""
    with photos.fresh_home():
        dataset = import_all(data)  # Its first time loads pandas and pyarrow.
        files, name = photos.contents(dataset), photos.named(data, dataset)

    def imported() -> float:
        with photos.fresh_home():
            return len(files) / seconds_of(lambda: drained(import_images(data)))

    def decoded() -> float:
        return len(files) / seconds_of(lambda: photos.decode_all(files))

    reference = "bare scaled decode of the same bytes (Pillow draft and load, a thread a core)"
    return Line(
        "import", "images/s", "higher", reference, in_turns(imported, decoded, repeat), name
    )
