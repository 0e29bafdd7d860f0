"""L: nothing gets the server to talk to its own network, whatever the address, the name or the answer says.

Loopback stands for the network to protect. Where a test needs a host that may be reached, an exact rule allows it.
"""

import functools
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.egress_support import (
    LIMITS,
    POST,
    PUBLIC,
    REFUSED_HOSTS,
    REFUSED_URLS,
    Host,
    ScriptedResolver,
    Visit,
    both_ways,
    closed_port,
    drip_head,
    egress_for,
    endless,
    endless_chunks,
    endless_head,
    endless_preludes,
    failure,
    fetch,
    hang,
    no_http,
    reset,
    reset_midway,
    short_body,
    silent_port,
    stall,
    watch_bytes,
)
from tests.log_support import captured_log
from tympan.egress import DownloadLimits, Egress, EgressRules
from tympan.egress.wire import never
from tympan.errors import (
    AddressRefused,
    Cancelled,
    FetchFailed,
    InvalidRequest,
    TooLarge,
)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return the list that every address goes to that is connected to; connections to public ones fail at once."""
    calls: list[tuple[str, int]] = []
    connect = socket.socket.connect

    def record(self: socket.socket, address: tuple[str, int]) -> None:
        calls.append(address[:2])
        if address[0] == str(PUBLIC):
            raise ConnectionRefusedError
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", record)
    return calls


def test_L1_there_are_enough_forms() -> None:
    """The table holds more than sixty ways to write a host, none twice."""
    assert len(REFUSED_HOSTS) == len(set(REFUSED_HOSTS)) > 60


@pytest.mark.parametrize("url", REFUSED_URLS, ids=lambda url: ascii(url)[:60])
def test_L1_odd_addresses_are_refused_at_once(url: str, dialled: list[tuple[str, int]], tmp_path: Path) -> None:
    """Each form is refused when it is handed in and when it is used, without a look into the DNS or a connection."""
    resolver = ScriptedResolver()
    egress = Egress(EgressRules(), resolver)
    for errand in (lambda: egress.check(url), *both_ways(egress, url, tmp_path)):
        with pytest.raises((InvalidRequest, AddressRefused)):
            errand()
    assert (resolver.questions, dialled, list(tmp_path.iterdir())) == ([], [], [])


@pytest.mark.parametrize(
    "host", [host for host in REFUSED_HOSTS if host.strip().isprintable() and host], ids=lambda host: ascii(host)[:60]
)
def test_L1_odd_hosts_lead_nowhere_as_redirects(host: str, dialled: list[tuple[str, int]], tmp_path: Path) -> None:
    """A redirect to any of them is not followed."""
    location = f"http://{host.strip()}/a".encode()

    def redirect(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n")

    with Host(redirect) as first:
        resolver = ScriptedResolver()
        with pytest.raises(FetchFailed):
            fetch(egress_for(first, resolver), first.url(), tmp_path)
    assert dialled == [("127.0.0.1", first.port)]
    assert set(resolver.questions) <= {"example.com"}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTPS://Example.COM:443/a?b=c%20d&e=/@:",
        "http://8.8.8.8/",
        "https://[2606:4700:4700::1111]/a",
        "http://bücher.example/ä?ö=ü",
        "http://xn--bcher-kva.example/",
        "http://example.com./",
        "http://127.0.0.1.example.com/",
        "http://a_b.example/",
        "http://1a.example:80/",
    ],
)
def test_L1_plain_addresses_are_taken(url: str) -> None:
    """What is meant well passes, so that the refusals say something."""
    Egress(EgressRules(), ScriptedResolver()).check(url)


def test_L2_a_second_answer_is_never_asked_for(dialled: list[tuple[str, int]], tmp_path: Path) -> None:
    """A name is looked up once per request and the connection goes to that answer, whatever a second one would say."""
    with Host(lambda visit: visit.answer(200)) as canary:
        for errand in range(2):
            resolver = ScriptedResolver([str(PUBLIC)], ["127.0.0.1"])
            egress = Egress(EgressRules(ports=(canary.port,)), resolver)
            with pytest.raises(FetchFailed):
                list(both_ways(egress, f"http://rebind.example:{canary.port}/", tmp_path))[errand]()
            assert resolver.questions == ["rebind.example"]
    assert dialled == [(str(PUBLIC), canary.port)] * 2
    assert canary.visits == []


def test_L2_the_peer_is_checked_once_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A connection that stands to another address than the checked one is not used."""
    with Host(lambda visit: visit.answer(200, b"secret")) as host:
        monkeypatch.setattr("tympan.egress.wire.ipaddress.ip_address", Mock(return_value=IPv4Address("127.0.0.9")))
        with pytest.raises(FetchFailed):
            fetch(egress_for(host), host.url(), tmp_path)
    assert host.requests == []


