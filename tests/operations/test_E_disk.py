"""A disk is full: what needs room is refused in words, what does not goes on, and nothing is left or lost."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.operations.support import (
    FAST,
    Server,
    full,
    hand_in,
    job_form,
    looking_in,
    rows,
    sections_done,
    serving,
    state,
    wait_for,
    words_of,
)
from tests.servers.process import free_port, wait_until
from tympan.domain import JobState

SmallDisk = Callable[[Path, int], Path]
MB = 1 << 20


def _staged(folder: Path) -> list[Path]:
    return [path for path in (folder / "staging").rglob("*") if path.is_file() and path.name != "lock"]


def test_E1_a_disk_that_fills_up_during_an_upload_leaves_no_trace(tmp_path: Path, small_disk: SmallDisk) -> None:
    """The upload is answered with 507 and removed, other calls go on, and uploads work once there is room."""
    folder = small_disk(tmp_path / "data", 160)
    with serving(folder) as server:
        begun, filled = threading.Event(), threading.Event()

        def body() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
            yield b"\0" * MB
            begun.set()
            assert filled.wait(20)
            for _ in range(32):
                yield b"\0" * MB
            yield b"\r\n--b--\r\n"

        answers: list[httpx.Response] = []
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        url = f"{server.url}/v1/audio/transcriptions"
        caller = threading.Thread(
            target=lambda: answers.append(httpx.post(url, content=body(), headers=headers, timeout=30))
        )
        caller.start()
        assert begun.wait(10)
        wait_until(lambda: bool(_staged(folder)), 10)
        with full(folder):
            filled.set()
            caller.join(30)
            assert [answer.status_code for answer in answers] == [507]
            assert answers[0].json()["error"]["code"] == "insufficient_storage"
            assert httpx.get(f"{server.url}/livez").status_code == 200
            assert httpx.get(f"{server.url}/health").status_code == 200
            wait_until(lambda: not _staged(folder), 5)
        assert server.transcribe().status_code == 200
        wait_until(lambda: not _staged(folder), 5)


_DOORS = ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/jobs", "/transcribe/async")


def test_E2_with_a_twentieth_of_the_disk_free_a_body_is_refused_before_it_is_read(
    tmp_path: Path, large_disk: SmallDisk
) -> None:
    """At every door, however the body is sent, the answer comes when nothing but the head has been; then room helps."""
    folder = large_disk(tmp_path / "data", 4000)
    with serving(folder) as server:
        with full(folder, 190 * MB):
            for path in _DOORS:
                for length in (f"Content-Length: {MB}", "Transfer-Encoding: chunked"):
                    answer = _answer_to_head(server, path, length)
                    assert answer.startswith(b"HTTP/1.1 507"), (path, length, answer)
            health = httpx.get(f"{server.url}/health").json()
            assert (health["status"], health["accepting_requests"]) == ("degraded", False)
            assert "tympan_uploaded_bytes_total 0.0" in httpx.get(f"{server.url}/metrics").text
        with full(folder, 230 * MB):
            assert server.transcribe().status_code == 200


def test_E2_the_operator_says_how_much_stays_free(tmp_path: Path, small_disk: SmallDisk) -> None:
    """A body that would take the reserve is refused on its announced length, a smaller one is not."""
    folder = small_disk(tmp_path / "data", 160)
    with serving(folder, DISK_RESERVE_MB="120") as server, full(folder, 130 * MB):
        refused = _answer_to_head(server, "/v1/audio/transcriptions", f"Content-Length: {20 * MB}")
        assert refused.startswith(b"HTTP/1.1 507"), refused
        assert server.transcribe().status_code == 200


def _answer_to_head(server: Server, path: str, length: str) -> bytes:
    """Return what comes back when only the head of a request is sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n{length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode())
        return connection.recv(4096)


