"""Odd, broken and hostile inputs: each ends as its manifest says, within time, memory and folder.

The large collection is found through HEADSTART_TEST_DATA; a small one is made here.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.processes import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="memory is limited by setrlimit")

Found = dict[str, Any]
# Generous, since machines are shared; the largest honest image alone decodes to 180 MB.
MOST_SECONDS_ALL, MOST_SECONDS_EACH, MOST_MEGABYTES = 300, 60, 1500
FIELDS = ("path", "kind", "group", "expected", "strict", "why", "checks", "origin")


def outcomes(manifest: Path, outside: Path) -> list[Found]:
    """What becomes of each line, asked of another process that works in the folder `outside`."""
    home = outside / "home"
    output = subprocess.run(
        [sys.executable, "-m", "tests.core.corpora", str(manifest.resolve())],
        cwd=outside,
        env={
            **os.environ,
            "HEADSTART_HOME": str(home),
            "TMPDIR": str(outside),
            "HOME": str(outside),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS_ALL,
        check=False,
    )
    assert output.returncode == 0, output.stderr[-2000:]
    return [json.loads(line) for line in output.stdout.splitlines()]


def faults(one: Found) -> list[str]:
    """What is not as the manifest says of one line."""
    found = []
    if one["strict"] == "yes" and not as_expected(one):
        found.append(f"expected {one['expected']}, was {one['outcome']}")
    if one["outcome"] == "reject" and not (one["what"].strip() and one["remedy"].strip()):
        found.append("refused without a sentence")
    if "Traceback" in json.dumps(one):
        found.append("a traceback is shown")
    if one["seconds"] > MOST_SECONDS_EACH:
        found.append(f"took {one['seconds']:.0f} s")
    for check in one["checks"].replace(",no-marker", " no-marker").split():
        if not check_holds(one, check):
            found.append(f"{check} does not hold")
    return [f"{one['path']}: {fault}" for fault in found]


def check_holds(one: Found, check: str) -> bool:
    """Whether a check of the manifest is met; one that nobody knows is not."""
    name, value = re.fullmatch(r"([a-z-]+)[=<:]?(.*)", check).groups()  # type: ignore[union-attr]
    if name in ELSEWHERE:
        return True
    if name == "seconds":
        return bool(one["seconds"] < TIMES_SLOWER * float(value))
    if one["outcome"] == "reject" and name in (*COUNTED, *SEEN, "csv-safe"):
        return True
    if name == "csv-safe":
        return one["formulas"] == []
    if name in COUNTED:
        return set(value.split(",")) == said(one, name)
    return name in SEEN and SEEN[name](sum(one["colors"]) / len(one["colors"]), value)


def between(mean: float, ends: str) -> bool:
    """Whether a mean lies in a range such as 100..156."""
    low, high = map(float, ends.split(".."))
    return low <= mean <= high


# Checks that are made by `judge` of all lines together; that no name is run, by a browser's test.
ELSEWHERE = (
    "no-crash", "nothing-outside", "no-marker", "no-symlink-made", "no-special-files", "ram",
    "same-picture", "no-script-runs",
)  # fmt: skip
COUNTED = ("images", "classes", "splits")
SEEN: dict[str, Callable[[float, str], bool]] = {
    "rgb-mean": between,
    "rgb-not-black": lambda mean, _: mean > 1,
}
# Machines of tests are shared.
TIMES_SLOWER = 5


def unlike(found: list[Found]) -> list[str]:
    """Paths of images that should show the same picture as others and do not."""
    first: dict[str, list[int]] = {}
    wrong = []
    for one in found:
        for tag in re.findall(r"same-picture:(\S+)", one["checks"]):
            colors = one.get("colors") or []
            known = first.setdefault(tag, colors)
            apart = [abs(a - b) for a, b in zip(known, colors, strict=False)]
            if len(known) != len(colors) or not apart or sum(apart) / len(apart) > 8:
                wrong.append(one["path"])
    return wrong


def test_a_check_that_nobody_knows_fails():
    assert not check_holds({"outcome": "accept", "seconds": 0}, "smells=good")
    assert not check_holds({"outcome": "accept", "seconds": 99}, "seconds<10")
    assert not check_holds({"outcome": "accept", "colors": [0, 0]}, "rgb-mean:100..156")
    assert not check_holds({"outcome": "accept", "formulas": ["=1+1"]}, "csv-safe")
    assert check_holds({"outcome": "accept", "formulas": []}, "csv-safe")
    assert check_holds({"outcome": "accept", "colors": [120, 130]}, "rgb-mean:100..156")
    assert not check_holds({"outcome": "accept", "colors": [0, 0]}, "rgb-not-black")


def as_expected(one: Found) -> bool:
    """Whether accepting or refusing is right; a warning that is due must appear, more may."""
    due = one["expected"]
    return (
        due == "either"
        or one["outcome"] == due
        or (due, one["outcome"]) == ("accept", "accept-with-warning")
    )


def said(one: Found, check: str) -> set[str] | None:
    """What an outcome says about something that the manifest wants checked; None if nothing."""
    value = one.get(check)
    return None if value is None else set(value) if isinstance(value, list) else {str(value)}


def left_outside(outside: Path) -> list[Path]:
    """All that lies in the working folder but outside of the datasets, and half-done ones."""
    return [
        path
        for path in outside.rglob("*")
        if outside / "home" / "datasets" not in (path, *path.parents)
        and path not in (outside / "home", outside / "photos", outside / "home" / "placing.lock")
    ] + list((outside / "home" / "datasets").glob(".*"))


def links_and_devices(folder: Path) -> list[Path]:
    """What is neither a plain file nor a folder."""
    return [p for p in folder.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())]


def judge(manifest: Path, outside: Path, lines: int) -> list[Found]:
    """Run a manifest and assert that all of it is met."""
    found = outcomes(manifest, outside)
    assert len(found) == lines
    assert [fault for one in found for fault in faults(one)] == []
    assert unlike(found) == []
    assert max(one["peak_mb"] for one in found) < MOST_MEGABYTES
    assert left_outside(outside) == []
    assert links_and_devices(outside) == []
    return found


def test_every_line_of_the_large_manifest_is_met(test_data: Path, tmp_path: Path):
    manifest = test_data / "corpora" / "MANIFEST.csv"
    if not manifest.exists():
        pytest.skip("HEADSTART_TEST_DATA has no folder corpora")
    with manifest.open(encoding="utf-8", newline="") as file:
        lines = sum(1 for _ in csv.DictReader(file))
    outside = tmp_path / "outside"
    outside.mkdir()
    judge(manifest, outside, lines)
    # No line of it may have reached a place that the hostile names aim at.
    for place in (Path("/tmp"), Path("/"), test_data.parent, Path.home()):
        assert not list(place.glob("HEADSTART_PWNED*"))


def image_bytes(
    format: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any
) -> bytes:
    """An image file of some kind, with a gradient on it."""
    image = Image.linear_gradient("L").resize(size)
    buffer = io.BytesIO()
    (image if mode == "L" else image.convert(mode)).save(buffer, format, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    """A JPEG that EXIF says lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return image_bytes("JPEG", exif=exif)


