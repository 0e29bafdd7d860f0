"""The routes of webhooks, over a real service on a real database; refusals name their field and change nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks

from tests.api.support import Site
from tests.servers.postgres import Database
from tests.webhook_receiver import Post, post_office
from tympan.api.deps import Desks
from tympan.egress import Egress, EgressRules
from tympan.errors import AddressRefused, Conflict, InvalidRequest, NotFound
from tympan.jobs.webhooks import EndpointChange, WebhookService
from tympan.storage.database import sqlite_url
from tympan.storage.webhooks import MAX_ENDPOINTS, WebhookStore

BASE = "/v1/webhook-endpoints"


class Client:
    """Calls the routes of one server."""

    def __init__(self, url: str) -> None:
        """Call the server at ``url``."""
        self.base, self._http = url + BASE, httpx.Client(timeout=20)

    def __call__(self, method: str, path: str = "", expected: int = 200, **request: Any) -> Any:
        """Return the body of an answer with the expected status."""
        answer = self._http.request(method, self.base + path, **request)
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.content else None

    def refused(self, method: str, path: str = "", expected: int = 400, **request: Any) -> tuple[str, str | None]:
        """Return code and field of a refusal."""
        error = self(method, path, expected, **request)["error"]
        assert error["message"]
        return error["code"], error["param"]

    def close(self) -> None:
        """Hang up."""
        self._http.close()


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    """Return a receiver and the sending side on an empty database."""
    with post_office(sqlite_url(tmp_path / "hooks.db")) as running:
        yield running


@pytest.fixture
def call(post: Post, make_site: Callable[..., Site]) -> Iterator[Client]:
    """Return what calls a server with webhooks."""
    client = _client(make_site(), post)
    yield client
    client.close()


def _client(site: Site, post: Post) -> Client:
    site.app.state.services = replace(site.services, desks=Desks(site.services.jobs, None, post.webhooks))
    return Client(site.url)


@pytest.fixture
def made(call: Client, post: Post) -> dict[str, Any]:
    """Return a new endpoint at the receiver, as it was answered."""
    answer: dict[str, Any] = call("POST", "", 201, json={"url": post.receiver.url(), "description": "mine"})
    return answer


def test_an_endpoint_is_made_read_changed_and_deleted(call: Client, post: Post, made: dict[str, Any]) -> None:
    """What was made is read back without its secret, changes one field at a time, and is gone after deletion."""
    assert made.pop("secret").startswith("whsec_")
    assert (made["url"], made["description"], made["enabled"]) == (post.receiver.url(), "mine", True)
    assert made["created_at"].endswith("Z")
    path = f"/{made['id']}"
    assert call("GET", path) == made
    assert call("PATCH", path, json={"description": "yours"}) == made | {"description": "yours"}
    moved = call("PATCH", path, json={"url": post.receiver.url("/b")})
    assert (moved["url"], moved["description"]) == (post.receiver.url("/b"), "yours")
    disabled = call("PATCH", path, json={"enabled": False})
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "Disabled by its owner.")
    assert call("PATCH", path, json={"enabled": True})["disabled_reason"] is None
    assert call("DELETE", path, 204) is None
    assert call.refused("GET", path, 404) == ("not_found", None)
    assert call.refused("DELETE", path, 404) == ("not_found", None)
    assert call("GET")["data"] == []


def test_endpoints_are_listed_in_pages(call: Client, post: Post) -> None:
    """Pages follow one another, newest first, without gap or repetition."""
    ids = [call("POST", "", 201, json={"url": post.receiver.url(f"/{n}")})["id"] for n in range(5)]
    seen, after = [], None
    for expected in (2, 2, 1):
        page = call("GET", "", params={"limit": 2} | ({"after": after} if after else {}))
        assert len(page["data"]) == expected
        seen += [endpoint["id"] for endpoint in page["data"]]
        after = page["next"]
    assert seen == ids[::-1]
    assert (page["has_more"], after) == (False, None)


def test_pages_go_on_though_an_endpoint_goes_or_is_asked_for_again(call: Client, post: Post) -> None:
    """What happens to the endpoint that a page ended with neither breaks off nor repeats the list."""
    for number in range(6):
        post.webhooks.ensure_endpoint("default", post.receiver.url(f"/{number}"))
    every = [endpoint["id"] for endpoint in call("GET")["data"]]
    first = call("GET", "", params={"limit": 2})
    post.pass_time(400)
    for number in range(6):
        post.webhooks.ensure_endpoint("default", post.receiver.url(f"/{number}"))
    second = call("GET", "", params={"limit": 2, "after": first["next"]})
    call("DELETE", f"/{second['next']}", 204)
    third = call("GET", "", params={"limit": 2, "after": second["next"]})
    assert [one["id"] for page in (first, second, third) for one in page["data"]] == every
    assert call.refused("GET", params={"after": "whe_0"}) == ("invalid_request", "after")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "url"), ({"url": None}, "url"), ({"url": 5}, "url"), ({"url": ""}, "url"), ({"url": "nonsense"}, "url"),
        ({"url": "ftp://a.example/"}, "url"), ({"url": "https://u:p@a.example/"}, "url"),
        ({"url": "https://a.example/" + "a" * 9000}, "url"), ({"url": "https://a.example/#x"}, "url"),
        ({"url": "https://a.example/", "secret": "x"}, "secret"),
        ({"url": "https://a.example/", "description": "x" * 1001}, "description"),
        ({"url": "https://a.example/", "description": 1}, "description"),
        ({"url": "https://a.example/", "description": "a\0b"}, "description"),
        ([], None), ("x", None), (None, None),
    ],
)  # fmt: skip
def test_a_body_that_will_not_do_is_refused_by_name(call: Client, body: object, param: str | None) -> None:
    """Missing, unknown and ill-typed fields are named, and no endpoint is made."""
    assert call.refused("POST", json=body) == ("invalid_request", param)
    assert call("GET")["data"] == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10_000, b'{"url": NaN}'])
def test_a_body_that_is_no_json_is_refused(call: Client, content: bytes) -> None:
    """What cannot be read is a bad request, whatever it is."""
    assert call.refused("POST", content=content)[0] == "invalid_request"


def test_a_body_that_is_too_large_is_refused(call: Client) -> None:
    """A body beyond 64 kB is not read to its end."""
    assert call.refused("POST", "", 413, content=b" " * 100_000)[0] == "too_large"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "http://169.254.169.254/latest",
        "https://localhost/",
    ],
)
def test_addresses_inside_are_refused(call: Client, made: dict[str, Any], url: str) -> None:
    """An endpoint cannot be made at, or moved to, an address that may not be reached."""
    assert call.refused("POST", json={"url": url}) == ("address_refused", "url")
    assert call.refused("PATCH", f"/{made['id']}", json={"url": url}) == ("address_refused", "url")
    assert call("GET", f"/{made['id']}")["url"] == made["url"]


def test_https_alone_will_do_unless_the_operator_says_otherwise(post: Post) -> None:
    """Under the usual rules for webhooks a plain http address is refused and an https one taken."""
    strict = WebhookService(WebhookStore(post.database), Egress(EgressRules(https_only=True)), post.sealer)
    with pytest.raises(AddressRefused, match="https"):
        strict.create("default", "http://hooks.example/")
    assert strict.create("default", "https://hooks.example/")[0].enabled


@pytest.mark.parametrize(
    ("body", "param"), [({"enabled": "yes"}, "enabled"), ({"enabled": 0}, "enabled"), ({"state": "x"}, "state")]
)
def test_a_change_that_will_not_do_is_refused_by_name(
    call: Client, made: dict[str, Any], body: object, param: str
) -> None:
    """A change is taken whole or not at all."""
    assert call.refused("PATCH", f"/{made['id']}", json=body) == ("invalid_request", param)
    assert call("GET", f"/{made['id']}")["enabled"]


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?limit=1.5", "limit"),
        ("?page=1", "page"),
    ],
)
def test_a_query_that_will_not_do_is_refused_by_name(call: Client, path: str, param: str) -> None:
    """Unknown parameters and limits out of range are named."""
    assert call.refused("GET", path) == ("invalid_request", param)


def test_unknown_ids_are_not_found(call: Client, made: dict[str, Any]) -> None:
    """Every route answers 404 for an endpoint or a delivery that is not there."""
    for method, path in (
        ("GET", "/whe_0"), ("PATCH", "/whe_0"), ("DELETE", "/whe_0"), ("GET", "/whe_0/secret"),
        ("POST", "/whe_0/secret/rotate"), ("GET", "/whe_0/deliveries"), ("POST", "/whe_0/deliveries/evt_0/replay"),
        ("POST", "/whe_0/replay-failed"), ("POST", "/whe_0/test"),
        ("POST", f"/{made['id']}/deliveries/evt_0/replay"), ("GET", f"/{made['id']}/deliveries?after=evt_0"),
    ):  # fmt: skip
        body = {"since": "2026-01-01T00:00:00Z"} if path.endswith("failed") else {}
        assert call.refused(method, path, 404, json=body)[0] == "not_found", path


def test_what_postgres_cannot_hold_is_refused(postgres: Database, make_site: Callable[..., Site]) -> None:
    """A NUL in an id is an id of nothing, one in a text names its field; neither is a fault of the server."""
    with post_office(postgres.url) as post:
        call = _client(make_site(), post)
        made = call("POST", "", 201, json={"url": post.receiver.url()})["id"]
        assert call.refused("GET", "/whe_%00", 404) == ("not_found", None)
        for path in ("?after=%00", f"/{made}/deliveries?after=%00"):
            assert call.refused("GET", path) == ("invalid_request", "after")
        assert call.refused("PATCH", f"/{made}", json={"description": "a\0b"}) == ("invalid_request", "description")
        call.close()


def test_secrets_are_read_and_rotated_and_not_cached(call: Client, made: dict[str, Any]) -> None:
    """The secret is the one that was answered first; a rotation answers a new one and when the old one ends."""
    path = f"/{made['id']}/secret"
    assert call("GET", path) == {"secret": made["secret"], "previous_secret_until": None}
    answer = call._http.post(call.base + path + "/rotate")
    assert answer.headers["cache-control"] == "no-store"
    rotated = answer.json()
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_secret_until"].endswith("Z")
    assert call("GET", path) == rotated
    assert "whsec_" not in str(call("GET"))


def test_a_test_event_arrives_and_is_logged(call: Client, post: Post, made: dict[str, Any]) -> None:
    """A test event can be asked for again and again; each arrives signed and is in the log with its attempt."""
    for _ in range(2):
        queued = call("POST", f"/{made['id']}/test", 202)
        assert (queued["type"], queued["state"], queued["log"]) == ("test.ping", "pending", [])
        assert queued["next_attempt_at"]
        assert post.loop().run_once() == 1
        message = post.receiver.messages[-1]
        standardwebhooks.Webhook(made["secret"]).verify(message.body, message.headers)
        (newest, *_) = call("GET", f"/{made['id']}/deliveries")["data"]
        assert newest["id"] == queued["id"] == message.id
        assert (newest["state"], newest["last_status"], newest["next_attempt_at"]) == ("delivered", 200, None)
        (attempt,) = newest["log"]
        assert (attempt["number"], attempt["status"], attempt["excerpt"]) == (1, 200, "thanks")


def test_deliveries_are_listed_by_state_and_in_pages(call: Client, post: Post, made: dict[str, Any]) -> None:
    """The log is filtered by one or more states and pages without gap or repetition."""
    path = f"/{made['id']}/deliveries"
    post.send(made["id"], 3)
    loop = post.loop()
    while loop.run_once():
        pass
    post.send(made["id"], 2)
    assert len(call("GET", path, params={"state": "delivered"})["data"]) == 3
    assert len(call("GET", path, params={"state": ["delivered", "pending"]})["data"]) == 5
    assert call("GET", path, params={"state": "failed"})["data"] == []
    assert call.refused("GET", path, params={"state": "lost"}) == ("invalid_request", "state")
    first = call("GET", path, params={"limit": 3})
    second = call("GET", path, params={"limit": 3, "after": first["next"]})
    ids = [one["id"] for one in first["data"] + second["data"]]
    assert len(set(ids)) == len(ids) == 5
    assert ids == [one["id"] for one in call("GET", path)["data"]]


def test_deliveries_are_replayed(call: Client, post: Post, made: dict[str, Any]) -> None:
    """One delivery is sent again whatever became of it, many when they were lost; not to a disabled endpoint."""
    path = f"/{made['id']}"
    post.send(made["id"])
    loop = post.loop()
    loop.run_once()
    (done,) = call("GET", path + "/deliveries")["data"]
    assert call("POST", f"{path}/deliveries/{done['id']}/replay", 202)["state"] == "pending"
    assert loop.run_once() == 1
    assert [message.id for message in post.receiver.messages] == [done["id"]] * 2
    post.send(made["id"], 4)
    call("PATCH", path, json={"enabled": False})
    lost = {"since": done["created_at"]}
    assert call.refused("POST", path + "/replay-failed", 409, json=lost)[0] == "conflict"
    assert call.refused("POST", f"{path}/deliveries/{done['id']}/replay", 409)[0] == "conflict"
    assert call.refused("POST", path + "/test", 409)[0] == "conflict"
    call("PATCH", path, json={"enabled": True})
    assert call("POST", path + "/replay-failed", 202, json=lost) == {"replayed": 4}
    assert call("POST", path + "/replay-failed", 202, json=lost) == {"replayed": 0}


@pytest.mark.parametrize("since", [None, "yesterday", "2026-01-01T00:00:00", {}])
def test_a_time_without_a_zone_is_refused(call: Client, made: dict[str, Any], since: object) -> None:
    """The time to replay from has to say which it is."""
    assert call.refused("POST", f"/{made['id']}/replay-failed", json={"since": since}) == ("invalid_request", "since")


def test_without_webhooks_the_routes_say_so(make_site: Callable[..., Site]) -> None:
    """A server without webhooks answers 503 with a remedy."""
    client = Client(make_site().url)
    assert client.refused("GET", "", 503)[0] == "unavailable"
    client.close()


# ---------------------------------------------------------------------------------------------- the service itself


def test_tenants_do_not_see_one_another(post: Post) -> None:
    """Another tenant's endpoint is as good as none, whatever is done to it."""
    hooks = post.webhooks
    mine = hooks.create("one", post.receiver.url())[0].id
    queued = hooks.ping("one", mine)
    tries: tuple[Callable[[], object], ...] = (
        lambda: hooks.get("two", mine),
        lambda: hooks.change("two", mine, EndpointChange(enabled=False)),
        lambda: hooks.delete("two", mine),
        lambda: hooks.secret("two", mine),
        lambda: hooks.rotate("two", mine),
        lambda: hooks.deliveries("two", mine, 10),
        lambda: hooks.replay("two", mine, queued.event_id),
        lambda: hooks.replay_failed("two", mine, 0),
        lambda: hooks.ping("two", mine),
        lambda: hooks.require_endpoint("two", mine),
    )
    for attempt in tries:
        with pytest.raises(NotFound):
            attempt()
    assert hooks.page("two", 10, None) == []
    assert hooks.get("one", mine).enabled


