"""A cluster works: what one process takes in, another works off."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.media import tone, wav
from tests.servers.process import wait_until
from tympan.storage.audit import AuditEntry
from tympan.storage.rollouts import RolloutStore


def test_a_synchronous_call_on_a_machine_without_an_engine_is_answered_by_a_worker(site: Site, load: Load) -> None:
    """The api process hands the clip over and returns the worker's text; nothing of it is kept."""
    answer = httpx.post(
        f"{site.api.url}/v1/audio/transcriptions",
        files={"file": ("a.wav", wav(tone(5.0), 16_000))},
        data={"response_format": "verbose_json", "vad": "false"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text + site.cluster.logs()
    assert len(answer.json()["text"].split()) >= 5
    assert [entry.what for entry in load.evidence().entries("result")] == ["result"]
    assert site.postgres.execute("select id from jobs union all select job_id from results") == []
    assert site.bucket.names() == []


def test_a_stream_tells_of_sections_while_the_workers_are_at_the_rest(site: Site, load: Load) -> None:
    """Deltas come as sections are finished; joined they are the last event's text, which is that of the plain call."""
    audio = clip(70.0)
    whole = load.text_of(audio)

    def comes_in_parts() -> bool:
        """Ask once; a machine so busy that it looked only when all was done gets another chance."""
        *deltas, done = _streamed(site, audio)
        assert "".join(deltas) == done == whole
        return len(deltas) > 1

    wait_until(comes_in_parts, 90, site.cluster.logs)
    assert site.postgres.execute("select id from jobs union all select job_id from results") == []


def test_the_language_is_asked_for_alone(site: Site, load: Load) -> None:
    """The api process answers with what the worker heard, in the shape of a machine with a model; nothing is kept."""
    answer = httpx.post(
        f"{site.api.url}/v1/audio/detect-language", files={"file": clip(70.0)}, data={"vad": "false"}, timeout=60
    )
    assert answer.status_code == 200, answer.text + site.cluster.logs()
    found = answer.json()
    assert (found["language"], found["language_name"]) == ("en", "english")
    assert found["speech"]["heard_s"] < 60.0, "more was decoded than it takes"
    kept = load.evidence().entries("result")
    assert len(kept) == 1
    assert site.postgres.execute("select id from jobs union all select job_id from results") == []


@pytest.mark.long
def test_a_retry_finds_its_work_although_the_process_that_began_it_was_killed(site: Site, load: Load) -> None:
    """Another api process takes the job up: it is worked on once, and nothing of it is kept."""
    audio, doomed = clip(20.0), site.cluster.add("api")
    address, data = "/v1/audio/transcriptions", {"vad": "false", "language": "en"}
    try:
        doomed.wait_ready()
        site.worker.freeze()
        with ThreadPoolExecutor(1) as callers:
            first = callers.submit(httpx.post, doomed.url + address, files={"file": audio}, data=data, timeout=60)
            wait_until(lambda: len(site.postgres.execute("select id from jobs")) == 1, 30)
            doomed.kill()
            assert isinstance(first.exception(30), httpx.TransportError)
    finally:
        site.worker.go_on()
        doomed.kill()
        site.cluster.nodes.remove(doomed)
    retry = {"x-stainless-retry-count": "1"}
    answer = httpx.post(site.api.url + address, files={"file": audio}, data=data, headers=retry, timeout=60)
    assert answer.status_code == 200, answer.text + site.cluster.logs()
    assert answer.headers["tympan-reattached"] == "true"
    assert len(load.evidence().entries("result")) == 1


def _streamed(site: Site, audio: bytes) -> list[str]:
    """Return the deltas of a stream, and behind them the text of its last event."""
    data = {"vad": "false", "language": "en", "stream": "true"}
    answer = httpx.post(f"{site.api.url}/v1/audio/transcriptions", files={"file": audio}, data=data, timeout=60)
    assert answer.status_code == 200, answer.text + site.cluster.logs()
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [event.get("delta", event.get("text")) for event in map(json.loads, lines)]


def test_a_rollout_is_followed_by_whoever_answers_and_whoever_transcribes(site: Site) -> None:
    """A model on trial answers calls and jobs that name none; promoted, it is every worker's default."""
    rollouts, who = RolloutStore(site.store), AuditEntry("cli:tester", "rollout.test")
    rollouts.start("second", "fake", 1.0, who)
    try:
        wait_until(lambda: _model(site) == "second", 30, site.cluster.logs)
        assert _model(site, model="fake") == "fake"
        rollouts.promote(rollouts.listing()[0].id, who)
        wait_until(lambda: _default_of(site) == "second", 30, site.cluster.logs)
        wait_until(lambda: _model(site) == "second", 30, site.cluster.logs)
        assert _model(site, model="fake") == "fake"
    finally:
        rollouts.roll_back(who)
    wait_until(lambda: (_default_of(site), _model(site)) == ("fake", "fake"), 30, site.cluster.logs)


def _model(site: Site, **fields: str) -> str:
    answer = httpx.post(
        f"{site.api.url}/v1/audio/transcriptions",
        files={"file": clip(1.0)},
        data={"response_format": "verbose_json", "vad": "false", **fields},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text + site.cluster.logs()
    return str(answer.json()["model"])


def _default_of(site: Site) -> str:
    listed = httpx.get(f"{site.api.url}/v1/models", timeout=20).json()["data"]
    return next(str(model["id"]) for model in listed if model["default"])
