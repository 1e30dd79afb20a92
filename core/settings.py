"""Where things live, and the limits, from HEADSTART_* environment variables."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import MachineRefused

MEGABYTE = 1_000_000
GIGABYTE = 1_000 * MEGABYTE


class Settings(BaseSettings):
    """All that differs between two machines and is not part of a recipe."""

    model_config = SettingsConfigDict(env_prefix="HEADSTART_", frozen=True)

    home: Path = Field(Path("~/.headstart"), description="Folder of datasets, runs and caches.")
    import_root: Path | None = Field(
        None, description="Folder on the server whose contents the Data page may import."
    )
    hosts: str = Field(
        "localhost,127.0.0.1,[::1]",
        description="Host names, separated by commas, under which browsers may reach this server.",
    )
    user_header: str = Field(
        "", description="Header in which a proxy with a login names the user, for the journal."
    )
    max_upload_bytes: int = Field(20 * GIGABYTE, description="Largest upload taken.")
    max_unpacked_bytes: int = Field(60 * GIGABYTE, description="Most bytes one import may unpack.")
    max_files: int = Field(500_000, description="Most files one import may hold.")
    max_ratio: int = Field(200, description="Most that the whole archive may grow by unpacking.")
    max_classes: int = Field(2_000, description="Most classes one dataset may have.")
    max_file_bytes: int = Field(200 * MEGABYTE, description="Largest single image file.")
    max_pixels: int = Field(60_000_000, description="Most pixels one image may have.")
    max_side: int = Field(65_535, description="Longest side of one image, in pixels.")
    min_free_bytes: int = Field(500 * MEGABYTE, description="Disk space that is never used up.")
    max_pixel_cache_bytes: int = Field(
        40 * GIGABYTE, description="Largest file of decoded images kept for fine-tuning."
    )
    audit_after_import: bool = Field(
        True, description="Whether an import from a page starts an audit when it is done."
    )
    engine: str = Field(
        "local", description="What starts workers: local, or ray for a cluster (ray_address)."
    )
    ray_address: str = Field(
        "http://127.0.0.1:8265", description="Address of a Ray cluster's dashboard."
    )
    idle_seconds: float = Field(
        600.0, description="Seconds without work after which a background supervisor ends."
    )

    @property
    def datasets(self) -> Path:
        """Folder with one folder for each dataset."""
        return self.home / "datasets"

    @property
    def runs(self) -> Path:
        """Folder with one folder for each run."""
        return self.home / "runs"

    @property
    def studies(self) -> Path:
        """Folder with one folder for each study."""
        return self.home / "studies"

    @property
    def jobs(self) -> Path:
        """Folder with one folder for each piece of work in the background."""
        return self.home / "jobs"

    @property
    def uploads(self) -> Path:
        """Folder of uploads that are still arriving or waiting to be imported."""
        return self.home / "uploads"

    @property
    def cache(self) -> Path:
        """Folder of everything that can be computed again."""
        return self.home / "cache"


VARIABLES = tuple(f"HEADSTART_{name.upper()}" for name in Settings.model_fields)


def settings() -> Settings:
    """The settings as the environment has them now."""
    return _read(tuple(map(os.environ.get, VARIABLES)))


@lru_cache(maxsize=64)
def _read(environment: tuple[str | None, ...]) -> Settings:
    """Settings for one state of the environment, read once: this is asked for every image."""
    try:
        found = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"HEADSTART_{str(first['loc'][0]).upper()}"
        raise MachineRefused(f"{name} cannot be used: {first['msg']}.", "Correct it.") from error
    return found.model_copy(update={"home": found.home.expanduser().absolute()})