def animated() -> bytes:
    """A GIF of two frames."""
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def pages() -> bytes:
    """A TIFF of two pages."""
    sheets = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    sheets[0].save(buffer, "TIFF", save_all=True, append_images=sheets[1:])
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 100 million pixels in some kilobytes."""
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


# Name, content, what is expected.
IMAGES: tuple[tuple[str, Callable[[], bytes], str], ...] = (
    ("plain.jpg", lambda: image_bytes("JPEG"), "accept"),
    ("progressive.jpg", lambda: image_bytes("JPEG", progressive=True), "accept"),
    ("cmyk.jpg", lambda: image_bytes("JPEG", "CMYK"), "accept"),
    ("rotated.jpg", rotated, "accept"),
    ("cut off.jpg", lambda: image_bytes("JPEG", size=(640, 480))[:-400], "reject"),
    ("palette.png", lambda: image_bytes("PNG", "P"), "accept"),
    ("alpha.png", lambda: image_bytes("PNG", "RGBA"), "accept"),
    ("bits1.png", lambda: image_bytes("PNG", "1"), "accept"),
    ("bits16.png", lambda: image_bytes("PNG", "I;16"), "accept-with-warning"),
    ("float.tif", lambda: image_bytes("TIFF", "F"), "accept-with-warning"),
    ("bits16.tif", lambda: image_bytes("TIFF", "I;16"), "accept-with-warning"),
    ("pages.tif", pages, "accept-with-warning"),
    ("animated.gif", animated, "accept-with-warning"),
    ("plain.webp", lambda: image_bytes("WEBP"), "accept"),
    ("plain.bmp", lambda: image_bytes("BMP"), "accept"),
    ("plain.avif", lambda: image_bytes("AVIF"), "accept"),
    ("wrong name.png", lambda: image_bytes("JPEG"), "accept-with-warning"),
    ("tiny.png", lambda: image_bytes("PNG", size=(4, 4)), "accept-with-warning"),
    ("long.png", lambda: image_bytes("PNG", size=(1000, 10)), "accept-with-warning"),
    ("bomb.png", bomb, "reject"),
    ("heic.heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "reject"),
    ("drawing.eps", lambda: image_bytes("EPS", "RGB"), "reject"),
    ("page.jpg", lambda: b"<html>Not found</html>", "reject"),
)


def packed(
    layout: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None
) -> bytes:
    """A zip in memory; `change` alters the entry of its last file before it is written."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(layout.items(), 1):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change and number == len(layout):
                change(info)
            archive.writestr(info, content)
    return buffer.getvalue()


