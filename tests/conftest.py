"""What all tests stand on: a home of their own, no network, and photos that can be told apart."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

# Before torch and huggingface_hub are imported: both read these only then. Threads that wait
# without spinning leave the cores to the worker processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import numpy as np
import pytest
from PIL import Image

# Derandomized, so that a red run is red for everybody; no deadline, since machines are shared.
hypothesis.settings.register_profile(
    "headstart",
    deadline=None,
    max_examples=50,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("headstart")

# Kinds of photos differ in color and in the direction of their stripes.
COLORS = ((200, 60, 50), (50, 90, 200), (60, 180, 80), (190, 170, 40), (150, 60, 180))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith("HEADSTART_") and name != "HEADSTART_TEST_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADSTART_IDLE_SECONDS", "5")  # Supervisors do not outlive the tests.
    monkeypatch.setenv("HEADSTART_AUDIT_AFTER_IMPORT", "0")  # Nor do audits that nobody asked for.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "home"


@pytest.fixture
def test_data() -> Path:
    if "HEADSTART_TEST_DATA" not in os.environ:
        pytest.skip("HEADSTART_TEST_DATA names no folder with the real photo collections")
    return Path(os.environ["HEADSTART_TEST_DATA"])


@pytest.fixture
def photo() -> Callable[..., bytes]:
    return make_photo


def make_photo(
    seed: int, size: tuple[int, int] = (64, 48), format: str = "JPEG", kind: int = 0
) -> bytes:
    rng = np.random.default_rng([seed, kind])
    width, height = size
    y, x = np.mgrid[:height, :width] / 48
    direction = np.pi * kind / len(COLORS)
    wave = np.sin(12 * (x * np.cos(direction) + y * np.sin(direction)) + rng.uniform(0, 6))
    light = (0.75 + 0.25 * wave) * rng.uniform(0.8, 1.2)
    pixels = light[:, :, None] * COLORS[kind % len(COLORS)] + rng.normal(0, 8, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def class_photos() -> Callable[..., dict[str, bytes]]:
    """Photos of several classes by the name they would have in class folders."""

    def make(*classes: str, each: int = 4, first: int = 0) -> dict[str, bytes]:
        return {
            f"{label}/{seed}.jpg": make_photo(seed, kind=kind)
            for kind, label in enumerate(classes)
            for seed in range(first, first + each)
        }

    return make


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    def make(layout: dict[str, bytes], name: str = "photos.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in layout.items():
                archive.writestr(member, content)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    def make(layout: dict[str, bytes], name: str = "photos") -> Path:
        for member, content in layout.items():
            path = tmp_path / name / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name

    return make
