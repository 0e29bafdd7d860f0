"""The decoder's processes: started late, fed slowly, cancelled, killed; nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import media
from tympan.audio.decode import DecodeLimits, Decoder
from tympan.errors import Cancelled, DecoderUnavailable, Overloaded

PROBES = "tests.decoder_probes"


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """A running decoder."""
    with Decoder(max_children=4) as running:
        assert running.sandbox.lines
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of sound."""
    path = tmp_path_factory.mktemp("media") / "clip.wav"
    path.write_bytes(media.wav(media.tone(5.0), 16_000))
    return path


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours of sound."""
    path = tmp_path_factory.mktemp("media") / "long.aac"
    path.write_bytes(media.silent_adts(7200))
    return path


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Return whether ``condition`` comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def children(pid: int | None) -> list[int]:
    """Return the processes whose parent is ``pid``, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def open_descriptors(process: object) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_parent_never_loads_the_media_library(clip: Path) -> None:
    """A process that decodes does not import PyAV itself."""
    code = (
        "import sys; from pathlib import Path; from tympan.audio.decode import Decoder\n"
        "with Decoder() as decoder:\n"
        "    n = sum(len(block) for block in decoder.stream(Path(sys.argv[1]), max_audio_s=60))\n"
        "assert n == 80000, n\n"
        "sys.exit(any(name.split('.')[0] == 'av' for name in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, clip], env=environment, check=False, timeout=60).returncode == 0


@pytest.mark.alone
def test_start_does_not_wait_for_the_library() -> None:
    """Starting takes no longer than making a process."""
    started = time.monotonic()
    with Decoder() as decoder:
        assert time.monotonic() - started < 0.1
        assert "FFmpeg" in decoder.sandbox.media_libraries


def test_report_says_what_is_enforced(decoder: Decoder) -> None:
    """Every measure has a readable line; what is missing is named."""
    report = decoder.sandbox
    assert len(report.lines) == len(report.measures) >= 10
    assert set(report.missing) == {measure.name for measure in report.measures if not measure.enforced}
    if sys.platform.startswith("linux"):
        assert {"memory", "processes", "descriptors", "orphans"}.isdisjoint(report.missing)


@pytest.mark.alone
def test_short_clips_are_quick(decoder: Decoder, clip: Path) -> None:
    """A warm template decodes a 5-second clip in a fraction of what a process start costs."""
    durations = []
    for _ in range(10):
        started = time.monotonic()
        assert sum(len(block) for block in decoder.stream(clip, max_audio_s=60)) == 80_000
        durations.append(time.monotonic() - started)
    assert min(durations) < 0.05


def test_many_files_leave_nothing_behind(decoder: Decoder, clip: Path) -> None:
    """After many decodings, good, broken and abandoned, there is no new descriptor, thread or zombie."""
    broken = clip.with_name("broken")
    broken.write_bytes(b"nothing")
    list(decoder.stream(clip, max_audio_s=60))
    assert eventually(lambda: children(decoder.template_pid) == [])
    before = (open_descriptors("self"), threading.active_count())
    fds_of_template = open_descriptors(decoder.template_pid)
    for _ in range(20):
        list(decoder.stream(clip, max_audio_s=60))
        with pytest.raises(Exception, match="known format"):
            list(decoder.stream(broken, max_audio_s=60))
        abandoned = decoder.stream(clip, max_audio_s=60)
        next(abandoned)
        abandoned.close()
    assert (open_descriptors("self"), threading.active_count()) == before
    assert eventually(lambda: children(decoder.template_pid) == [])
    assert eventually(lambda: open_descriptors(decoder.template_pid) <= fds_of_template)


def test_many_threads_share_one_decoder(decoder: Decoder, clip: Path) -> None:
    """Sixteen threads get their own audio through four children at a time."""
    lengths = [1.0, 2.0, 3.0, 4.0]
    paths = []
    for seconds in lengths:
        paths.append(clip.with_name(f"{seconds}.wav"))
        paths[-1].write_bytes(media.wav(media.tone(seconds), 16_000))

    def decode(path: Path) -> float:
        return sum(len(block) for block in decoder.stream(path, max_audio_s=60)) / 16_000

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(decode, paths * 16)) == lengths * 16


def test_closing_the_generator_kills_the_child(decoder: Decoder, long_file: Path) -> None:
    """A caller that goes away takes its child along at once."""
    stream = decoder.stream(long_file, max_audio_s=7300)
    next(stream)
    assert len(children(decoder.template_pid)) == 1
    stream.close()
    assert children(decoder.template_pid) == []


def test_cancelling_ends_the_stream_soon(long_file: Path) -> None:
    """A cancelled wait raises within a few tenths of a second and ends the child."""
    stall = long_file.with_name("stall")
    stall.write_bytes(b"stall")
    cancel = threading.Event()
    with Decoder(child_module=PROBES) as decoder:
        assert decoder.sandbox.lines
        timer = threading.Timer(0.2, cancel.set)
        timer.start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            list(decoder.stream(stall, max_audio_s=60, cancelled=cancel.is_set))
        assert time.monotonic() - started < 1.0
        assert children(decoder.template_pid) == []
        timer.join()


