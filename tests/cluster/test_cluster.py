"""A cluster works: what one process takes in, another works off."""

import httpx

from tests.cluster.support import Cluster
from tests.media import tone, wav


def test_a_synchronous_call_on_a_machine_without_an_engine_is_answered_by_a_worker(cluster: Cluster) -> None:
    """The api process hands the clip over and returns the worker's text; nothing of it is kept."""
    api, _, worker = cluster.add("api"), cluster.add("scheduler"), cluster.add("worker")
    for node in (worker, api):
        node.wait_ready()
    answer = httpx.post(
        f"{api.url}/v1/audio/transcriptions",
        files={"file": ("a.wav", wav(tone(5.0), 16_000))},
        data={"response_format": "verbose_json", "vad": "false"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text + cluster.logs()
    assert len(answer.json()["text"].split()) >= 5
