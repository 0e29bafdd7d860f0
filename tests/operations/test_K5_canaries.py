"""K5: what a tenant sends and hears is in no answer to another, no line of the log and no metric."""

import json
import uuid
from pathlib import Path

import httpx
import pytest

from tests.access_support import entry, new_key
from tests.operations.canaries import say_everywhere, what_others_read
from tests.operations.support import Server, looking_in, rows, serving
from tests.servers.process import wait_until
from tympan.access.callers import USUAL
from tympan.storage.keys import KeyStore


def _keys(server: Server) -> list[str]:
    """Return the keys of two tenants, and of an operator who may see the metrics."""
    found = []
    with looking_in(server.folder) as shop:
        for tenant, scopes in (("acme", USUAL), ("other", USUAL), ("operator", ("metrics",))):
            token, new = new_key(tenant, scopes)
            KeyStore(shop.database).create(new, entry())
            found.append(token.text)
    return found


@pytest.mark.long
def test_K5_nobody_else_reads_what_a_tenant_says(tmp_path: Path) -> None:
    """Not even who reads the log at debug level; the word is found where it has to be, so the search can find it."""
    word = f"canary{uuid.uuid4().hex}"
    with serving(tmp_path / "data", API_KEYS="required", LOG_LEVEL="debug") as server:
        acme, other, operator = _keys(server)
        jobs = say_everywhere(server.url, word, acme)
        with looking_in(server.folder) as shop:
            ended = "select count(*) from jobs where finished_at is not null"
            wait_until(lambda: rows(shop, ended) >= [(2,)], 60, server.said)
            wait_until(lambda: rows(shop, "select count(*) from delivery_attempts") >= [(2,)], 60, server.said)
        mine = {"authorization": f"Bearer {acme}"}
        assert word in httpx.get(f"{server.url}/v1/jobs", headers=mine).text
        heard = httpx.get(f"{server.url}/v1/jobs/{jobs[0]}/result", headers=mine).json()["text"]
        read = what_others_read(server.url, other, jobs)
        metrics = httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {operator}"}).text
        server.ask_to_stop()
        server.exit_s()
    log = server.log.read_text()
    events = {json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")}
    assert {"job_submitted", "step_failed", "webhook_attempt", "request"} <= events
    assert "tympan_step_failures_total" in metrics
    assert len(heard) > 10
    for secret in (word, heard):
        assert secret not in read
        assert secret not in log
        assert secret not in metrics
    for job_id in jobs:
        assert job_id not in metrics
    assert "acme" not in metrics
    assert "acme" not in read
