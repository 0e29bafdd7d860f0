"""`/v1/usage`, and limits of tenants with keys of their own: nobody sees or feels another's."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.api.doors_support import Guarded, guarded
from tests.api.support import wait_for
from tympan import telemetry
from tympan.access.callers import USUAL, Scope
from tympan.access.limits import LimitBook, LimitDesk
from tympan.access.tenant_limits import TenantLimits, Work
from tympan.access.usage import UsageMeter, Used
from tympan.errors import RateLimited
from tympan.storage.tenants import TenantStore

_MOST_SERIES = 2000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path) as running:
        yield running


def test_each_tenant_sees_its_own_usage(server: Guarded) -> None:
    """As JSON and as CSV; another's takes the right to it, and a name that nobody has shows nothing."""
    one, other = server.give("one"), server.give("other")
    for _ in range(2):
        assert server.transcribe(one).status_code == 200
    assert server.transcribe(other).status_code == 200
    wait_for(lambda: [row["requests"] for row in server.ask("GET", "/v1/usage", one).json()["data"]] == [2])
    wait_for(lambda: server.ask("GET", "/v1/usage", other).json()["data"])
    found = server.ask("GET", "/v1/usage", one).json()
    today = datetime.now(UTC).date()
    assert (found["first"], found["last"]) == ((today - timedelta(days=30)).isoformat(), today.isoformat())
    (row,) = found["data"]
    assert {name: row[name] for name in ("tenant", "kind", "model", "requests", "failures")} == {
        "tenant": "one",
        "kind": "sync",
        "model": "base",
        "requests": 2,
        "failures": 0,
    }
    assert row["audio_s"] == pytest.approx(8.4)
    text = server.ask("GET", "/v1/usage?format=csv", other).text
    assert [line["tenant"] for line in csv.DictReader(io.StringIO(text))] == ["other"]
    refused = server.ask("GET", "/v1/usage?tenant=one", other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    admin = server.give("other", (*USUAL, Scope.ADMIN))
    assert server.ask("GET", "/v1/usage?tenant=one", admin).json()["data"] == [row]
    assert server.ask("GET", "/v1/usage?tenant=nobody", admin).json()["data"] == []
    everybody = server.ask("GET", "/v1/usage?tenant=*", admin).json()["data"]
    assert [each["tenant"] for each in everybody] == ["one", "other"]
    assert server.ask("GET", "/v1/usage?tenant=*", one).status_code == 403


@pytest.mark.parametrize(
    "query", ["from=x", "to=2026-02-30", "from=2026-02-01&to=2026-01-01", "from=1999-01-01", "format=xml", "of=me"]
)
def test_usage_of_days_that_make_no_sense_is_refused(server: Guarded, query: str) -> None:
    """By the parameter's name, whatever it is."""
    answer = server.ask("GET", f"/v1/usage?{query}", server.give())
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("from", "to", "format", "of")


def test_the_first_and_the_last_day_there_is_can_be_asked_for(server: Guarded) -> None:
    """The calendar's ends are no trouble."""
    key = server.give()
    for query in ("to=0001-01-01", "from=9999-12-31&to=9999-12-31"):
        assert server.ask("GET", f"/v1/usage?{query}", key).status_code == 200


def test_K3_a_tenant_that_has_used_up_its_limit_is_alone_with_that(server: Guarded) -> None:
    """A limit that is set while the server runs counts within 5 s, for its tenant and all of its keys."""
    one, other = server.give("one"), server.give("other")
    TenantStore(server.stores.database, audio_days=1.0, text_days=1.0).limit("one", {"requests_per_min": 1})
    wait_for(lambda: server.stores.limits.of("one").requests_per_min == 1)
    assert server.transcribe(one).status_code == 200
    assert server.transcribe(server.give("one")).status_code == 429
    for _ in range(3):
        answer = server.transcribe(other)
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


def test_S2_ten_thousand_tenants_make_no_more_series() -> None:
    """No metric has a tenant in it, whatever their limits and their usage."""
    desk = LimitDesk(LimitBook(TenantLimits(requests_per_min=1, requests_at_once=1, audio_minutes_per_day=1)))
    meter = UsageMeter()
    for number in range(10_000):
        tenant = f"tenant-{number}-of-many"
        desk.admit(tenant, 5.0)
        with pytest.raises(RateLimited):
            desk.admit(tenant, 5.0)
        with desk.hold(tenant, Work.SYNC), pytest.raises(RateLimited), desk.hold(tenant, Work.SYNC):
            pass
        meter.add(tenant, Work.SYNC, "base", Used(1))
    meter.flush()
    text = telemetry.metrics_text().decode()
    assert "-of-many" not in text
    assert len(text.splitlines()) <= _MOST_SERIES
