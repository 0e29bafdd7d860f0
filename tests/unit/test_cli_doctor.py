"""The doctor's answers: healthy, worth a word, in the way."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tympan import bootstrap, config
from tympan.audio.sandbox import Measure, SandboxReport
from tympan.cli import app, checks, doctor, probes
from tympan.cli.checks import Check, Status
from tympan.cli.console import stderr, stdout
from tympan.config import Settings
from tympan.engine.base import EngineInfo
from tympan.errors import EngineError, ModelUnavailable


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings of a machine of its own, with the fake engine."""
    for name in ("TYMPAN_CONFIG", "TYMPAN_MODEL", "TYMPAN_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TYMPAN_ENGINE", "fake")
    monkeypatch.setenv("TYMPAN_PORT", "0")
    stdout.cache_clear()
    stderr.cache_clear()
    return config.load()


INFO = EngineInfo("fake", "base", "", "cpu", "int8", 2, ("en",), multilingual=True)
IN_FORCE = (Measure("network", enforced=True, detail="none"),)


@dataclass
class Patient:
    """Services whose parts answer as they are told."""

    settings: Settings
    blocks: list[int] = field(default_factory=lambda: [8000, 8000])
    measures: tuple[Measure, ...] = IN_FORCE
    libraries: str = "PyAV 18.1.0, FFmpeg 8.1.2"
    error: Exception | None = None
    info: EngineInfo | None = INFO

    @property
    def decoder(self) -> "Patient":
        """The patient decodes."""
        return self

    @property
    def transcriber(self) -> "Patient":
        """The patient transcribes."""
        return self

    @property
    def sandbox(self) -> SandboxReport:
        """What guards the decoder."""
        return SandboxReport(self.measures, self.libraries)

    def stream(self, path: Path, *, max_audio_s: float) -> Iterator[Any]:
        """Yield blocks of the given lengths for a file that exists."""
        assert path.stat().st_size > 32_000
        assert max_audio_s >= 1.0
        return (np.zeros(length, np.int16) for length in self.blocks)

    def transcribe(self, path: Path, options: object, context: object) -> None:
        """Fail when told to."""
        if self.error:
            raise self.error

    @contextmanager
    def running(self, _settings: Settings) -> Iterator["Patient"]:
        """Be up."""
        yield self


