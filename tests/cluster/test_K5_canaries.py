"""K5 in a cluster: what a tenant sends and hears is in the log and the metrics of none of its processes."""

import json
import uuid

import httpx

from tests.cluster.conftest import Site
from tests.cluster.load import Load
from tests.operations.canaries import say_everywhere
from tests.servers.process import wait_until


def test_K5_no_process_of_a_cluster_logs_what_was_said(site: Site, load: Load) -> None:
    """Api, scheduler and Celery's worker have all had it in hand, and say so without a word of it."""
    word = f"canary{uuid.uuid4().hex}"
    nodes = (site.api, site.scheduler, site.worker)
    jobs = say_everywhere(site.api.url, word)
    wait_until(lambda: all(load.states()[job_id] in {"succeeded", "failed"} for job_id in jobs[:2]), 60,
               site.cluster.logs)  # fmt: skip
    wait_until(lambda: "webhook_attempt" in site.scheduler.log.read_text(), 60, site.cluster.logs)
    heard = httpx.get(f"{site.api.url}/v1/jobs/{jobs[0]}/result", timeout=10).json()["text"]
    logs = [node.log.read_text() for node in nodes]
    metrics = [httpx.get(f"{node.url}/metrics", timeout=10).text for node in nodes]
    assert jobs[0] in logs[0]
    assert all(job_id in logs[2] for job_id in jobs[1:2])
    assert {"step_failed"} <= {json.loads(line)["event"] for line in logs[2].splitlines() if line.startswith("{")}
    assert all("tympan_" in text for text in metrics)
    for secret in (word, heard):
        assert all(secret not in text for text in (*logs, *metrics))
