"""A server tells a collector what it did: one trace from the call to the engine, and from a job to its webhook."""

import json
from pathlib import Path

import httpx

from tests.collector import Collector, collecting
from tests.operations.support import recording, serving
from tests.servers.process import wait_until
from tests.webhook_receiver import receiver as receiving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def test_a_call_is_told_from_its_arrival_to_the_engine(tmp_path: Path) -> None:
    """In the trace of who called; the spans lie in one another, and their times too."""
    with collecting() as collector, serving(tmp_path / "data", OTLP_ENDPOINT=collector.url) as server:
        answer = httpx.post(
            f"{server.url}/v1/audio/transcriptions",
            files={"file": ("secret-name.wav", recording(2.0))},
            data={"vad": "false", "prompt": "canary"},
            headers={"traceparent": PARENT, "x-request-id": "my-id"},
            timeout=60,
        )
        assert answer.status_code == 200
        assert httpx.get(f"{server.url}/livez", timeout=20).status_code == 200
        server.ask_to_stop()
        assert server.exit_s()[0] == 0
        found = {span.name: span for span in collector.of(TRACE)}
        assert set(found) == {"POST /v1/audio/transcriptions", "transcribe", "window", "batch"}
        call, work = found["POST /v1/audio/transcriptions"], found["transcribe"]
        assert call.parent_id == PARENT[36:52]
        assert call.figures["tympan.request_id"] == "my-id"
        assert call.figures["http.response.status_code"] == 200
        assert work.parent_id == call.span_id
        assert found["window"].parent_id == found["batch"].parent_id == work.span_id
        assert found["window"].links == (found["batch"].span_id,)
        assert call.start_ns <= work.start_ns <= work.end_ns <= call.end_ns
        assert not collector.named("GET /livez")
        assert not any("canary" in json.dumps(span.figures) or "secret" in str(span) for span in collector.spans)


def test_a_job_is_told_from_the_call_to_its_webhook(tmp_path: Path) -> None:
    """All steps, whoever takes them and when, are in the trace of the call that handed the job in."""
    with collecting() as collector, receiving() as receiver:
        allowed = json.dumps([f"127.0.0.1:{receiver.port}"])
        with serving(tmp_path / "data", OTLP_ENDPOINT=collector.url, EGRESS_ALLOW=allowed) as server:
            made = httpx.post(
                f"{server.url}/v1/jobs",
                files={"file": ("a.wav", recording(2.0))},
                data={"vad": "false", "language": "en", "webhook_url": f"http://127.0.0.1:{receiver.port}/hook"},
                headers={"traceparent": PARENT},
                timeout=60,
            )
            assert made.status_code == 202, made.text
            wait_until(lambda: len(receiver.messages) == 1, 30, server.said)
            wait_until(lambda: "webhook" in _names(collector), 30, server.said)
            found = {span.name: span for span in collector.of(TRACE)}
    assert set(found) >= {"POST /v1/jobs", "step prepare", "step section", "step finish", "window", "batch", "webhook"}
    call = found["POST /v1/jobs"]
    for name in ("step prepare", "step section", "step finish", "webhook"):
        assert found[name].parent_id == call.span_id, name
    assert found["step section"].figures["tympan.job_id"] == made.json()["id"]
    assert found["window"].parent_id == found["step section"].span_id
    assert not any(span.failed for span in found.values())
    assert found["webhook"].kind == 3
    assert not any("canary" in str(span) or "hook" in json.dumps(span.figures) for span in collector.spans)


def _names(collector: Collector) -> set[str]:
    return {span.name for span in collector.of(TRACE)}