def link(info: zipfile.ZipInfo) -> None:
    """Make an entry a symbolic link."""
    info.external_attr = 0o120777 << 16


def squeezed(info: zipfile.ZipInfo) -> None:
    """Compress an entry by a method that takes gigabytes to open."""
    info.compress_type = zipfile.ZIP_BZIP2


def archives(photos: dict[str, bytes]) -> dict[str, tuple[bytes, str, str]]:
    """Name -> content, what is expected, what is checked; photos: of ants and bees."""
    count = f"images={len(photos)} classes=ants,bees"
    evil = photos["ants/0.jpg"]
    zeros = {f"ants/zero {n}.jpg": b"" for n in range(3)}
    nothing = {f"{label}/{n}.jpg": b"" for label in "ab" for n in range(5000)}
    deep = {"/".join(["d"] * 200) + "/" + name: content for name, content in photos.items()}
    devices = {
        f"{name}/{k}.jpg": photos[f"ants/{k}.jpg"] for name in ("CON", "NUL") for k in (0, 1)
    }
    pack, taken, refused = packed, "accept", "reject"
    return {
        "plain.zip": (pack(photos), taken, count),
        "formulas.zip": (
            pack({f"={n}": c for n, c in photos.items()}), taken, "classes==ants,=bees csv-safe"
        ),
        "wrapped.zip": (pack({f"a/b/{n}": c for n, c in photos.items()}), taken, count),
        "deep.zip": (pack(deep), taken, count),
        "backslashes.zip": (
            pack({n.replace("/", "\\"): c for n, c in photos.items()}), taken, count
        ),
        "devices.zip": (pack(devices), taken, "images=4 classes=CON,NUL"),
        "climbs.zip": (pack(photos | {"../HEADSTART_PWNED.jpg": evil}), refused, ""),
        "climbs back.zip": (pack(photos | {"..\\..\\HEADSTART_PWNED.jpg": evil}), refused, ""),
        "absolute.zip": (pack(photos | {"/tmp/HEADSTART_PWNED.jpg": evil}), refused, ""),
        "drive.zip": (pack(photos | {"C:\\HEADSTART_PWNED.jpg": evil}), refused, ""),
        "link.zip": (pack(photos | {"ants/link.jpg": b"/etc/passwd"}, link), refused, ""),
        "bzip2.zip": (pack(photos | {"ants/z.jpg": evil}, squeezed), refused, ""),
        "explodes.zip": (pack(photos | {"ants/z.jpg": bytes(150_000_000)}), refused, ""),
        "nested.zip": (pack({"ants.zip": pack(photos), "bees.zip": pack(photos)}), refused, ""),
        "beside.zip": (pack(photos | {"more.zip": pack(photos)}), f"{taken}-with-warning", count),
        "zeros.zip": (pack(photos | zeros), f"{taken}-with-warning", count),
        "all zeros.zip": (pack(nothing), refused, ""),
        "cut.zip": (pack(photos)[:-200], refused, ""),
        "empty.zip": (pack({}), refused, ""),
        "text.zip": (b"words", refused, ""),
        "photo.zip": (evil, refused, ""),
    }  # fmt: skip


def test_a_small_manifest_made_here_is_met(class_photos, tmp_path: Path):
    folder, outside = tmp_path / "inputs", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    lines = []
    for name, content, expected in IMAGES:
        (folder / name).write_bytes(content())
        lines.append((name, "image", "", expected, "yes", "", "", ""))
    for name, (content, expected, checks) in archives(class_photos("ants", "bees")).items():
        (folder / name).write_bytes(content)
        lines.append((name, "archive", "", expected, "yes", "", checks, ""))
    with (folder / "MANIFEST.csv").open("w", newline="") as file:
        csv.writer(file).writerows([FIELDS, *lines])
    found = {one["path"]: one for one in judge(folder / "MANIFEST.csv", outside, len(lines))}
    assert not list(tmp_path.rglob("HEADSTART_PWNED*"))
    assert "HEIC" in found["heic.heic"]["what"] and "JPEG" in found["heic.heic"]["remedy"]
    assert "damaged" in found["cut off.jpg"]["what"]
    assert "150,0" in found["explodes.zip"]["what"]