def test_a_jobs_address_has_one_endpoint_for_each_tenant(post: Post) -> None:
    """The same address is the same endpoint with the same secret; another address or tenant is another."""
    hooks, url = post.webhooks, post.receiver.url()
    first = hooks.ensure_endpoint("one", url)
    secret = hooks.secret("one", first)
    assert hooks.ensure_endpoint("one", url) == first
    assert hooks.secret("one", first) == secret
    assert len({first, hooks.ensure_endpoint("two", url), hooks.ensure_endpoint("one", url + "?a=1")}) == 3
    assert hooks.get("one", first).implicit
    with pytest.raises(Conflict, match="keeps its address"):
        hooks.change("one", first, EndpointChange(url=post.receiver.url("/other")))


def test_a_jobs_endpoint_that_was_deleted_comes_back_with_another_secret(post: Post) -> None:
    """Deleting forgets the secret; the next job with the address makes the endpoint anew, and it works."""
    hooks, url = post.webhooks, post.receiver.url()
    endpoint = hooks.ensure_endpoint("default", url)
    secret = hooks.secret("default", endpoint).secret
    hooks.delete("default", endpoint)
    with pytest.raises(NotFound):
        hooks.require_endpoint("default", endpoint)
    assert hooks.ensure_endpoint("default", url) == endpoint
    assert hooks.secret("default", endpoint).secret != secret
    post.send(endpoint)
    assert post.loop().run_once() == 1


