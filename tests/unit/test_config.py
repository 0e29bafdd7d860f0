"""Settings: where they come from, what is refused, what is said about it."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from tympan import config
from tympan.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start every test without variables of ours, in an empty folder."""
    for name in list(os.environ):
        if name.upper().startswith("TYMPAN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_safe_and_complete() -> None:
    """Without any setting the server listens on this machine only and is valid."""
    settings = config.load()
    assert (settings.host, settings.port, settings.model, settings.mode) == ("127.0.0.1", 8000, "base", "embedded")
    assert settings.data_dir.is_absolute()
    assert config.notes(settings) == []


def test_arguments_beat_the_environment_and_that_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each source only fills in what those before it leave open; names in the file may be upper case."""
    (tmp_path / "tympan.toml").write_text('PORT = 1\nmodel = "tiny"\nTYMPAN_LOG_LEVEL = "debug"\n')
    monkeypatch.setenv("TYMPAN_PORT", "2")
    monkeypatch.setenv("TYMPAN_DRAIN_S", "2.5")
    settings = config.load({"drain_s": 3})
    assert (settings.port, settings.model, settings.log_level, settings.drain_s) == (2, "tiny", "debug", 3.0)


def test_the_file_can_be_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TYMPAN_CONFIG names it; a name that leads nowhere is an error, not a silent default."""
    place = tmp_path / "elsewhere.toml"
    monkeypatch.setenv("TYMPAN_CONFIG", str(place))
    with pytest.raises(ConfigError, match=r"elsewhere.toml cannot be read"):
        config.load()
    place.write_text("port = 77")
    assert config.load().port == 77
    place.write_text("port = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load()


def test_all_mistakes_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start shows every bad value, where it came from, and what is allowed."""
    monkeypatch.setenv("TYMPAN_PORT", "seventy")
    monkeypatch.setenv("TYMPAN_MODE", "everywhere")
    monkeypatch.setenv("TYMPAN_API_KEYS", "none")
    with pytest.raises(ConfigError) as caught:
        config.load({"log_level": "loud"})
    message = str(caught.value)
    assert "PORT (environment variable TYMPAN_PORT)" in message
    assert "MODE (environment variable TYMPAN_MODE)" in message
    assert "LOG_LEVEL (command line)" in message
    assert "API_KEYS (environment variable TYMPAN_API_KEYS)" in message
    assert caught.value.remedy


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])  # noqa: S104 (the point of the test)
def test_J6_an_open_door_is_said_loudly(host: str) -> None:
    """Other machines get in without a key only when the operator says so."""
    assert not any("OPEN" in note for note in config.notes(config.load({"host": host})))
    notes = config.notes(config.load({"host": host, "api_keys": "open"}))
    assert any("OPEN TO EVERYBODY" in note for note in notes)


def test_who_may_come_in_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes that would leave a door open, or shut, are told at the start."""
    monkeypatch.setenv("TYMPAN_API_KEYS", "auto")
    assert config.load().api_keys is None
    for name, value in (
        ("ALLOWED_ORIGINS", '["*"]'),
        ("ALLOWED_ORIGINS", '["https://example.com/app"]'),
        ("ALLOWED_ORIGINS", '["example.com"]'),
        ("TRUSTED_PROXIES", '["nginx"]'),
        ("AUDIT_DAYS", "7"),
        ("API_KEYS", "none"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"TYMPAN_{name}", value)
            with pytest.raises(ConfigError, match=name):
                config.load()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    """Addresses that only this machine reaches are served as they are."""
    assert config.load({"host": host}).host == host


def test_unknown_names_are_noticed_with_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A typing mistake changes nothing, so it has to be seen."""
    monkeypatch.setenv("TYMPAN_MAXBATCH_MS", "5")
    (tmp_path / "tympan.toml").write_text("max_upload = 5")
    notes = config.notes(config.load())
    assert any("TYMPAN_MAXBATCH_MS" in note and "nearest setting is MAX_BATCH_MS" in note for note in notes)
    assert any("max_upload" in note and "MAX_UPLOAD_MB" in note for note in notes)


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deployment tools pass empty strings for what is not set."""
    monkeypatch.setenv("TYMPAN_MODEL", "")
    monkeypatch.setenv("TYMPAN_THREADS", "auto")
    assert (config.load().model, config.load().threads) == ("base", None)


def test_settings_never_change() -> None:
    """They are read once and frozen."""
    settings = config.load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 9


def test_every_setting_is_explained_and_shown() -> None:
    """The description is help and documentation, so none may be missing."""
    rows = config.rows(config.load({"port": 9}))
    assert [row.name.lower() for row in rows] == list(config.Settings.model_fields)
    assert all(row.description.endswith(".") for row in rows)
    assert [row.name for row in rows if not row.is_default] == ["PORT"]


def test_secrets_are_never_shown() -> None:
    """A secret setting shows only that it is set."""

    class WithSecret(BaseSettings):
        token: SecretStr = SecretStr("hunter2")

    assert [row.value for row in config.rows(WithSecret())] == ["(hidden)"]


def test_the_data_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_DATA_HOME decides when it is an absolute path; a tilde is understood in the setting."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert config.default_data_dir() == tmp_path / ".local/share/tympan"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert config.default_data_dir() == Path("/data/tympan")
    assert config.load({"data_dir": "~/x"}).data_dir == tmp_path / "x"
    monkeypatch.setattr("sys.platform", "darwin")
    assert config.default_data_dir() == tmp_path / "Library/Application Support/tympan"
