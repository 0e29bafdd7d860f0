"""However many callers, files, paths and names there are, the metrics have a bounded number of series."""

import uuid

import httpx

from tests.api.support import Site

MOST_SERIES = 2_000
_CANARY = "canarybird"


def _series(site: Site) -> set[str]:
    lines = httpx.get(f"{site.url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}


def _ask_for_what_nobody_has_asked_for(client: httpx.Client, number: int) -> None:
    """Everything that a caller may choose is new: paths, methods, ids, names of models and languages, headers."""
    name = f"{_CANARY}{number}"
    head = {"x-request-id": f"{uuid.uuid4().hex}", "user-agent": name, "authorization": f"Bearer {name}"}
    for path in (f"/{name}", f"/v1/jobs/{name}", f"/v1/models/{name}", f"/v1/audio/{name}?{name}={name}"):
        client.get(path, headers=head)
    client.request(name.upper(), "/v1/models", headers=head)
    form = {"model": name, "language": name, "vad": "false"}
    client.post("/v1/audio/transcriptions", files={"file": (f"{name}.{name}", b"x")}, data=form, headers=head)


def test_S2_what_callers_choose_makes_no_series(server: Site) -> None:
    """After a few of each kind more of them add none; what they said is in no label; there are 2,000 at most."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for number in range(3):
            _ask_for_what_nobody_has_asked_for(client, number)
        _series(server)  # To be asked for metrics makes a series as well.
        before = _series(server)
        for number in range(3, 40):
            _ask_for_what_nobody_has_asked_for(client, number)
    after = _series(server)
    assert after - before == set()
    assert len(after) <= MOST_SERIES
    assert not [series for series in after if _CANARY in series.lower()]
