from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings, settings


def test_the_home_comes_from_the_environment(home: Path):
    assert settings().home == home


def test_everything_lives_below_the_home(home: Path):
    found = settings()
    for folder in (found.datasets, found.runs, found.uploads, found.cache):
        assert folder.parent == home


def test_a_home_with_a_tilde_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEADSTART_HOME", "~/pictures")
    assert settings().home == tmp_path / "pictures"


def test_without_a_variable_the_home_is_hidden_in_the_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HEADSTART_HOME")
    assert settings().home == tmp_path / ".headstart"


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_HOME", "here")
    assert settings().home == tmp_path / "here"


def test_a_changed_variable_is_seen_at_once(monkeypatch: pytest.MonkeyPatch):
    before = settings().max_files
    monkeypatch.setenv("HEADSTART_MAX_FILES", str(before + 1))
    assert settings().max_files == before + 1
    monkeypatch.delenv("HEADSTART_MAX_FILES")
    assert settings().max_files == before


def test_settings_cannot_be_changed_from_inside():
    with pytest.raises(ValidationError, match="frozen"):
        settings().max_files = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is_for(name: str):
    assert Settings.model_fields[name].description
