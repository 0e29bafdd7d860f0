"""A hijacked decoder: what it may not do, and what becomes of it."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tympan.audio.children import Child
from tympan.audio.decode import DecodeLimits, Decoder
from tympan.audio.template import Job
from tympan.domain import Samples
from tympan.errors import MediaCrash, MediaTimeout, TooLong, UnsupportedMedia


@pytest.fixture(scope="module")
def probes() -> Iterator[Decoder]:
    """A decoder whose children run attacks, with a second of processor time each."""
    limits = DecodeLimits(cpu_s=1.0, cpu_s_per_s=0.0)
    with Decoder(max_children=4, limits=limits, child_module="tests.decoder_probes") as running:
        yield running


def seconds(decoder: Decoder, path: Path, data: bytes, max_audio_s: float = 60.0) -> float:
    """Return the length of what was decoded."""
    path.write_bytes(data)
    return sum(len(block) for block in decoder.stream(path, max_audio_s=max_audio_s)) / 16_000


def outcome(probes: Decoder, path: Path, probe: str) -> str:
    """Return what a probe reports from inside the sandbox."""
    with pytest.raises(UnsupportedMedia) as caught:
        seconds(probes, path, probe.encode())
    return caught.value.message


def test_I8_sandbox_refuses_the_network(probes: Decoder, tmp_path: Path) -> None:
    """A child cannot even make a socket, let alone reach the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert outcome(probes, tmp_path / "in", f"connect {server.getsockname()[1]}").startswith("denied")
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_I8_sandbox_refuses_the_file_system(probes: Decoder, tmp_path: Path) -> None:
    """A child reads and writes no file, not even one that everybody may."""
    tmp_path.chmod(0o777)
    readable = tmp_path / "readable"
    readable.write_text("secret")
    readable.chmod(0o666)
    for target in ("/etc/shadow", "/etc/passwd", "/proc/self/environ", str(readable)):
        assert outcome(probes, tmp_path / "in", f"read {target}").startswith("denied"), target
    for target in (str(tmp_path / "new"), str(readable), "/dev/shm/tympan-probe"):
        assert outcome(probes, tmp_path / "in", f"write {target}").startswith("denied"), target
    assert readable.read_text() == "secret"


@pytest.mark.parametrize("probe", ["fork", "kill-template", "raise-limits", "run-code", "allocate 10000000000"])
def test_I8_sandbox_refuses(probes: Decoder, tmp_path: Path, probe: str) -> None:
    """A child starts no process, ends no other, lifts no limit, runs no code of its own and takes no 10 GB."""
    assert outcome(probes, tmp_path / "in", probe).startswith("denied")


def test_I8_endless_loop_is_killed(probes: Decoder, tmp_path: Path) -> None:
    """A child that computes for ever is ended at its processor limit."""
    started = time.monotonic()
    with pytest.raises(MediaTimeout):
        seconds(probes, tmp_path / "in", b"loop", max_audio_s=1)
    assert time.monotonic() - started < 60


def test_I8_sleeper_is_killed(probes: Decoder, tmp_path: Path) -> None:
    """A child that uses no processor time is ended when its reader has waited long enough."""
    started = time.monotonic()
    with pytest.raises(MediaTimeout):
        seconds(probes, tmp_path / "in", b"stall", max_audio_s=1)
    assert 1.9 < time.monotonic() - started < 60


def test_I8_child_holds_nothing_but_its_file_and_its_pipe(
    probes: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child inherits no descriptor, and no variable that could hold a secret."""
    assert outcome(probes, tmp_path / "in", "descriptors") == "allowed: [0, 1, 2]"
    monkeypatch.setenv("TYMPAN_TEST_SECRET", "s3cret")
    with Decoder(child_module="tests.decoder_probes") as fresh:
        assert "SECRET" not in outcome(fresh, tmp_path / "in", "environment")


def test_I9_crash_is_tried_once_more_and_reported(
    probes: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that dies of a signal gives ``media_crash`` after one retry; the template lives on, no core is left."""
    assert probes.sandbox.lines
    template_pid = probes.template_pid
    launched: list[Job] = []
    launch = probes.launch

    def counted(job: Job, media_fd: int) -> Child:
        launched.append(job)
        return launch(job, media_fd)

    monkeypatch.setattr(probes, "launch", counted)
    with pytest.raises(MediaCrash, match="SIGSEGV"):
        seconds(probes, tmp_path / "in", b"segfault")
    assert len(launched) == 2
    assert probes.template_pid == template_pid
    assert not list(Path("/").glob("core*"))


def test_I9_crash_after_some_audio_repeats_none_of_it(probes: Decoder, tmp_path: Path) -> None:
    """A retry delivers only what the first attempt did not."""
    path = tmp_path / "in"
    path.write_bytes(b"segfault-late 4000")
    received: list[Samples] = []
    with pytest.raises(MediaCrash):
        received.extend(probes.stream(path, max_audio_s=60))
    assert [len(block) for block in received] == [4000]


@pytest.mark.parametrize(
    "probe", ["nonsense kind", "nonsense length", "nonsense odd", "nonsense json", "exit 3", "exit 0"]
)
def test_I9_nonsense_from_a_child_is_a_crash(probes: Decoder, tmp_path: Path, probe: str) -> None:
    """What a hijacked child writes is checked like any other input."""
    with pytest.raises(MediaCrash):
        seconds(probes, tmp_path / "in", probe.encode())


def test_I9_child_that_never_stops_is_stopped_at_the_limit(probes: Decoder, tmp_path: Path) -> None:
    """The server counts for itself: a child that ignores the limit does not get past it."""
    with pytest.raises(TooLong):
        seconds(probes, tmp_path / "in", b"endless", max_audio_s=30)
