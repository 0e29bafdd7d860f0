"""What may be reached, by rule: ranges, ports, schemes, exceptions; and how names are looked up and answers read."""

import ipaddress
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.egress_support import POST, Host, ScriptedResolver, certify, closed_port, egress_for, fetch
from tympan.egress import Egress, EgressRules, LookupFailed, SystemResolver
from tympan.egress.addresses import is_denied
from tympan.egress.heads import Head, printable
from tympan.egress.urls import parse
from tympan.errors import AddressRefused, ConfigError, FetchFailed, InvalidRequest, TympanError

# Addresses that Python's own words get wrong: global to it, and yet of this machine or its network.
MISJUDGED = ("224.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "fec0::1", "192.88.99.1", "192.0.0.192")
_DIALER = Egress(EgressRules(), ScriptedResolver())._dialer
EDGES = (
    ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
    ("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"),
    ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"),
    ("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"),
    ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
    ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"),
    ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
    ("2003::", "2002::", "2002:ffff::", "2001:ffff::"),
    ("2001:200::", "2001::", "2001:1ff:ffff::", "2000::"),
    ("2001:db7::", "2001:db8::", "2001:db8:ffff::", "2001:db9::"),
    ("2000::", "1fff::", "::", "3ffd::"),
    ("3fff:1000::", "4000::", "ffff::", "3000::"),
)


@pytest.mark.parametrize("text", [*MISJUDGED, "100.64.0.1"])
def test_M14_what_python_misjudges_is_denied(text: str) -> None:
    """The list is our own."""
    assert is_denied(ipaddress.ip_address(text))


@pytest.mark.parametrize("edges", EDGES, ids=lambda edges: edges[1])
def test_ranges_end_where_they_end(edges: tuple[str, str, str, str]) -> None:
    """The first and last address of a range are denied, their neighbours outside are not."""
    below, first, last, above = (ipaddress.ip_address(text) for text in edges)
    assert [is_denied(address) for address in (below, first, last, above)] == [False, True, True, False]


@given(st.integers(0, 2**128 - 1))
def test_only_global_unicast_is_left_of_ipv6(number: int) -> None:
    """Whatever does not begin with the bits 001 is denied."""
    if number >> 125 != 1:
        assert is_denied(ipaddress.IPv6Address(number))


@given(st.ip_addresses(v=4))
def test_no_private_address_is_left_of_ipv4(address: ipaddress.IPv4Address) -> None:
    """What Python calls private, reserved or multicast is a part of what is denied."""
    if address.is_private or address.is_reserved or address.is_multicast:
        assert is_denied(address)


@pytest.mark.parametrize(
    "rule",
    [
        *("", "10.0.0.5", "10.0.0.5:", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.0/8:80", "*:80", "host.example:80"),
        *("10.0.0.5:*", "010.0.0.5:80", "http://10.0.0.5:80", "fd00::5:80", "[fe80::1%eth0]:80", " 10.0.0.5:80"),
    ],
)
def test_an_exception_is_an_exact_address_and_port(rule: str) -> None:
    """Anything wider or less plain is an error in the settings."""
    with pytest.raises(ConfigError, match="ip:port"):
        Egress(EgressRules(allow=(rule,)))


def test_an_exception_in_ipv6_is_written_in_brackets() -> None:
    """It then allows that address and port, in any spelling of the address."""
    egress = Egress(EgressRules(allow=("[fd00::5]:9000",)))
    egress.check("http://[fd00::5]:9000/")
    egress.check("http://[FD00:0:0::5]:9000/")
    for url in ("http://[fd00::5]/", "http://[fd00::6]:9000/", "http://10.0.0.5:9000/"):
        with pytest.raises(AddressRefused):
            egress.check(url)


def test_https_only_spares_the_addresses_that_the_operator_names() -> None:
    """Inside the operator's own network http may do; a name, or another port, needs https all the same."""
    egress = Egress(EgressRules(allow=("10.0.0.5:80",), https_only=True))
    egress.check("https://example.com/")
    egress.check("http://10.0.0.5/")
    for url in ("http://example.com/", "http://10.0.0.6/", "http://10.0.0.5:443/"):
        with pytest.raises(AddressRefused, match="https"):
            egress.check(url)


def test_a_redirect_does_not_leave_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who began encrypted is not led on in the clear."""
    tls, authority = certify(tmp_path, "media.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with Host(lambda visit: visit.answer(200)) as plain:
        with Host(lambda visit: visit.answer(302, Location=plain.url()), tls=tls) as host:
            rules = EgressRules(allow=(host.rule, plain.rule))
            egress = Egress(rules, ScriptedResolver(["127.0.0.1"]))
            with pytest.raises(FetchFailed):
                fetch(egress, host.url(name="media.example"), tmp_path)
        assert (len(host.requests), plain.visits) == (1, [])


def test_the_field_at_fault_is_named() -> None:
    """The refusal tells the caller which field of the request it is about."""
    for url in ("http://127.0.0.1/", "ftp://example.com", "http://1.2.3/", "http://example.com:22/"):
        with pytest.raises((InvalidRequest, AddressRefused)) as caught:
            Egress(EgressRules()).check(url, "webhook_url")
        assert caught.value.param == "webhook_url"
        assert caught.value.remedy


@given(st.text(max_size=40) | st.text("0123456789abcdefx.:[]@%/\\#?-_", max_size=40).map("http://".__add__))
def test_every_text_is_taken_or_refused(url: str) -> None:
    """No text makes the parser fail in another way, and what it takes reads the same a second time."""
    try:
        target = parse(url)
    except (InvalidRequest, AddressRefused):
        return
    assert parse(target.url) == target
    assert target.host.isascii()


@given(st.text(min_size=1, max_size=60))
def test_every_redirect_is_followed_or_refused(location: str) -> None:
    """Whatever an answer names as its other place, the outcome is one of ours."""
    try:
        target = _DIALER.redirected(parse("https://example.com/a/b?c"), location)
    except (InvalidRequest, AddressRefused):
        return
    assert target.port in {80, 443}


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """A name with several checked addresses is reached at the first that takes the connection."""
    with Host(lambda visit: visit.answer(200)) as host:
        rules = EgressRules(allow=(f"127.0.0.2:{host.port}", host.rule))
        egress = Egress(rules, ScriptedResolver(["127.0.0.2", "127.0.0.1"]))
        assert egress.post(host.url(name="two.example"), b"", {}, POST).status == 200


def test_ipv6_is_reached(tmp_path: Path) -> None:
    """An address in brackets is connected to, and named in brackets to the host."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with Host(lambda visit: visit.answer(200, b"own"), address="::1") as host:
        assert fetch(egress_for(host), f"http://[::1]:{host.port}/", tmp_path) == b"own"
    assert f"Host: [::1]:{host.port}\r\n".encode() in host.requests[0]


def test_the_systems_resolver_finds_loopback() -> None:
    """The operating system's answer comes through, each address once."""
    addresses = SystemResolver().resolve("localhost", 5.0)
    assert ipaddress.ip_address("127.0.0.1") in addresses or ipaddress.ip_address("::1") in addresses
    assert len(set(addresses)) == len(addresses)


def test_a_lookup_that_hangs_ends_in_time_and_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller waits no longer than it wants to; hanging lookups cannot pile up, and free their places at last."""
    free, done = threading.Event(), threading.Semaphore(0)

    def hang(*_: Any, **__: Any) -> list[Any]:
        free.wait(30)
        done.release()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    resolver = SystemResolver(max_lookups=2)
    for reason in ("in time", "in time", "waiting", "waiting"):
        with pytest.raises(LookupFailed, match=reason):
            resolver.resolve("slow.example", 0.05)
    free.set()
    assert all(done.acquire(timeout=10) for _ in range(2))
    assert resolver.resolve("slow.example", 10.0) == [ipaddress.ip_address("93.184.216.34")]


@pytest.mark.alone
def test_a_lookup_ends_in_time_though_it_waits_for_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a place and waiting for the answer share one limit."""
    free = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: free.wait(30) and [])
    resolver = SystemResolver(max_lookups=1)
    resolver._places.acquire()
    threading.Timer(1.2, resolver._places.release).start()
    began = time.monotonic()
    with pytest.raises(LookupFailed, match="in time"):
        resolver.resolve("slow.example", 1.5)
    took_s = time.monotonic() - began
    free.set()
    assert took_s < 2.4


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "unknown"), UnicodeError("label"), OSError("x")], ids=repr)
def test_a_lookup_that_fails_is_a_failed_fetch(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the system's resolver raises, the caller gets the usual error."""

    def fail(*_: Any, **__: Any) -> list[Any]:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(FetchFailed):
        fetch(Egress(EgressRules()), "http://example.com/", tmp_path)


def test_a_closed_port_is_retryable(tmp_path: Path) -> None:
    """The plain failure."""
    port = closed_port()
    with pytest.raises(FetchFailed) as caught:
        fetch(Egress(EgressRules(allow=(f"127.0.0.1:{port}",))), f"http://127.0.0.1:{port}/", tmp_path)
    assert caught.value.retryable


def head(*headers: tuple[str, str], status: int = 200) -> Head:
    """Return the head of an answer with these headers."""
    return Head(
        httpcore.Response(status, headers=[(name.encode(), value.encode("latin-1")) for name, value in headers])
    )


def test_retry_after_is_read_in_both_forms_and_bounded() -> None:
    """Seconds or a date; never more than a day, never negative, nothing when it makes no sense."""
    now = datetime.now(UTC)
    soon = head(("Retry-After", format_datetime(now + timedelta(seconds=100), usegmt=True))).retry_after_s
    assert soon is not None
    assert 95 < soon < 101
    assert head(("retry-after", "999999999")).retry_after_s == 86_400
    assert head(("retry-after", format_datetime(now - timedelta(days=1), usegmt=True))).retry_after_s == 0
    assert head(("retry-after", format_datetime(now + timedelta(days=900), usegmt=True))).retry_after_s == 86_400
    for nonsense in ("", "-1", "1.5", "soon", "9" * 40, "Mon, 99 Foo 0000 99:99:99 GMT", "\xb2"):
        assert head(("retry-after", nonsense)).retry_after_s is None


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60))
def test_no_header_value_is_too_odd(value: str) -> None:
    """Any value a host can send is read or ignored."""
    names = ("retry-after", "location", "content-length", "content-encoding")
    odd = head(*((name, value) for name in names), status=302)
    assert odd.retry_after_s is None or 0 <= odd.retry_after_s <= 86_400
    assert isinstance(odd.location, str)
    assert odd.length_bytes is None or odd.length_bytes >= 0


def test_a_header_that_comes_twice_is_not_believed() -> None:
    """Two places to go to are none."""
    assert head(("Location", "/a"), ("Location", "/b"), status=302).location == ""


@given(st.binary(max_size=3000))
def test_an_excerpt_is_short_and_printable(data: bytes) -> None:
    """Whatever the receiver answers with, it can be shown."""
    text = printable(data)
    assert text.isprintable()
    assert len(text.encode()) <= 1024


def test_errors_cross_processes_without_their_cause() -> None:
    """What a tenant may see of a failure is all that the error carries."""
    egress = Egress(EgressRules(), ScriptedResolver(["10.0.0.1"]))
    with pytest.raises(TympanError) as caught:
        egress.post("https://private.example/secret", b"", {}, POST)
    _, fields = caught.value.__reduce__()
    assert "10.0.0.1" not in repr(fields)
    assert "secret" not in repr(fields)
