"""Server-sent events of a job, read by a plain stream."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from tests.api.job_support import HTTP, get, job_site, pcm, post, refusal, submit
from tests.api.support import Site, wait_for
from tests.results import large, plant
from tympan.api.jobs import events as job_events
from tympan.api.jobs.events import JobEvents, Seen, seen_from
from tympan.domain import Accounting, Lane
from tympan.errors import UnsupportedLanguage
from tympan.storage.tables import results

LANES = tuple(Lane)


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return a server of this test's own, whose streams look ten times a second."""
    monkeypatch.setattr(job_events, "POLL_S", 0.1)
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


class Reader:
    """Reads a stream in a thread, as a browser would."""

    def __init__(self, shop: Site, job_id: str, last_id: str | None = None) -> None:
        """Connect."""
        self.events: list[tuple[str, str, Any]] = []
        self.comments: list[str] = []
        self.error: BaseException | None = None
        self._url = f"{shop.url}/v1/jobs/{job_id}/events"
        self._headers = {"last-event-id": last_id} if last_id else {}
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        found: dict[str, str] = {}
        try:
            with HTTP.stream("GET", self._url, headers=self._headers) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                for line in answer.iter_lines():
                    if line.startswith(":"):
                        self.comments.append(line)
                    elif line:
                        name, _, value = line.partition(": ")
                        found[name] = value
                    elif "event" in found:
                        self.events.append((found["id"], found["event"], json.loads(found["data"])))
                        found = {}
        except BaseException as error:  # noqa: BLE001 (told to the test)
            self.error = error

    def kinds(self) -> list[str]:
        """Return the kinds of events so far."""
        return [kind for _, kind, _ in self.events]

    def of(self, kind: str) -> list[Any]:
        """Return the data of events of one kind."""
        return [data for _, found, data in list(self.events) if found == kind]

    def wait(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert self.error is None


def words(sections: list[Any]) -> list[str]:
    """Return the text of segment events, word by word."""
    return [word for section in sections for word in section["text"].split()]


def test_a_stream_tells_a_jobs_whole_life(shop: Site) -> None:
    """States, progress and the text of each section once, in order; then it ends."""
    made = submit(shop, pcm(70))
    reader = Reader(shop, made["id"])
    wait_for(lambda: "state" in reader.kinds())
    bench = shop.shop.bench()
    bench.work_once(LANES)
    bench.work_once(LANES)
    wait_for(lambda: len(reader.of("segment")) == 1)
    bench.work_once(LANES)
    wait_for(lambda: len(reader.of("segment")) == 2)
    shop.shop.work_off()
    reader.wait()
    text = get(shop, f"/v1/jobs/{made['id']}/result?format=text").text
    assert words(reader.of("segment")) == text.split()
    assert [section["index"] for section in reader.of("segment")] == list(range(len(reader.of("segment"))))
    assert [state["state"] for state in reader.of("state")] == ["queued", "running", "succeeded"]
    progress = [one["sections_done"] for one in reader.of("progress")]
    assert progress == sorted(progress)
    assert reader.of("progress")[-1]["audio_s_done"] == 70.0
    assert reader.kinds()[-1] == "state"


def test_a_stream_goes_on_where_another_broke_off(shop: Site) -> None:
    """With its last id, no text comes twice and none is missing, even when the job has ended meanwhile."""
    made = submit(shop, pcm(70))
    bench = shop.shop.bench()
    for _ in range(3):
        bench.work_once(LANES)
    with HTTP.stream("GET", f"{shop.url}/v1/jobs/{made['id']}/events") as answer:
        lines = answer.iter_lines()
        first = [next(line for line in lines if line.startswith('data: {"index"'))]
    first_id = "1-"
    sections = [json.loads(line.removeprefix("data: ")) for line in first]
    seen = next(line for line in _lines(shop, made["id"]) if line.startswith(f"id: {first_id}"))
    shop.shop.work_off()
    reader = Reader(shop, made["id"], seen.removeprefix("id: "))
    reader.wait()
    text = get(shop, f"/v1/jobs/{made['id']}/result?format=text").text
    assert words(sections) + words(reader.of("segment")) == text.split()
    assert reader.of("segment")[0]["index"] == 1
    last = reader.events[-1][0]
    assert get(shop, f"/v1/jobs/{made['id']}/events", headers={"last-event-id": last}).status_code == 204


def _lines(shop: Site, job_id: str) -> Iterator[str]:
    with HTTP.stream("GET", f"{shop.url}/v1/jobs/{job_id}/events") as answer:
        yield from answer.iter_lines()


@pytest.mark.parametrize("end", ["cancel", "fail", "erase", "drain"])
def test_streams_end_with_their_job(shop: Site, end: str) -> None:
    """However it ends; with the server, too."""
    shop.shop.desk.refusals[1] = UnsupportedLanguage("Nobody here speaks it.", remedy="Ask elsewhere.")
    made = submit(shop, pcm(6))
    reader = Reader(shop, made["id"])
    wait_for(lambda: reader.of("state"))
    if end == "cancel":
        post(shop, f"/v1/jobs/{made['id']}/cancel")
    elif end == "fail":
        shop.shop.work_off()
    elif end == "erase":
        httpx.delete(f"{shop.url}/v1/jobs/{made['id']}", timeout=20)
    else:
        shop.services.house.draining = True
    reader.wait()
    last = reader.of("state")[-1]
    assert last["state"] == {"cancel": "cancelled", "fail": "failed", "erase": "queued", "drain": "queued"}[end]
    assert (last["error"] or {}).get("code") == ("unsupported_language" if end == "fail" else None)
    wait_for(lambda: not shop.app.state.streams.count)


def test_silence_is_broken_by_comments(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody in between takes the connection for dead."""
    monkeypatch.setattr(job_events, "HEARTBEAT_S", 0.2)
    made = submit(shop, pcm(1))
    reader = Reader(shop, made["id"])
    wait_for(lambda: len(reader.comments) > 2)
    assert len(reader.events) == 2  # The state, and the progress.
    shop.services.house.draining = True
    reader.wait()


def test_a_client_that_goes_frees_its_stream(shop: Site) -> None:
    """At once, not with the next event."""
    made = submit(shop, pcm(1))
    with HTTP.stream("GET", f"{shop.url}/v1/jobs/{made['id']}/events") as answer:
        pieces = answer.iter_raw()  # Held: a generator that is dropped closes the connection.
        next(pieces)
        assert shop.app.state.streams.count == 1
    wait_for(lambda: not shop.app.state.streams.count)


def test_streams_are_bounded(shop: Site) -> None:
    """One more than allowed is told to come back."""
    shop.app.state.streams.limit = 1
    made = submit(shop, pcm(1))
    path = f"/v1/jobs/{made['id']}/events"
    with HTTP.stream("GET", shop.url + path) as answer:
        pieces = answer.iter_raw()  # Held: a generator that is dropped closes the connection.
        next(pieces)
        refused = get(shop, path)
        assert refusal(refused)[:2] == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
    assert refusal(get(shop, "/v1/jobs/job_nope/events"))[:2] == (404, "not_found")


def test_a_database_that_is_away_ends_the_stream(shop: Site) -> None:
    """The client comes back by itself, with its last id."""
    made = submit(shop, pcm(1))
    reader = Reader(shop, made["id"])
    wait_for(lambda: reader.of("state"))
    shop.services.runner._queries.close()
    reader._thread.join(20)
    assert not reader._thread.is_alive()


def test_ids_that_are_not_ours_mean_nothing(shop: Site) -> None:
    """Everything is told from the beginning."""
    assert seen_from(None) == seen_from("x") == seen_from("1-2-3-4") == Seen()
    assert str(seen_from("3-60000-running")) == "3-60000-running"
    made = submit(shop, pcm(6))
    shop.shop.work_off()
    telling = JobEvents(shop.services, "default", made["id"], Seen())
    assert sum("event: segment" in event for event in telling.tell(telling.look())) == 1
    assert list(telling.tell(telling.look())) == []


def test_the_text_of_a_long_job_comes_in_several_events(shop: Site) -> None:
    """When it has ended: all of it once, in order, and each time from where the stream broke off."""
    made = submit(shop, pcm(1))
    shop.shop.work_off()
    plant(shop.shop.database, made["id"], replace(large(1500), accounting=Accounting(1500.0, 0.0, 0.0, 0.0)))
    reader = Reader(shop, made["id"])
    reader.wait()
    told = reader.of("segment")
    assert [section["index"] for section in told] == list(range(len(told)))
    assert words(told) == [word for n in range(1500) for word in ("Sentence", f"{n}.")]
    assert max(len(section["text"]) for section in told) < 10_000
    assert reader.kinds() == ["segment"] * len(told) + ["progress", "state"]
    for place, (last_id, _, _) in enumerate(reader.events[:-2]):
        again = Reader(shop, made["id"], last_id)
        again.wait()
        assert again.of("segment") == told[place + 1 :]


def test_a_result_that_goes_while_it_is_told_ends_the_text(shop: Site) -> None:
    """The job's state is told all the same."""
    made = submit(shop, pcm(1))
    shop.shop.work_off()
    plant(shop.shop.database, made["id"], large(1500))
    telling = JobEvents(shop.services, "default", made["id"], Seen())
    assert sum("event: segment" in event for event in telling.tell(telling.look())) == 1
    shop.shop.database.write(lambda tx: tx.execute(delete(results)))
    told = [event for _ in range(2) for event in telling.tell(telling.look())]
    assert sum("event: state" in event for event in told) == 1
    assert not telling.look().more
