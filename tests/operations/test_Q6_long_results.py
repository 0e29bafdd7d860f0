"""Q6: a result of 200,000 segments is handed out in every shape by a server that never holds it."""

import io
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.media import tone, wav
from tests.operations.support import Server, looking_in, serving
from tests.results import large, plant
from tests.servers.process import wait_until
from tympan.formats import MEDIA_TYPES

N_SEGMENTS = 200_000
MOST_BYTES = 8_000_000
WARMINGS = 10
_WORD = b"Sentence"
_TIMES = {"verbose_json": 2, "diarized_json": 2, "drop-in": 2}
"""These have the whole text beside the segments."""


@pytest.mark.long
def test_Q6_a_20_mb_result_costs_the_server_less_than_8_mb(tmp_path: Path) -> None:
    """At its peak, over what it takes when it has handed out short ones in the same shapes; all of it arrives."""
    with serving(tmp_path / "data") as server, looking_in(tmp_path / "data") as shop:
        short, long = _batch(server), _batch(server)
        plant(shop.database, long[1], large(N_SEGMENTS))
        for _ in range(WARMINGS):
            for path in _paths(*short).values():
                _fetch(server, path)
        Path(f"/proc/{server.child.pid}/clear_refs").write_text("5")  # Forget the peak so far.
        before = _status_bytes(server, "VmRSS")
        grown = {}
        for shape, path in _paths(*long).items():
            n_bytes, n_words = _fetch(server, path)
            assert n_bytes > (20e6 if shape == "verbose_json" else 0)
            assert n_words == N_SEGMENTS * _TIMES.get(shape, 1), shape
            grown[shape] = _status_bytes(server, "VmHWM") - before
        assert max(grown.values()) <= MOST_BYTES, grown


def _batch(server: Server) -> tuple[str, str]:
    """Return the ids of a finished batch and of its one job."""
    fields = {"vad": "false", "language": "en", "response_format": "text", "diarize": "true"}
    stereo = wav(tone(2.0, 8_000, 2), 8_000, "u8")
    made = httpx.post(f"{server.url}/v1/batches", files={"file": ("a.wav", stereo)}, data=fields, timeout=30)
    assert made.status_code == 202, made.text
    batch_id: str = made.json()["id"]
    url = f"{server.url}/v1/batches/{batch_id}"
    wait_until(lambda: httpx.get(url, timeout=30).json()["state"] == "finished", 60)
    (job,) = httpx.get(f"{server.url}/v1/jobs", params={"batch_id": batch_id}, timeout=30).json()["data"]
    return batch_id, job["id"]


def _paths(batch_id: str, job_id: str) -> dict[str, str]:
    """Return every way to ask for a result."""
    return {fmt: f"/v1/jobs/{job_id}/result?format={fmt}" for fmt in MEDIA_TYPES} | {
        "drop-in": f"/transcribe/{job_id}",
        "lines": f"/v1/batches/{batch_id}/results?format=jsonl&result_format=tsv",
        "archive": f"/v1/batches/{batch_id}/results?format=zip",  # Of the text alone, as was asked for.
        "events": f"/v1/jobs/{job_id}/events",
    }


def _fetch(server: Server, path: str) -> tuple[int, int]:
    """Return how many bytes were sent, and how often the word is in them."""
    with httpx.stream("GET", f"{server.url}{path}", timeout=60) as answer:
        assert answer.status_code == 200
        whole = b"".join(answer.iter_raw())
    if answer.headers["content-type"] == "application/zip":
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            (name,) = archive.namelist()
            return len(whole), archive.read(name).count(_WORD)
    return len(whole), whole.count(_WORD)


def _status_bytes(server: Server, name: str) -> int:
    """Return one figure of the server's process, without its children."""
    status = Path(f"/proc/{server.child.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith(f"{name}:"))
