"""A job in a cluster is one trace, from the call that handed it in over broker and database to its webhook."""

import secrets

import httpx

from tests.cluster.conftest import Site
from tests.cluster.load import clip
from tests.collector import Told
from tests.servers.process import wait_until

_ROLES = {
    "POST /v1/jobs": "api",
    "step prepare": "worker",
    "step section": "worker",
    "step finish": "worker",
    "window": "worker",
    "batch": "worker",
    "webhook": "scheduler",
}


def test_a_job_is_one_trace_through_every_process_of_a_cluster(site: Site) -> None:
    """Below the span of who called, each recorded by the process whose part it was; and nothing stands apart."""
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    made = httpx.post(
        f"{site.api.url}/v1/jobs",
        files={"file": ("a.wav", clip(40.0))},
        data={"vad": "false", "language": "en", "webhook_url": f"http://127.0.0.1:{site.receiver.port}/hook"},
        headers={"traceparent": f"00-{trace}-{caller}-01"},
        timeout=60,
    )
    assert made.status_code == 202, made.text

    def told() -> dict[str, list[Told]]:
        spans = site.collector.of(trace)
        return {name: [span for span in spans if span.name == name] for name in {span.name for span in spans}}

    wait_until(lambda: set(told()) >= set(_ROLES), 60, lambda: f"{sorted(told())}\n{site.cluster.logs()}")
    found = told()
    assert {name: {span.role for span in spans} for name, spans in found.items()} == {
        name: {role} for name, role in _ROLES.items()
    }
    (call,), (section,) = found["POST /v1/jobs"], found["step section"]
    assert call.parent_id == caller
    for name in ("step prepare", "step section", "step finish", "webhook"):
        assert [span.parent_id for span in found[name]] == [call.span_id], name
    assert section.figures["tympan.job_id"] == made.json()["id"]
    assert len(found["window"]) > 1
    assert {span.parent_id for span in found["window"] + found["batch"]} == {section.span_id}
    assert {link for span in found["window"] for link in span.links} == {span.span_id for span in found["batch"]}
    assert not any(span.failed for spans in found.values() for span in spans)
    told_of = [message.payload["data"]["id"] for message in site.receiver.messages]
    assert told_of.count(made.json()["id"]) == 1
