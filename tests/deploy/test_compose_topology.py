"""``compose.yaml`` runs: its own commands and environment, started here on real servers, behind the shipped nginx."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.files import DEPLOY, SECRETS, compose, documents
from tests.deploy.nginx_files import Ports, compose_files, installed
from tests.deploy.topology import Topology
from tests.media import tone, wav
from tests.servers.nginx import NginxServer
from tests.servers.postgres import Database, PostgresServer
from tests.servers.process import free_port, wait_until
from tests.servers.rabbitmq import RabbitServer, VirtualHost
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Bucket, S3Server

CLIP = wav(tone(5.0), 16_000)


@pytest.fixture
def topology(
    tmp_path: Path,
    postgres_server: PostgresServer,
    rabbitmq_server: RabbitServer,
    redis: RedisServer,
    s3_server: S3Server,
) -> Iterator[Topology]:
    """Return the tympan services, running, on a database, a virtual host and a bucket with the names of the file."""
    for server in (postgres_server, rabbitmq_server, s3_server):
        server.ensure()
    database, vhost = Database(postgres_server, "tympan"), VirtualHost(rabbitmq_server, "tympan")
    S3Bucket(s3_server, "tympan")
    secret = {"password": SECRETS["RABBITMQ_PASSWORD"], "tags": ""}
    rabbitmq_server.api("PUT", "/api/users/tympan", secret)
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    rabbitmq_server.api("PUT", "/api/permissions/tympan/tympan", everything)
    places = {
        "postgres:5432": f"127.0.0.1:{postgres_server.port}",
        "rabbitmq:5672": f"127.0.0.1:{rabbitmq_server.port}",
        "redis:6379": f"127.0.0.1:{redis.port}",
        "s3:8333": f"127.0.0.1:{s3_server.port}",
    }
    running = Topology(compose({**SECRETS, "ENGINE": "fake"})["services"], places, tmp_path)
    try:
        running.run("migrate")
        for name in running.tympan():
            running.start(name)
        yield running
    finally:
        running.close()
        rabbitmq_server.api("DELETE", "/api/users/tympan")
        vhost.drop()
        database.drop()


def _in_front(topology: Topology, start: Callable[[str], NginxServer], folder: Path) -> str:
    """Start the nginx of the file in front of the api processes and return its address."""
    door = free_port()
    upstream = {f"{name}:8000": f"127.0.0.1:{topology.ports[name]}" for name in topology.tympan()}
    listen = {8080: f"127.0.0.1:{door}", 3000: f"127.0.0.1:{free_port()}"}
    files = compose_files(topology.services["nginx"]["volumes"])
    start(installed(files, folder / "nginx", Ports(listen, upstream)))
    return f"http://127.0.0.1:{door}"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _client(topology: Topology, url: str) -> httpx.Client:
    """Return a client with a key made as the documentation says."""
    key = topology.output("scheduler", "keys", "create").strip()
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30)


def _job_of(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/v1/jobs", files={"file": ("a.wav", CLIP)}, data={"vad": "false"})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def _state(client: httpx.Client, job: dict[str, Any]) -> str:
    return str(client.get(f"/v1/jobs/{job['id']}").json()["state"])


def test_the_services_of_the_file_answer_calls_and_work_off_jobs(
    topology: Topology, nginx: Callable[[str], NginxServer], tmp_path: Path
) -> None:
    """What an upload meets in Compose it meets here: nginx, an api process, broker, database, storage, a worker."""
    assert len(topology.tympan()) == 6
    url = _in_front(topology, nginx, tmp_path)
    for name in topology.tympan():
        path = "livez" if name == "scheduler" else "readyz"
        ready = f"http://127.0.0.1:{topology.ports[name]}/{path}"
        wait_until(lambda at=ready: _answers(at), 40, topology.logs)  # type: ignore[misc]
    form: dict[str, Any] = {"files": {"file": ("a.wav", CLIP)}, "data": {"vad": "false"}}
    assert httpx.post(f"{url}/v1/audio/transcriptions", timeout=30, **form).status_code == 401
    with _client(topology, url) as client:
        answer = client.post("/v1/audio/transcriptions", **form)
        assert answer.status_code == 200, answer.text + topology.logs()
        assert len(answer.json()["text"].split()) >= 5
        job = _job_of(client)
        wait_until(lambda: _state(client, job) in ("succeeded", "failed"), 30, topology.logs)
        assert _state(client, job) == "succeeded"
        result = client.get(f"/v1/jobs/{job['id']}/result")
        assert len(result.json()["text"].split()) >= 5
    _check_what_prometheus_asks(topology)


def _check_what_prometheus_asks(topology: Topology) -> None:
    """Every address that Prometheus asks is a service of the file and answers with our metrics."""
    (settings,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    targets = [
        target for each in settings["scrape_configs"] for group in each["static_configs"] for target in group["targets"]
    ]
    assert sorted(targets) == sorted(f"{name}:8000" for name in topology.tympan())
    for target in targets:
        port = topology.ports[target.split(":")[0]]
        assert "tympan_job_backlog_seconds" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text


def test_the_services_get_nothing_but_what_the_file_names(tmp_path: Path) -> None:
    """The harness hands on no setting of its own: apart from addresses all is the file's and the image's."""
    services = compose({**SECRETS, "ENGINE": "fake"})["services"]
    found = Topology(services, {}, tmp_path).environment("api-1")
    moved = {"TYMPAN_HOST", "TYMPAN_PORT", "TYMPAN_DATA_DIR", "PATH"}
    assert os.environ["PATH"] == found["PATH"]
    assert {key: found[key] for key in services["api-1"]["environment"] if key not in moved} == {
        key: value for key, value in services["api-1"]["environment"].items() if key not in moved
    }