def test_E3_with_a_full_database_disk_reading_goes_on_and_writing_comes_back(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    """Jobs can be looked at and handing in is refused; once there is room it works without a restart."""
    folder = small_disk(tmp_path / "data", 24)
    small_disk(folder / "staging", 200)
    small_disk(folder / "blobs", 200)
    with serving(folder) as server, httpx.Client(base_url=server.url, timeout=20) as client:
        first = client.post("/v1/jobs", **job_form(1))
        assert first.status_code == 202, first.text
        url = f"/v1/jobs/{first.json()['id']}"
        wait_until(lambda: client.get(url).json()["state"] == "succeeded", 20, server.said)
        with full(folder):
            refused = []
            for number in range(300):
                answer = client.post("/v1/jobs", **job_form(number))
                refused.append(answer.status_code)
                if refused[-3:] == [507] * 3:
                    break
            assert set(refused) <= {202, 503, 507}, refused
            assert refused[-1] == 507, refused
            assert client.get(url).status_code == 200
            assert client.get(f"{url}/result").status_code == 200
            assert client.get("/v1/jobs").status_code == 200
            assert client.get("/livez").status_code == 200
        freed = time.monotonic()
        wait_until(lambda: client.post("/v1/jobs", **job_form(999)).status_code == 202, 10, server.said)
        assert time.monotonic() - freed < 10
        with looking_in(folder) as shop:
            left = "select count(*) from jobs where state != 'succeeded'"
            wait_until(lambda: rows(shop, left) == [(0,)], 40, lambda: str(rows(shop, "select * from steps")))
            assert rows(shop, "pragma integrity_check") == [("ok",)]
            assert rows(shop, "select count(*) from results") == rows(shop, "select count(*) from jobs")
            wait_until(lambda: not _staged(folder), 5)


@pytest.mark.long
def test_E4_a_job_bears_a_disk_that_is_full_for_a_while(tmp_path: Path, small_disk: SmallDisk) -> None:
    """It waits, whichever write did not fit, and its text is that of an undisturbed run."""
    folder = small_disk(tmp_path / "data", 200)
    with serving(folder, ENGINE_OPTIONS='{"ms_per_window": "100"}') as server, looking_in(folder) as shop:
        other = hand_in(shop, 640.0)
        expected = words_of(shop, wait_for(shop, other))
        shop.service.erase("default", other.id)
        job = hand_in(shop, 640.0)
        for more in range(2):
            wait_until(lambda more=more: sections_done(shop, job) > more or _cut(shop) > more, 30, server.said)  # type: ignore[misc]
            with full(folder):
                time.sleep(4)
                assert state(shop, job) in (JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED)
        wait_for(shop, job, 60)
        assert words_of(shop, job) == expected
        assert rows(shop, "select count(*) from results") == [(1,)]
        assert server.child.poll() is None


def _cut(shop: object) -> int:
    return len(rows(shop, "select 1 from steps where kind = 'section'"))  # type: ignore[arg-type]


def test_E4_a_section_that_does_not_fit_waits_for_room(tmp_path: Path, small_disk: SmallDisk) -> None:
    """The disk holds the audio and not its sections: the job waits uncharged and leaves no half a file behind."""
    folder = small_disk(tmp_path / "data", 80)
    with serving(folder) as server, looking_in(folder) as shop:
        job = hand_in(shop, 640.0)
        shop.service.cancel("default", job.id)
        with full(folder, 8 * MB):
            job = hand_in(shop, 640.0)
            wait_until(lambda: "insufficient_storage" in server.log.read_text(), 20, server.said)
            wait_until(lambda: not _staged(folder), 10)
            assert state(shop, job) is JobState.RUNNING
        wait_for(shop, job, 40)
        assert shop.get(job).attempts == 1


def test_E5_a_log_that_takes_no_more_lines_does_not_matter(tmp_path: Path) -> None:
    """Standard output and error are a full disk: the server starts, answers, works off jobs and stops as always."""
    folder, port = tmp_path / "data", free_port()
    folder.mkdir()
    server = Server(folder, FAST, port=port)
    settings = {**FAST, "PORT": str(port), "ENGINE": "fake", "DATA_DIR": str(folder), "LOG_LEVEL": "debug"}
    with Path("/dev/full").open("wb") as nowhere:
        server.log.touch()
        server.process = subprocess.Popen(
            [sys.executable, "-c", server.program],
            env={**os.environ, **{f"TYMPAN_{name}": value for name, value in settings.items()}},
            stdout=nowhere,
            stderr=nowhere,
        )
    try:
        wait_until(server.is_ready, 30)
        with looking_in(folder) as shop:
            job = hand_in(shop, 3.0)
            assert [server.transcribe().status_code for _ in range(5)] == [200] * 5
            wait_for(shop, job)
        server.ask_to_stop()
        code, took_s = server.exit_s()
        assert (code, took_s < float(FAST["DRAIN_S"]) + 4) == (0, True)
    finally:
        server.kill()
