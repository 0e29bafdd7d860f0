"""A job of ten hours costs the server no more memory than short ones do."""

import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.operations.support import Server, recording, serving
from tests.servers.process import wait_until

_RATE_HZ = 8_000
_MIB = 1 << 20
_SLOTS = 4


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_Q1_a_job_of_ten_hours_takes_no_more_memory_than_short_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Handed in, cut, transcribed and joined: the peak is within 16 MiB of that of jobs of a section each.

    These use every slot of the worker, as the long one does. One minute alone uses one, and so takes less.
    """
    hours = 10
    with serving(tmp_path / "data", MAX_AUDIO_S="40000", MAX_UPLOAD_MB="400", JOB_SLOTS=str(_SLOTS)) as server:
        for number in range(3):
            _done(server, _file(tmp_path / f"minute-{number}.wav", 60, number))
        alone = _peak_bytes(server)
        short = [_file(tmp_path / f"short-{number}.wav", 300, 10 + number) for number in range(3 * _SLOTS)]
        with ThreadPoolExecutor(_SLOTS) as callers:
            list(callers.map(lambda path: _done(server, path), short))
        busy = _peak_bytes(server)
        _forget_peak(server)
        job = _done(server, _file(tmp_path / "long.wav", 3600 * hours, 100))
        peak = _peak_bytes(server)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n  peak {alone / _MIB:.1f} MiB with a minute at a time, {busy / _MIB:.1f} MiB with {_SLOTS} short jobs, "
            f"{peak / _MIB:.1f} MiB with {hours} h"
        )
    assert job["progress"]["audio_s_total"] == pytest.approx(3600 * hours, abs=1)
    assert peak - busy <= 16 * _MIB


def _file(path: Path, seconds: int, number: int) -> Path:
    """Return a WAV file of a tone of its own, written second by second."""
    second = recording(1.0, 300.0 + 10 * number)[-_RATE_HZ:]
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 1, _RATE_HZ, 0, "NONE", ""))
        for _ in range(seconds):
            writer.writeframesraw(second)
    return path


def _done(server: Server, path: Path) -> dict[str, Any]:
    """Hand a job in and return it when it has succeeded."""
    with path.open("rb") as file:
        fields = {"vad": "false", "language": "en"}
        made = httpx.post(f"{server.url}/v1/jobs", files={"file": ("a.wav", file)}, data=fields, timeout=300)
    assert made.status_code == 202, made.text
    url = f"{server.url}/v1/jobs/{made.json()['id']}"
    job: dict[str, Any] = {}

    def ended() -> bool:
        job.update(httpx.get(url, timeout=30).json())
        return job["state"] not in ("queued", "running")

    wait_until(ended, 1200, lambda: f"{job}\n{server.said()}")
    assert job["state"] == "succeeded", job
    return job


def _peak_bytes(server: Server) -> int:
    """Return the most memory that the server's own process has held since the peak was last forgotten."""
    status = Path(f"/proc/{server.child.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


def _forget_peak(server: Server) -> None:
    """Let the peak count from now on."""
    Path(f"/proc/{server.child.pid}/clear_refs").write_text("5")
