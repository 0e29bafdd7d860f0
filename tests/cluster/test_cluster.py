"""A cluster works: what one process takes in, another works off."""

import httpx

from tests.cluster.conftest import Site
from tests.cluster.load import Load
from tests.media import tone, wav


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
