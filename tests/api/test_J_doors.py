"""Who is let in, over HTTP: keys, scopes, addresses, pages of other sites."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from tests.access_support import entry
from tests.api.doors_support import Guarded, guarded
from tests.api.support import CLIP
from tympan.access.callers import USUAL, Scope
from tympan.access.failures import WINDOW_S
from tympan.access.tokens import Token, mint
from tympan.api.access.permissions import OPEN, is_open, scope_for

MARK = "x" * 30


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path_factory.mktemp("doors")) as opened:
        yield opened


def _operations(house: Guarded) -> list[tuple[str, str]]:
    """Return every method of every route, with ids filled in."""
    found = []
    for route in house.app.state.routes:
        if isinstance(route, Route) and not is_open(route.path):
            path = route.path
            while "{" in path:
                path = f"{path[: path.index('{')]}{MARK}{path[path.index('}') + 1 :]}"
            found += [(method, path) for method in sorted(route.methods or ())]
    return found


def test_every_route_is_open_or_asks_for_a_scope(house: Guarded) -> None:
    """A family that is added later has to say what it asks for, or it answers nobody."""
    operations = _operations(house)
    assert len(operations) > 50
    assert [each for each in operations if scope_for(*each) is None] == []


def test_J1_no_operation_answers_a_caller_who_may_not(house: Guarded) -> None:
    """No key, one that nobody has, one that has expired, one that was revoked, one that may do everything else."""
    expired, revoked = house.give(lifetime_s=-1.0), house.give()
    house.keys.revoke(revoked.id, entry())
    lacking = {scope: house.give(scopes=tuple(set(Scope) - {scope})) for scope in Scope}
    for method, path in _operations(house):
        wanted = scope_for(method, path)
        assert wanted is not None
        for key in (None, mint(), expired, revoked):
            answer = house.ask(method, path, key)
            assert answer.status_code in ({401} if key is None else {401, 429}), (method, path)
        answer = house.ask(method, path, lacking[wanted])
        assert answer.status_code == 403, (method, path)
        assert answer.headers["www-authenticate"] == 'Bearer realm="tympan", error="insufficient_scope"'


def test_a_refusal_is_what_clients_of_openai_expect(house: Guarded) -> None:
    """The envelope, the code, the header that HTTP asks for."""
    answer = house.transcribe()
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="tympan"'
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("invalid_api_key", "invalid_request_error", None)
    assert answer.headers["x-request-id"]
    assert house.transcribe(house.give(scopes=("models:read",))).json()["error"]["code"] == "insufficient_scope"


def test_the_drop_in_routes_are_refused_in_their_own_words(house: Guarded) -> None:
    """Each imitated server's clients read an error where they look for it."""
    assert set(house.ask("GET", "/transcribe/job_1").json()) == {"detail", "code"}


def test_a_key_lets_in(house: Guarded) -> None:
    """A fresh one at once, without a restart; the name of the scheme may be in any case."""
    key = house.give()
    assert house.transcribe(key).json()["text"]
    assert house.ask("GET", "/v1/models", headers={"authorization": f"bearer  {key.text}"}).status_code == 200


@pytest.mark.parametrize("path", sorted(OPEN))
def test_health_and_the_page_that_asks_for_a_key_need_none(house: Guarded, path: str) -> None:
    """Supervisors have none; nothing there is about a tenant."""
    assert house.ask("GET", path).status_code == 200
    assert house.ask("GET", path, mint()).status_code == 200


def test_metrics_need_a_key_with_their_scope(house: Guarded) -> None:
    """They are about the whole server; a usual key does not read them."""
    assert house.ask("GET", "/metrics", house.give(scopes=("metrics",))).status_code == 200
    assert house.ask("GET", "/metrics", house.give(scopes=USUAL)).status_code == 403