@pytest.mark.parametrize(
    "answers",
    [
        [str(PUBLIC), "127.0.0.1"],
        ["127.0.0.1", str(PUBLIC)],
        [*(f"93.184.216.{n}" for n in range(1, 40)), "10.0.0.1"],
        [str(PUBLIC), "::1"],
        ["2606:2800:220:1::1", "64:ff9b::7f00:1"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["169.254.169.254"],
        ["2002:7f00:1::"],
    ],
    ids=lambda answers: answers[-1],
)
def test_L3_L6_one_private_answer_refuses_all(
    answers: list[str], dialled: list[tuple[str, int]], tmp_path: Path
) -> None:
    """A name with a public and a private address, or private ones only, is not connected to at all."""
    egress = Egress(EgressRules(), ScriptedResolver(answers))
    for errand in both_ways(egress, "http://mixed.example/", tmp_path):
        with pytest.raises(FetchFailed):
            errand()
    assert dialled == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_L4_webhooks_follow_no_redirect(status: int) -> None:
    """The status comes back as it is, and the place it leads to is not visited."""
    with Host(lambda visit: visit.answer(200)) as canary:
        location = canary.url()
        with Host(lambda visit: visit.answer(status, Location=location)) as host:
            egress = Egress(EgressRules(allow=(host.rule, canary.rule)), ScriptedResolver())
            assert egress.post(host.url(), b"{}", {}, POST).status == status
    assert (len(host.visits), canary.visits) == (1, [])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["canary", "file", "port", "name", "empty", "bracket"])
def test_L4_a_redirect_to_where_nobody_may_go_fails(status: int, where: str, tmp_path: Path) -> None:
    """Every hop is checked like the first: private address, other scheme, other port, name with a private address."""
    with Host(lambda visit: visit.answer(200, b"secret")) as canary:
        locations = {
            "canary": canary.url(),
            "file": "file:///etc/passwd",
            "port": "http://8.8.8.8:22/",
            "name": f"http://inside.example:{canary.port}/",
            "empty": "",
            "bracket": "http://[/",
        }
        with Host(lambda visit: visit.answer(status, Location=locations[where])) as host:
            rules = EgressRules(allow=(host.rule,), ports=(80, canary.port))
            with pytest.raises(FetchFailed):
                fetch(Egress(rules, ScriptedResolver(["127.0.0.1"])), host.url(), tmp_path)
    assert (len(host.visits), canary.visits, list(tmp_path.iterdir())) == (1, [], [])


def test_L4_three_redirects_are_followed_and_no_fourth(tmp_path: Path) -> None:
    """A chain of three arrives; a loop ends after four requests."""
    with Host(count_down) as host:
        egress = egress_for(host)
        assert fetch(egress, host.url("/3?secret=1"), tmp_path) == b"arrived"
        assert len(host.requests) == 4
        assert not any(b"secret" in request or b"Referer" in request for request in host.requests[1:])
        with pytest.raises(FetchFailed):
            fetch(egress, host.url("/20"), tmp_path)
    assert len(host.requests) == 8
    assert list(tmp_path.iterdir()) == []


def count_down(visit: Visit) -> None:
    """Redirect from /n to /n-1, relative to the address."""
    left = int(visit.path[1:].partition("?")[0])
    if left:
        visit.answer(302, Location=f"{left - 1}#fragment")
    else:
        visit.answer(200, b"arrived")


def test_L5_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxy variables and a password file change nothing."""
    with (
        Host(lambda visit: visit.answer(200, b"from the proxy")) as proxy,
        Host(lambda v: v.answer(200, b"own")) as host,
    ):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
            monkeypatch.setenv(name.lower(), proxy.url(""))
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        egress = egress_for(host)
        assert fetch(egress, host.url(), tmp_path) == b"own"
        assert egress.post(host.url(), b"{}", {}, POST).excerpt == "own"
    assert proxy.visits == []
    assert not any(b"authorization" in request.lower() for request in host.requests)


def announced(visit: Visit) -> None:
    """Announce more than is allowed."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    hang(visit)


