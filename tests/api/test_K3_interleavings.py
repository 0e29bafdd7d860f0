"""Two tenants do the same things with the same names, in any order and at once: neither notices the other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.api.doors_support import Guarded, guarded
from tests.api.support import CLIP, ScriptedTranscriber, make_transcript
from tympan.access.tokens import Token
from tympan.domain import Options, Transcript

TUS = {"tus-resumable": "1.0.0"}
APPEND = {**TUS, "content-type": "application/offset+octet-stream"}
LENGTH = 40
NAMES = iter(f"tenant-{number}" for number in count())

who = st.integers(0, 1)
which = st.integers(0, 60)
names = st.sampled_from(("red", "green", "blue"))


@dataclass
class Tenant:
    """What one tenant has, as it must look to it whatever the other does."""

    key: Token
    named: dict[str, tuple[str, str]] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, int] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)


@contextmanager
def shared_house(folder: Path) -> Iterator[Guarded]:
    """Yield a server that hears something else every time."""
    number = count()

    def script(options: Options) -> Transcript:
        return replace(make_transcript(options), text=f"Hearing {next(number)}.")

    with guarded(folder, {"egress_allow": ["127.0.0.1:9"]}, ScriptedTranscriber(script=script)) as house:
        yield house


class Interleaving(RuleBasedStateMachine):
    """Two tenants who have just come, on a server where many have been."""

    house: Guarded
    steps = 0

    def __init__(self) -> None:
        """Give both a key."""
        super().__init__()
        self.tenants = [Tenant(self.house.give(tenant=next(NAMES))) for _ in range(2)]

    def ask(self, tenant: Tenant, method: str, path: str, **extra: object) -> httpx.Response:
        """Return an answer, which names nothing of the other tenant's."""
        type(self).steps += 1
        answer = self.house.ask(method, path, tenant.key, **extra)
        assert answer.status_code < 500, answer.text
        other = self.other(tenant)
        told = answer.text.replace(path.rsplit("/", 1)[-1], "")
        for foreign in (*other.jobs, *other.uploads, *other.endpoints, other.key.id):
            assert foreign not in told
        return answer

    def other(self, tenant: Tenant) -> Tenant:
        """Return the other one."""
        return self.tenants[1 - self.tenants.index(tenant)]

    def anybodys(self, kind: str, place: int) -> str | None:
        """Return an id of one tenant or the other, if there is any."""
        ids = [one for tenant in self.tenants for one in getattr(tenant, kind)]
        return ids[place % len(ids)] if ids else None

    @rule(who=who, name=names, body=names)
    def submit(self, who: int, name: str, body: str) -> None:
        """Hand a job in under a name for repeating it."""
        self.handed_in(self.tenants[who], name, body, self.handing_in(self.tenants[who], name, body))

    @rule(name=names, body=names)
    def submit_at_once(self, name: str, body: str) -> None:
        """Both do so with the same name and file, at the same time."""
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda one: self.handing_in(one, name, body), self.tenants))
        for tenant, answer in zip(self.tenants, answers, strict=True):
            self.handed_in(tenant, name, body, answer)

    def handing_in(self, tenant: Tenant, name: str, body: str) -> httpx.Response:
        """Send the request."""
        file = {"file": (f"{body}.wav", CLIP + body.encode())}
        return self.ask(tenant, "POST", "/v1/jobs", headers={"idempotency-key": name}, files=file)

    def handed_in(self, tenant: Tenant, name: str, body: str, answer: httpx.Response) -> None:
        """Check the answer against what this tenant has done before, and nobody else."""
        earlier = tenant.named.get(name)
        if earlier is not None and earlier[1] != body:
            assert answer.status_code in (409, 422), answer.text
            return
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        if earlier is not None:
            assert job_id == earlier[0]
            return
        assert not any(job_id in each.jobs for each in self.tenants)
        tenant.named[name], tenant.jobs[job_id] = (job_id, body), "queued"

    @rule(who=who, place=which)
    def look(self, who: int, place: int) -> None:
        """Look at any job, with the tag that whoever owns it was given last."""
        tenant, job_id = self.tenants[who], self.anybodys("jobs", place)
        if job_id is None:
            return
        tag = next((each.tags[job_id] for each in self.tenants if job_id in each.tags), '"none"')
        answer = self.ask(tenant, "GET", f"/v1/jobs/{job_id}", headers={"if-none-match": tag})
        if job_id not in tenant.jobs:
            assert answer.status_code == 404
        elif answer.status_code != 304:
            assert answer.json()["state"] == tenant.jobs[job_id]
            tenant.tags[job_id] = answer.headers["etag"]

    @rule(who=who)
    def look_at_all(self, who: int) -> None:
        """Everything that is one's own is in the lists, and nothing else."""
        tenant = self.tenants[who]
        for path, own in (("/v1/jobs", tenant.jobs), ("/v1/webhook-endpoints", tenant.endpoints)):
            listed = self.ask(tenant, "GET", path, params={"limit": 100}).json()["data"]
            assert {one["id"] for one in listed} == set(own)

    @rule(who=who, place=which, erase=st.booleans())
    def end(self, who: int, place: int, erase: bool) -> None:  # noqa: FBT001
        """Cancel or erase any job."""
        tenant, job_id = self.tenants[who], self.anybodys("jobs", place)
        if job_id is None:
            return
        asked = ("DELETE", f"/v1/jobs/{job_id}") if erase else ("POST", f"/v1/jobs/{job_id}/cancel")
        answer = self.ask(tenant, *asked)
        if job_id not in tenant.jobs:
            assert answer.status_code == 404
        elif erase:
            assert answer.status_code == 204
            del tenant.jobs[job_id]
            tenant.tags.pop(job_id, None)
            tenant.named = {name: made for name, made in tenant.named.items() if made[0] != job_id}
        else:
            assert answer.status_code == 200
            tenant.jobs[job_id] = "cancelled"

    @rule(who=who, name=names, body=names)
    def transcribe(self, who: int, name: str, body: str) -> None:
        """Have a file heard at once, as a client that may be trying again: what comes was heard for nobody else."""
        tenant = self.tenants[who]
        headers = {"idempotency-key": f"{name}-{body}", "x-stainless-retry-count": "1"}
        file = {"file": (f"{body}.wav", CLIP + body.encode())}
        answer = self.ask(tenant, "POST", "/v1/audio/transcriptions", headers=headers, files=file)
        assert answer.status_code == 200
        tenant.heard.add(answer.json()["text"])
        assert not tenant.heard & self.other(tenant).heard

    @rule(who=who)
    def begin_upload(self, who: int) -> None:
        """Begin an upload."""
        tenant = self.tenants[who]
        made = self.ask(tenant, "POST", "/v1/uploads", headers={**TUS, "upload-length": str(LENGTH)})
        if made.status_code == 201:
            tenant.uploads[made.headers["location"].rsplit("/", 1)[1]] = 0

    @rule(who=who, place=which, n_bytes=st.integers(1, 15), append=st.booleans())
    def go_on(self, who: int, place: int, n_bytes: int, append: bool) -> None:  # noqa: FBT001
        """Append to any upload, where its owner has come to, or ask how far it is."""
        tenant, upload_id = self.tenants[who], self.anybodys("uploads", place)
        if upload_id is None:
            return
        offset = next(each.uploads[upload_id] for each in self.tenants if upload_id in each.uploads)
        n_bytes, path = min(n_bytes, LENGTH - offset), f"/v1/uploads/{upload_id}"
        if append and n_bytes:
            headers = {**APPEND, "upload-offset": str(offset)}
            answer = self.ask(tenant, "PATCH", path, headers=headers, content=bytes(n_bytes))
        else:
            answer = self.ask(tenant, "HEAD", path, headers=TUS)
        if upload_id not in tenant.uploads:
            assert answer.status_code == 404
            return
        tenant.uploads[upload_id] = offset + (n_bytes if append else 0)
        assert answer.headers["upload-offset"] == str(tenant.uploads[upload_id])

    @rule(who=who, place=which, text=names)
    def change_endpoint(self, who: int, place: int, text: str) -> None:
        """Make an endpoint at the same address as the other, or change any."""
        tenant, endpoint_id = self.tenants[who], self.anybodys("endpoints", place)
        if endpoint_id is None or place % 3 == 0:
            wanted = {"url": "https://127.0.0.1:9/hook", "description": text}
            made = self.ask(tenant, "POST", "/v1/webhook-endpoints", json=wanted)
            if made.is_success:
                tenant.endpoints[made.json()["id"]] = text
            return
        answer = self.ask(tenant, "PATCH", f"/v1/webhook-endpoints/{endpoint_id}", json={"description": text})
        assert answer.status_code == (200 if endpoint_id in tenant.endpoints else 404)
        if endpoint_id in tenant.endpoints:
            tenant.endpoints[endpoint_id] = text

    def teardown(self) -> None:
        """See that both have what they should have."""
        for tenant in self.tenants:
            for job_id, state in tenant.jobs.items():
                assert self.ask(tenant, "GET", f"/v1/jobs/{job_id}").json()["state"] == state
            for upload_id, offset in tenant.uploads.items():
                answer = self.ask(tenant, "HEAD", f"/v1/uploads/{upload_id}", headers=TUS)
                assert answer.headers["upload-offset"] == str(offset)
            for endpoint_id, text in tenant.endpoints.items():
                answer = self.ask(tenant, "GET", f"/v1/webhook-endpoints/{endpoint_id}")
                assert answer.json()["description"] == text


@pytest.mark.parametrize(
    ("runs", "steps"),
    [(4, 20), pytest.param(220, 50, marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
)
def test_K3_neither_tenant_notices_the_other(tmp_path: Path, runs: int, steps: int) -> None:
    """Jobs, keys of idempotency, tags, lists, retries, uploads, endpoints: as if each were alone."""
    with shared_house(tmp_path) as house:

        class Drawn(Interleaving):
            """On this server."""

        Drawn.house = house
        chosen = settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Drawn, settings=chosen)
    assert Drawn.steps >= runs * steps * 0.7