def test_slow_reader_is_no_timeout(long_file: Path) -> None:
    """Time that the reader spends elsewhere counts against nobody, and the child waits in little memory."""
    limits = DecodeLimits(cpu_s=0.2, cpu_s_per_s=0.0001)
    with Decoder(limits=limits) as decoder:
        assert decoder.sandbox.lines
        stream = decoder.stream(long_file, max_audio_s=36_000)
        next(stream)
        time.sleep(1.0)
        assert len(next(stream)) == 80_000
        stream.close()


def test_memory_does_not_grow_with_length(decoder: Decoder, tmp_path: Path) -> None:
    """Three hours cost a child no more memory than three minutes."""
    peaks = []
    for seconds in (180, 10_800):
        path = tmp_path / f"{seconds}"
        path.write_bytes(media.silent_adts(seconds))
        with path.open("rb") as file:
            child = decoder.launch(decoder._job(36_000), file.fileno())
        while child.read_frame(lambda _: None) is not None:
            pass
        peaks.append(child.wait().peak_memory_bytes)
        child.close()
    assert peaks[1] < peaks[0] + (8 << 20)


def test_dead_template_is_replaced(decoder: Decoder, clip: Path) -> None:
    """A killed template costs nothing but its replacement."""
    first = decoder.template_pid
    assert first
    os.kill(first, signal.SIGKILL)
    assert sum(len(block) for block in decoder.stream(clip, max_audio_s=60)) == 80_000
    assert decoder.template_pid not in (None, first)
    assert not is_alive(first)


def test_template_killed_under_a_stream_is_survived(decoder: Decoder, long_file: Path) -> None:
    """A stream whose template dies goes on in another, without a sample lost or repeated."""
    stream = decoder.stream(long_file, max_audio_s=7300)
    received = len(next(stream))
    os.kill(decoder.template_pid or 0, signal.SIGKILL)
    received += sum(len(block) for block in stream)
    assert received == sum(len(block) for block in decoder.stream(long_file, max_audio_s=7300))


def test_template_that_keeps_dying_is_given_up(clip: Path) -> None:
    """Restarts are bounded; then the error says so and when to come back."""
    with Decoder(child_module="tests.no_such_module") as decoder:
        messages = []
        for _ in range(8):
            with pytest.raises(DecoderUnavailable) as caught:
                list(decoder.stream(clip, max_audio_s=60))
            messages.append(caught.value)
    assert "ModuleNotFoundError" in messages[0].message
    assert "keeps crashing" in messages[-1].message
    assert messages[-1].retry_after_s
    assert messages[-1].retryable


def test_busy_children_are_waited_for_a_bounded_time(clip: Path, long_file: Path) -> None:
    """When no child comes free in time, the caller is told that we are at capacity."""
    with Decoder(max_children=1, limits=DecodeLimits(slot_wait_s=0.2)) as decoder:
        stream = decoder.stream(long_file, max_audio_s=7300)
        next(stream)
        with pytest.raises(Overloaded):
            list(decoder.stream(clip, max_audio_s=60))
        stream.close()
        assert list(decoder.stream(clip, max_audio_s=60))


def test_closed_decoder_leaves_no_process(long_file: Path) -> None:
    """Closing ends the template and the children of streams still open, which then raise."""
    decoder = Decoder()
    decoder.start()
    stream = decoder.stream(long_file, max_audio_s=7300)
    next(stream)
    template_pid = decoder.template_pid
    assert template_pid
    child_pids = children(template_pid)
    assert child_pids
    decoder.close()
    assert not is_alive(template_pid)
    assert eventually(lambda: not any(is_alive(pid) for pid in child_pids))
    with pytest.raises(DecoderUnavailable):
        list(stream)
    with pytest.raises(DecoderUnavailable):
        list(decoder.stream(long_file, max_audio_s=60))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
def test_killed_server_takes_everything_along(long_file: Path) -> None:
    """After kill -9 of the server neither the template nor a child lives on."""
    code = (
        "import sys, time; from pathlib import Path; from tympan.audio.decode import Decoder\n"
        "decoder = Decoder(); decoder.start(); stream = decoder.stream(Path(sys.argv[1]), max_audio_s=7300)\n"
        "next(stream); print(decoder.template_pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen([sys.executable, "-c", code, long_file], env=environment, stdout=subprocess.PIPE)
    assert server.stdout
    template_pid = int(server.stdout.readline())
    pids = [template_pid, *children(template_pid)]
    assert len(pids) == 2
    server.kill()
    server.communicate()
    assert eventually(lambda: not any(is_alive(pid) for pid in pids))