def _by_name(found: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_everything_is_asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a healthy machine every question has an answer and none fails."""
    monkeypatch.setattr(bootstrap, "running", Patient(settings).running)
    found = _by_name(doctor.examine({}))
    assert [check for check in found.values() if check.status is Status.FAIL] == []
    assert {f"Setting {name.upper()}" for name in Settings.model_fields} <= set(found)
    assert {"Processor", "Memory", "GPU", "Choice", "Start", "Sandbox: network", "Decoder", "Engine"} <= set(found)
    assert found["Model"].status is Status.WARN


def test_settings_say_where_they_come_from(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Command line, environment, file and default are told apart."""
    (tmp_path / "t.toml").write_text("drain_s = 3\n")
    monkeypatch.setenv("TYMPAN_CONFIG", str(tmp_path / "t.toml"))
    overrides = {"threads": 2}
    found = _by_name(iter(checks.check_settings(config.load(overrides), overrides)))
    assert found["Setting THREADS"].detail == "2 (command line)"
    assert found["Setting ENGINE"].detail == "fake (environment)"
    assert found["Setting DRAIN_S"].detail == "3.0 (configuration file)"
    assert found["Setting HOST"].detail == "127.0.0.1 (default)"


def test_a_misspelt_setting_is_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that means nothing is pointed out."""
    monkeypatch.setenv("TYMPAN_MODLE", "tiny")
    warnings = [check for check in checks.check_settings(settings, {}) if check.status is Status.WARN]
    assert any("TYMPAN_MODLE" in check.detail for check in warnings)


@pytest.mark.parametrize(
    ("free_bytes", "reserve_mb", "status"),
    [
        (10**7, None, Status.FAIL),
        (49 * 10**8, None, Status.FAIL),
        (51 * 10**8, None, Status.WARN),
        (10**11, None, Status.OK),
        (49 * 10**8, 100, Status.OK),
        (10**11, 200_000, Status.FAIL),
    ],
)
def test_disk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free_bytes: int, reserve_mb: int | None, status: Status
) -> None:
    """A failure where uploads would be refused, a warning shortly before; the folder need not exist yet."""
    settings = settings.model_copy(update={"disk_reserve_mb": reserve_mb})

    class Usage:
        free = free_bytes
        total = 10**12

    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage)
    assert checks.check_disk(settings).status is status


def test_a_data_folder_that_cannot_be_written_fails(settings: Settings, tmp_path: Path) -> None:
    """A file where the folder should be is in the way, with the remedy."""
    (tmp_path / "data").write_text("")
    check = checks.check_data_dir(settings)
    assert check.status is Status.FAIL
    assert "TYMPAN_DATA_DIR" in check.remedy


def test_a_taken_port_is_a_warning(settings: Settings) -> None:
    """A running server is no fault of the machine, but worth knowing."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert checks.check_port(config.load({"port": port})).status is Status.WARN
    assert checks.check_port(settings).status is Status.OK


def test_a_missing_model_is_a_warning_and_nothing_is_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor downloads nothing: without the model it stops before the engine, and says how to get it."""

    def never(_settings: Settings) -> None:
        pytest.fail("started")

    monkeypatch.setattr(bootstrap, "running", never)
    check = probes.check_model(config.load({"engine": "ct2"}))
    assert check.status is Status.WARN
    assert "tympan models pull base" in check.remedy
    found = _by_name(doctor.examine({"engine": "ct2"}))
    assert found["Model"] == check
    assert "Start" not in found


def test_further_models_are_looked_for(tmp_path: Path) -> None:
    """Nothing is said of one model alone; of several, which are here, and what they may take together."""
    assert probes.check_further_models(config.load({"data_dir": tmp_path})) == []
    entries = ["nowhere", "small", {"name": "made-up", "engine": "fake", "pinned": True}]
    settings = config.load({"data_dir": tmp_path, "models": entries, "model_memory_mb": 1500})
    missing, absent, fake, memory = probes.check_further_models(settings)
    assert (missing.name, missing.status) == ("Model nowhere", Status.FAIL)
    assert (absent.status, "models pull small" in absent.remedy) == (Status.WARN, True)
    assert (fake.status, fake.detail.endswith("pinned")) == (Status.WARN, True)
    assert memory.detail.startswith("cpu 1.5 GB")


def test_a_measure_that_is_not_in_force_is_a_warning(settings: Settings) -> None:
    """A hole in the sandbox is named with the reason."""
    patient = Patient(settings, measures=(Measure("file system", enforced=False, detail="no Landlock"),))
    sandbox, libraries, decoder = probes.check_decoder(patient)  # type: ignore[arg-type]
    assert (sandbox.status, sandbox.detail) == (Status.WARN, "not enforced: no Landlock")
    assert (libraries.status, decoder.status) == (Status.OK, Status.OK)


@pytest.mark.parametrize("libraries", ["PyAV 14.0.0, FFmpeg 7.1", "PyAV 1.0, FFmpeg N-118, g1a2b3", ""])
def test_I10_an_old_media_library_is_a_warning(settings: Settings, libraries: str) -> None:
    """Whoever has allowed one is reminded of it; so is, who has one whose version cannot be told."""
    *_, found, _ = probes.check_decoder(Patient(settings, libraries=libraries))  # type: ignore[arg-type]
    assert (found.name, found.status) == ("Media libraries", Status.WARN)


def test_a_decoder_that_loses_audio_fails(settings: Settings) -> None:
    """One second in must be one second out."""
    *_, check = probes.check_decoder(Patient(settings, blocks=[8000]))  # type: ignore[arg-type]
    assert check.status is Status.FAIL


@pytest.mark.parametrize(
    ("error", "words"), [(EngineError(), "[engine_failed]"), (ValueError("odd"), "Unexpected ValueError: odd")]
)
def test_an_engine_that_fails_is_an_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    """Whatever goes wrong inside is a failed check, not the end of the examination."""
    monkeypatch.setattr(bootstrap, "running", Patient(settings, error=error).running)
    found = _by_name(doctor.examine({}))
    assert found["Decoder"].status is Status.OK
    assert found["Engine"].status is Status.FAIL
    assert words in found["Engine"].detail


def test_services_that_do_not_start_are_an_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed start carries its code and remedy."""

    def refuse(_settings: Settings) -> None:
        raise ModelUnavailable(remedy="Fetch it.")

    monkeypatch.setattr(bootstrap, "running", refuse)
    check = _by_name(doctor.examine({}))["Start"]
    assert (check.status, check.remedy) == (Status.FAIL, "Fetch it.")


@pytest.mark.parametrize(("status", "code"), [(Status.OK, 0), (Status.WARN, 0), (Status.FAIL, 1)])
def test_the_exit_code_and_the_forms_of_output(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, status: Status, code: int
) -> None:
    """Only failures fail; lines are for people, ``--json`` is for programs, both hold the same."""
    check = Check("Thing", status, "is [so]", "Do this.")
    monkeypatch.setattr(doctor, "examine", lambda _overrides: iter([check]))
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == code
    assert "is [so]" in shown.output
    assert "Do this." in shown.output
    read = CliRunner().invoke(app, ["doctor", "--json"])
    assert read.exit_code == code
    assert json.loads(read.stdout) == [{"name": "Thing", "status": status, "detail": "is [so]", "remedy": "Do this."}]
