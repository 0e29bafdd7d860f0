"""Starting and stopping: folders that cannot be used, services that do not stop, models that are chosen."""

import threading
import time
from pathlib import Path

import pytest
import structlog

from tympan import bootstrap, config
from tympan.audio.decode import Decoder
from tympan.audio.sandbox import SandboxReport
from tympan.audio.versions import is_old
from tympan.bootstrap import pipeline
from tympan.errors import ConfigError, DecoderUnavailable, ModelNotFound


def test_a_data_folder_is_created_where_it_is_missing(tmp_path: Path) -> None:
    """The first start needs no preparation."""
    bootstrap.make_data_dir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_data_folder_that_cannot_be_used_is_said_with_the_remedy(tmp_path: Path) -> None:
    """A file in its place, for instance."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be used.*Set DATA_DIR"):
        bootstrap.make_data_dir(tmp_path / "file" / "data")


def test_a_service_that_does_not_stop_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping waits for its deadline and no longer."""
    monkeypatch.setattr(pipeline, "_STOP_S", 0.1)
    release = threading.Event()
    started = time.monotonic()

    def wait() -> None:
        release.wait(60)

    pipeline._stop("stuck", wait)
    assert time.monotonic() - started < 30
    release.set()


def test_a_service_that_fails_to_stop_does_not_keep_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """A typed error while stopping is logged, not raised."""

    def fail() -> None:
        raise DecoderUnavailable

    structlog.reset_defaults()
    pipeline._stop("decoder", fail)
    assert "DecoderUnavailable" in capsys.readouterr().out


def test_services_come_up_and_go(tmp_path: Path) -> None:
    """With the fake engine: ready inside the block, not after it, and no thread or child of theirs stays."""
    before = set(threading.enumerate())
    settings = config.load({"engine": "fake", "data_dir": tmp_path})
    with bootstrap.running(settings) as services:
        states = [services.transcriber.ready]
        assert services.registry.pick("whisper-1")[1] is services.model
    states.append(services.transcriber.ready)
    assert states == [True, False]
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.02)


@pytest.mark.parametrize("libraries", ["PyAV 14.0.0, FFmpeg 7.1.9", "PyAV 13, FFmpeg 8.0", "PyAV 9, FFmpeg nightly"])
def test_I10_an_old_media_library_is_refused_unless_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libraries: str
) -> None:
    """Nothing starts with an FFmpeg below the floor, or one that hides its version, and the remedy is said."""
    report = SandboxReport((), libraries)
    monkeypatch.setattr(Decoder, "sandbox", property(lambda _: report))
    with pytest.raises(ConfigError, match=r"too old.*ALLOW_OLD_FFMPEG"), bootstrap.running(fake(tmp_path)):
        pytest.fail("started")
    with bootstrap.running(fake(tmp_path, allow_old_ffmpeg=True)) as services:
        assert services.transcriber.ready


@pytest.mark.parametrize("libraries", ["PyAV 18.1.0, FFmpeg 8.1.2", "PyAV 19, FFmpeg 9.0", "PyAV 18, FFmpeg n8.1-dev"])
def test_I10_a_recent_media_library_is_fine(libraries: str) -> None:
    """The floor itself, and what is newer."""
    assert not is_old(libraries)


def fake(folder: Path, **more: object) -> config.Settings:
    """Return settings with the fake engine."""
    return config.load({"engine": "fake", "data_dir": folder, **more})


def test_an_unknown_model_stops_what_had_started(tmp_path: Path) -> None:
    """The error is the model's, and the decoder does not outlive it."""
    settings = config.load({"model": "no-such-model", "data_dir": tmp_path, "offline": True})
    before = set(threading.enumerate())
    with pytest.raises(ModelNotFound):
        bootstrap.running(settings).__enter__()
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.02)