def test_a_disabled_endpoint_is_refused_for_new_jobs(post: Post) -> None:
    """Neither its id nor its address will do, and the refusal names the field."""
    hooks, url = post.webhooks, post.receiver.url()
    endpoint = hooks.ensure_endpoint("default", url)
    assert hooks.require_endpoint("default", endpoint).id == endpoint
    hooks.change("default", endpoint, EndpointChange(enabled=False))
    for field, attempt in (
        ("webhook_url", lambda: hooks.ensure_endpoint("default", url)),
        ("webhook_endpoint", lambda: hooks.require_endpoint("default", endpoint)),
    ):
        with pytest.raises(Conflict, match="Disabled by its owner") as caught:
            attempt()
        assert caught.value.param == field
    with pytest.raises(InvalidRequest) as refused:
        hooks.ensure_endpoint("default", "nonsense")
    assert refused.value.param == "webhook_url"


def test_a_tenant_can_make_so_many_endpoints(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the limit is a conflict; a deleted one makes room, and those of jobs do not count."""
    assert MAX_ENDPOINTS == 1_000
    monkeypatch.setattr("tympan.storage.webhooks.MAX_ENDPOINTS", 2)
    hooks, url = post.webhooks, post.receiver.url()
    first = hooks.create("default", url)[0].id
    hooks.ensure_endpoint("default", url)
    hooks.create("default", url)
    with pytest.raises(Conflict):
        hooks.create("default", url)
    hooks.delete("default", first)
    assert hooks.create("default", url)[0].enabled
