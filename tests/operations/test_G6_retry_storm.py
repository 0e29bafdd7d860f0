"""G6: the object storage answers 503 and clients try again at once. The server's own retries do not make it a storm."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.contract.http_faults import FaultyHttp
from tests.operations.support import job_form, serving
from tests.servers.s3 import S3Bucket

TRIES = 5_000
CLIENTS = 16


def _counted(url: str, name: str) -> float:
    """Return a counter of a server, its labels taken together."""
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_G6_a_storm_of_clients_is_not_multiplied(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    """Of 5,000 tries by clients that do not wait, every one is answered 503; a tenth is tried again by the server."""
    form = job_form(1)
    with FaultyHttp(s3_bucket.server.port) as proxy:
        address = s3_bucket.url(endpoint=proxy.endpoint)
        with serving(tmp_path / "data", STORAGE_URL=address) as server, httpx.Client(timeout=60) as http:
            proxy.refused.add("PUT")
            before = len(proxy.methods)

            with ThreadPoolExecutor(CLIENTS) as clients:
                answers = list(clients.map(lambda _: http.post(f"{server.url}/v1/jobs", **form), range(TRIES)))
            asked = proxy.methods[before:].count("PUT")
            retries = _counted(server.url, "tympan_retries_total")
            proxy.refused.clear()
            assert http.post(f"{server.url}/v1/jobs", **form).status_code == 202
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    assert asked == len(answers) + retries
    assert 100 <= retries <= 0.1 * TRIES