def endless_after_redirect(visit: Visit) -> None:
    """Redirect once, with an endless body of its own, then send without end."""
    if visit.path == "/a":
        visit.send(b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n")
        while visit.send(b"x" * 65536):
            pass
    else:
        endless(visit)


_HEADS_BYTES = 200
"""What two heads of answers take; they may arrive on their own, before the body that is capped."""


@pytest.mark.parametrize("behave", [endless, endless_chunks, announced, endless_after_redirect])
def test_L7_no_more_than_the_cap_is_read(
    behave: Callable[[Visit], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body without end is cut off at the cap and at most 64 kB behind it; one that announces too much, at once."""
    read = watch_bytes(monkeypatch)
    with Host(behave) as host, pytest.raises(TooLarge) as caught:
        fetch(egress_for(host), host.url(), tmp_path)
    assert caught.value.param == "audio_url"
    assert sum(read) <= LIMITS.max_bytes + (64 << 10) + _HEADS_BYTES
    assert list(tmp_path.iterdir()) == []


def drip_body(visit: Visit) -> None:
    """Send a byte at a time."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while visit.send(b"x") and not visit.stopped.wait(0.05):
        pass


@pytest.mark.parametrize("behave", [drip_body, drip_head, stall, hang])
def test_L7_who_is_too_slow_is_left(behave: Callable[[Visit], None], tmp_path: Path) -> None:
    """A trickle, a stall and a silence end within their limits, as something to try again."""
    limits = DownloadLimits(1 << 20, total_s=90.0, answer_s=0.5, min_bytes_per_s=1000, window_s=0.5, told_after_s=0.0)
    started = time.monotonic()
    with Host(behave) as host, pytest.raises(FetchFailed) as caught:
        fetch(egress_for(host), host.url(), tmp_path, limits)
    assert caught.value.retryable
    assert time.monotonic() - started < 60
    assert list(tmp_path.iterdir()) == []


def test_L7_the_whole_has_a_limit_too(tmp_path: Path) -> None:
    """A body that comes fast enough but never ends in time is given up at the limit."""

    def steady(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while visit.send(b"x" * 100) and not visit.stopped.wait(0.02):
            pass

    limits = DownloadLimits(1 << 20, total_s=1.0, min_bytes_per_s=10, window_s=60.0, told_after_s=0.0)
    started = time.monotonic()
    with Host(steady) as host, pytest.raises(FetchFailed):
        fetch(egress_for(host), host.url(), tmp_path, limits)
    assert 0.9 < time.monotonic() - started < 30


def tiny_chunks(visit: Visit) -> None:
    """Wrap every byte in a chunk of its own."""
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while visit.send(b"1;aaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 1000):
        pass


def short_chunks(visit: Visit) -> None:
    """End between two chunks."""
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n")


def two_lengths(visit: Visit) -> None:
    """Announce two lengths."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshorts")


@pytest.mark.parametrize(
    "behave",
    [tiny_chunks, endless_head, endless_preludes, short_body, short_chunks, two_lengths, no_http, reset, reset_midway],
)
def test_L7_a_broken_answer_is_no_file(
    behave: Callable[[Visit], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not come whole is not kept, and what is wrapped too thickly is not unwrapped for long."""
    read = watch_bytes(monkeypatch)
    with Host(behave) as host, pytest.raises(FetchFailed):
        fetch(egress_for(host), host.url(), tmp_path)
    assert sum(read) < 256 << 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
def test_L7_nothing_is_unpacked(encoding: str, tmp_path: Path) -> None:
    """None was asked for, and a body that is encoded all the same is refused before it is read."""
    with Host(lambda visit: visit.answer(200, b"bomb", Content_Encoding=encoding)) as host:
        with pytest.raises(InvalidRequest):
            fetch(egress_for(host), host.url(), tmp_path)
        assert egress_for(host).post(host.url(), b"", {}, POST).excerpt == ""
    assert all(b"Accept-Encoding: identity" in request for request in host.requests)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/secret.ts\n", "application/vnd.apple.mpegurl"),
        (b'<html><meta http-equiv="refresh" content="0;url=http://127.0.0.1/"></html>', "text/html"),
    ],
)
def test_L8_a_playlist_is_just_bytes(body: bytes, media_type: str, tmp_path: Path) -> None:
    """What an answer says never leads to a second request; what it is, the decoder decides."""
    with Host(lambda visit: visit.answer(200, body, Content_Type=media_type)) as host:
        assert fetch(egress_for(host), host.url(), tmp_path) == body
    assert len(host.requests) == 1


def test_L9_every_failure_before_an_answer_reads_the_same(tmp_path: Path) -> None:
    """Closed, silent, no TLS, no HTTP, reset, no such name, private name: one code and one text each way."""
    seen: list[set[tuple[object, ...]]] = [set(), set()]
    with Host(no_http) as talker, Host(reset) as resetter, silent_port() as silent:
        closed = closed_port()
        ports = (talker.port, resetter.port, silent, closed)
        rules = EgressRules(allow=tuple(f"127.0.0.1:{port}" for port in ports))
        urls = [f"http://127.0.0.1:{port}/" for port in ports]
        urls += [f"https://127.0.0.1:{talker.port}/", "http://private.example/", "https://private.example/"]
        for url in urls:
            egress = Egress(rules, ScriptedResolver(["10.0.0.1"]), connect_timeout_s=0.5)
            for errand, outcomes in zip(both_ways(egress, url, tmp_path), seen, strict=True):
                outcomes.add(failure(errand))
        nowhere = Egress(rules, ScriptedResolver())
        for errand, outcomes in zip(both_ways(nowhere, "http://no.example/", tmp_path), seen, strict=True):
            outcomes.add(failure(errand))
    assert [len(outcomes) for outcomes in seen] == [1, 1]
    assert all(outcome[0] is FetchFailed for outcomes in seen for outcome in outcomes)


@pytest.mark.alone
def test_L9_time_tells_nothing_about_ports_inside() -> None:
    """A refused name takes no longer whether or not somebody listens at its address, because nobody is asked."""
    with Host(lambda visit: visit.answer(200)) as listener:
        for port in (listener.port, closed_port()):
            egress = Egress(EgressRules(ports=(port,)), ScriptedResolver(["127.0.0.1"]))
            errand = functools.partial(egress.post, f"http://inside.example:{port}/", b"", {}, POST)
            assert statistics.median(seconds(errand) for _ in range(30)) < 0.02
    assert listener.visits == []


@pytest.mark.alone
def test_L9_time_does_not_tell_why_a_download_failed(tmp_path: Path) -> None:
    """Closed, silent, refused, spoken to in another protocol, also behind a redirect: medians within a fifth."""
    closed = closed_port()
    limits = replace(LIMITS, told_after_s=0.5)
    with (
        Host(lambda visit: visit.answer(302, Location=visit.path[1:])) as guide,
        Host(no_http) as talker,
        silent_port() as silent,
        ThreadPoolExecutor(8) as threads,
    ):
        rules = EgressRules(allow=(guide.rule, talker.rule, *(f"127.0.0.1:{port}" for port in (closed, silent))))
        egress = Egress(rules, ScriptedResolver(["10.0.0.1"]), connect_timeout_s=0.4)
        urls = [f"http://127.0.0.1:{port}/" for port in (closed, silent, talker.port)] + ["http://inside.example/"]
        urls += [guide.url(f"/{url}") for url in [*urls[:2], "http://10.0.0.1/", "http://8.8.8.8:22/"]]
        waits: list[list[float]] = []
        for _ in range(5):
            errands = (
                functools.partial(egress.download, url, tmp_path / str(n), limits, never) for n, url in enumerate(urls)
            )
            waits.append(list(threads.map(seconds, errands)))
    medians = [statistics.median(one) for one in zip(*waits, strict=True)]
    assert max(medians) <= 1.2 * min(medians)


def test_L9_a_failure_that_is_not_told_yet_can_be_cancelled(tmp_path: Path) -> None:
    """Who has lost interest does not wait for the time at which the failure would be told."""
    asked = iter([False, False])
    egress = Egress(EgressRules(), ScriptedResolver(["10.0.0.1"]))
    began = time.monotonic()
    with pytest.raises(Cancelled):
        egress.download(
            "http://inside.example/", tmp_path / "a", DownloadLimits(1, told_after_s=60.0), lambda: next(asked, True)
        )
    assert time.monotonic() - began < 30


def seconds(errand: Callable[[], object]) -> float:
    """Return how long an errand takes to fail."""
    started = time.monotonic()
    failure(errand)
    return time.monotonic() - started


def test_L9_the_log_knows_and_keeps_secrets(tmp_path: Path) -> None:
    """The operator reads why, and neither path nor query, which can hold signatures."""
    egress = Egress(EgressRules(), ScriptedResolver(["10.0.0.1"]))
    with captured_log() as log, pytest.raises(FetchFailed) as caught:
        fetch(egress, "https://private.example/hidden/path?token=hunter2", tmp_path)
    logged = log.getvalue()
    assert "private.example" in logged
    assert "10.0.0.1" in logged
    assert "10.0.0.1" not in str(caught.value)
    assert "hidden" not in logged + str(caught.value)
    assert "hunter2" not in logged + str(caught.value)


octets = st.sampled_from([0, 1, 2, 126, 127, 128, 255]) | st.integers(0, 255)


@st.composite
def near_misses(draw: st.DrawFn, port: int) -> str:
    """Return an address that is almost ``http://127.0.0.1:port/``."""
    other_port = draw(st.sampled_from([port - 1, port + 1, 22, 6379, 8000]) | st.integers(1, 65535))
    other = draw(st.tuples(octets, octets, octets).map(lambda rest: "127." + ".".join(map(str, rest))))
    wrapped = ("[::ffff:127.0.0.1]", "[::1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "2130706433", "127.1", "0177.0.0.1")
    host, used = draw(
        st.sampled_from(
            [
                ("127.0.0.1", str(other_port)),
                (other, str(port)),
                *(
                    (form, str(port))
                    for form in (*wrapped, "127.0.0.01", "127.0.0.1.", "0", "127.0.0.1%00", "127。0.0.1")
                ),
                ("127.0.0.1", f"0{port}"),
                ("127.0.0.1", f"{port}0"),
                ("127.0.0.1", f"{port}@10.0.0.1"),
                (f"user@{other}", str(port)),
                (f"10.0.0.1:80@{other}", str(port)),
                ("127.0.0.1", f"{port}.10.0.0.1"),
                (f"127.0.0.1:{port}#@{other}", str(port)),
                (f"127.0.0.1:{port}\\@{other}", str(port)),
                (f"127.0.0.1.{other}.example", str(port)),
            ]
        )
    )
    scheme = draw(st.sampled_from(["http", "HTTP", "https", "ftp"]))
    return f"{scheme}://{host}:{used}/"


@pytest.fixture
def crowd() -> Iterator[Host]:
    """A host that listens on every address of this machine, so that it sees where each visitor meant to go."""
    with Host(lambda visit: visit.answer(200), address="0.0.0.0") as host:  # noqa: S104
        yield host


def test_L10_a_rule_allows_one_address_and_port(crowd: Host, tmp_path: Path) -> None:
    """Two hundred near misses of a rule get nowhere; the rule itself works."""
    rules = EgressRules(allow=(f"127.0.0.1:{crowd.port}",))
    outcomes: set[str] = set()

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(near_misses(crowd.port), octets)
    def try_one(url: str, last: int) -> None:
        if url.lower() in {f"http://127.0.0.1:{crowd.port}/", f"https://127.0.0.1:{crowd.port}/"}:
            return
        egress = Egress(rules, ScriptedResolver([f"127.0.1.{last}"]), connect_timeout_s=1.0)
        for errand in both_ways(egress, url, tmp_path):
            outcomes.add(failure(errand)[1])

    try_one()
    assert crowd.visits == []
    assert outcomes <= {"invalid_request", "address_refused", "fetch_failed"}
    egress = Egress(rules, ScriptedResolver(["127.0.0.1"]))
    assert egress.post(f"http://127.0.0.1:{crowd.port}/", b"", {}, POST).status == 200
    assert egress.post(f"http://inside.example:{crowd.port}/", b"", {}, POST).status == 200
    assert crowd.visits == ["127.0.0.1"] * 2