def test_metrics_can_be_open_where_the_network_is_closed(tmp_path: Path) -> None:
    """Nothing else is."""
    with guarded(tmp_path, {"metrics_open": True}) as house:
        assert house.ask("GET", "/metrics").status_code == 200
        assert house.ask("GET", "/v1/models").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Basic dXNlcjpwYXNz")],
        [("authorization", "tym_0123456789abcdef_x")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer \xff\xfe")],
        [("x-api-key", "canary")],
    ],
)
def test_other_ways_to_send_a_key_do_not_count(house: Guarded, headers: list[tuple[str, str]]) -> None:
    """Always 401, whatever bytes they are."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = house.http.get("/v1/models", headers=raw)
    assert answer.status_code in (401, 429)


def test_unknown_paths_tell_a_stranger_nothing(house: Guarded) -> None:
    """Without a key they answer like any other; with one they are not there."""
    assert house.ask("GET", "/v1/secret-plans").status_code == 401
    assert house.ask("GET", "/v1/secret-plans", house.give()).status_code == 404


def test_J5_a_key_in_an_address_is_refused_even_where_it_would_be_good(
    house: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the parameter is called; it is not in the log either."""
    key = house.give()
    for url in (f"/v1/models?anything={key.text}", f"/v1/models/{key.text}", f"/v1/models?q=tym%5F{key.text[4:]}"):
        answer = house.ask("GET", url, key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert "address" in answer.json()["error"]["message"]
        assert key.secret not in answer.text
    told = house.ask("GET", "/v1/models?api_key=sk-canary").json()["error"]["message"]
    assert "in the address" in told
    said = capsys.readouterr()
    assert key.secret not in said.out + said.err
    assert "sk-canary" not in said.out + said.err


def test_J9_nobody_says_whose_or_what_state_a_job_is(house: Guarded) -> None:
    """Fields that are ours are refused by name, in a form and in JSON."""
    key = house.give()
    for name, value in (("tenant", "other"), ("tenant_id", "other"), ("state", "succeeded"), ("fence", "9")):
        files = {"file": ("a.wav", CLIP)}
        answers = (
            house.ask("POST", "/v1/jobs", key, files=files, data={name: value}),
            house.ask("POST", "/v1/jobs", key, json={"audio_url": "https://example.com/a.wav", name: value}),
            house.ask("POST", "/v1/webhook-endpoints", key, json={"url": "https://example.com", name: value}),
            house.ask("POST", "/v1/audio/transcriptions", key, files=files, data={name: value}),
        )
        for answer in answers:
            assert answer.status_code == 400, answer.text
            assert name in answer.text


FOREIGN = {"origin": "https://evil.example"}


def test_J7_a_page_of_another_site_can_change_nothing(house: Guarded) -> None:
    """Not even where no key is needed to do so; the server's own pages and programs can."""
    key = house.give()
    answer = house.transcribe(key, headers=FOREIGN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    assert house.transcribe(key, headers={"origin": "null"}).status_code == 403
    assert house.transcribe(key, headers={"origin": house.url}).status_code == 200
    assert house.transcribe(key).status_code == 200


def test_J7_no_operation_that_changes_anything_listens_to_a_foreign_page(house: Guarded) -> None:
    """Whatever is asked for with a method other than reading: 403, with the best of keys and without one."""
    origins = ("https://evil.example", "null", "file://", house.url + "0", house.url.replace("127.0.0.1", "127.0.0.2"))
    best = house.give(scopes=tuple(Scope))
    changing = [each for each in _operations(house) if each[0] not in ("GET", "HEAD", "OPTIONS")]
    assert len(changing) > 25
    for method, path in changing:
        for key, origin in [(None, origins[0]), *((best, origin) for origin in origins)]:
            answer = house.ask(method, path, key, headers={"origin": origin})
            assert answer.status_code == 403, (method, path, origin, answer.text)
            assert "foreign_origin" in answer.text


def test_J10_a_preflight_from_elsewhere_is_denied(house: Guarded) -> None:
    """And nothing that is answered says that a foreign page may read it."""
    asks = {**FOREIGN, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    answer = house.ask("OPTIONS", "/v1/audio/transcriptions", headers=asks)
    assert answer.status_code == 403
    reading = house.ask("GET", "/v1/models", house.give(), headers=FOREIGN)
    for each in (answer, reading):
        assert not [name for name in each.headers if name.startswith("access-control-")]


def unreadable(answer: httpx.Response) -> set[str]:
    """Return the headers that a page's script cannot read: not named, and not among those that every script can."""
    named = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    always = {
        "cache-control",
        "content-language",
        "content-length",
        "content-type",
        "expires",
        "last-modified",
        "pragma",
    }
    for_browsers = {"content-security-policy", "referrer-policy", "x-content-type-options"}
    asked = {name for name in answer.headers if name.startswith("access-control-")}
    return {*answer.headers} - named - always - for_browsers - asked


def test_J10_pages_that_the_operator_names_may_ask(tmp_path: Path) -> None:
    """Their browsers get every header they need, and other pages get none."""
    ours = {"origin": "https://app.example"}
    asks = {**ours, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with guarded(tmp_path, {"allowed_origins": ["https://app.example"]}) as house:
        before = house.ask("OPTIONS", "/v1/audio/transcriptions", headers=asks)
        answer = house.transcribe(house.give(), headers=ours)
        refused = house.transcribe(None, headers=ours)
        foreign = house.transcribe(house.give(), headers=FOREIGN)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == "https://app.example"
    assert before.headers["access-control-allow-headers"] == "authorization"
    assert answer.status_code == 200
    for each in (answer, refused):
        assert each.headers["access-control-allow-origin"] == "https://app.example"
        assert "Origin" in each.headers["vary"]
        assert unreadable(each) <= {"connection", "date", "server", "vary"}
    assert foreign.status_code == 403


def test_J10_every_answer_has_the_headers_that_browsers_heed(house: Guarded) -> None:
    """Nothing is sniffed, cached, framed or run."""
    for answer in (house.ask("GET", "/v1/models"), house.transcribe(house.give())):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("guesses", [200, pytest.param(1_000, marks=pytest.mark.long)])
def test_J4_a_thousand_guesses_get_ten_answers(tmp_path: Path, guesses: int) -> None:
    """The rest are told to wait, and the right key from the same address still opens."""
    with guarded(tmp_path) as house:
        key = house.give()
        began = time.monotonic()
        answers = [house.ask("GET", "/v1/models", mint()) for _ in range(guesses)]
        minutes = int((time.monotonic() - began) // WINDOW_S)  # None, unless the machine is very slow.
        statuses = [answer.status_code for answer in answers]
        assert statuses[:10] == [401] * 10
        assert set(statuses[10:]) <= {401, 429}
        assert statuses.count(401) <= 10 * (minutes + 1)
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert house.ask("GET", "/v1/models", key).status_code == 200


@pytest.mark.alone
@pytest.mark.long
def test_J3_the_time_of_a_refusal_tells_nothing(tmp_path: Path) -> None:
    """A wrong secret takes as long as an id that nobody has: the medians of 5,000 each are within 5 %."""
    with guarded(tmp_path) as house:
        known = house.give()
        took: dict[bool, list[float]] = {True: [], False: []}
        for number in range(10_000):
            is_known = number % 2 == 0
            guess = Token(known.id, mint().secret) if is_known else mint()
            started = time.perf_counter()
            house.ask("GET", "/v1/models", guess)
            took[is_known].append(time.perf_counter() - started)
        wrong_secret, wrong_id = (statistics.median(times) for times in took.values())
    assert abs(wrong_secret / wrong_id - 1) <= 0.05


def test_on_loopback_the_door_is_open_until_there_is_a_key(tmp_path: Path) -> None:
    """Whatever key a client sends meanwhile is not looked at; then it is shut within five seconds."""
    with guarded(tmp_path, {"api_keys": None}) as house:
        assert house.transcribe("sk-anything").status_code == 200
        key = house.give()
        deadline = (
            time.monotonic() + 30
        )  # Five seconds, which `tests/unit/test_access_gate.py` shows, and a busy machine.
        while house.ask("GET", "/v1/models").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert house.ask("GET", "/v1/models", key).status_code == 200


def test_an_open_server_stays_open(tmp_path: Path) -> None:
    """Keys may be there; nobody needs them, and everybody is the one tenant."""
    with guarded(tmp_path, {"api_keys": "open"}) as house:
        key = house.give(tenant="acme")
        assert house.transcribe().status_code == 200
        assert house.transcribe(key).status_code == 200
        assert house.ask("GET", "/metrics").status_code == 200


def test_J8_both_keys_open_while_they_overlap_and_the_revoked_one_ends(house: Guarded) -> None:
    """Two hundred looks, at one and the other; then the old one is revoked while both are in constant use."""
    old, new = house.give(), mint()
    house.keys.rotate(old.id, (new.id, new.secret_sha256), 3600.0, entry())
    probes = [house.ask("GET", "/v1/models", key).status_code for _ in range(100) for key in (old, new)]
    assert probes == [200] * 200
    house.keys.revoke(old.id, entry())
    deadline = time.monotonic() + 30  # Five seconds, which `tests/unit/test_access_gate.py` shows, and a busy machine.
    while house.ask("GET", "/v1/models", old).status_code == 200:
        assert time.monotonic() < deadline
        assert house.ask("GET", "/v1/models", new).status_code == 200
    answers = {house.ask("GET", "/v1/models", old).status_code for _ in range(20)}
    assert answers <= {401, 429}
    assert house.ask("GET", "/v1/models", new).status_code == 200


def test_J8_a_revoked_key_is_refused_within_five_seconds(house: Guarded) -> None:
    """While it is in constant use."""
    key = house.give()
    assert house.ask("GET", "/v1/models", key).status_code == 200
    house.keys.revoke(key.id, entry())
    deadline = time.monotonic() + 30  # Five seconds, which `tests/unit/test_access_gate.py` shows, and a busy machine.
    while house.ask("GET", "/v1/models", key).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.025)


def test_J2_a_copy_of_the_database_opens_nothing(tmp_path: Path) -> None:
    """Every text of a dump that could be a key is tried as one."""
    with guarded(tmp_path) as house:
        key = house.give()
        assert house.ask("GET", "/v1/models", key).status_code == 200
        with house.stores.database.engine.connect() as connection:
            dump = "\n".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
        assert key.id in dump
        assert key.secret not in dump
        row = house.stores.database.read(lambda tx: tx.exec_driver_sql("select id, secret_sha256 from api_keys").one())
        for guess in (row[1], f"tym_{row[0]}_{row[1]}", f"tym_{row[0]}_{row[1][:43]}{row[1][:8]}"):
            assert house.ask("GET", "/v1/models", guess).status_code == 401


def test_an_address_is_named_by_proxies_that_are_trusted_alone(tmp_path: Path) -> None:
    """Who is none may write what he likes into the header."""
    with guarded(tmp_path) as house:
        key = house.give()
        house.ask("DELETE", "/v1/jobs/job_x", key, headers={"x-forwarded-for": "192.0.2.7"})
        assert {row.address for row in house.audit.page() if row.action == "job.erase"} == {"127.0.0.1"}
    with guarded(tmp_path, {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}) as house:
        key = house.give()
        house.ask("DELETE", "/v1/jobs/job_y", key, headers={"x-forwarded-for": "6.6.6.6, 192.0.2.7, 10.0.0.3"})
        rows = [row for row in house.audit.page() if row.target == "job_y"]
        assert {row.address for row in rows} == {"192.0.2.7"}
