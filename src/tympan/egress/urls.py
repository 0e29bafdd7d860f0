"""Web addresses, read once and strictly: what comes out is used as it is and never parsed again.

Two parsers that read one address differently are the classic way around a filter, so there is one. Whatever has more
than one reading is refused.
"""

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias
from urllib.parse import quote, urldefrag, urljoin

import idna

from tympan.errors import AddressRefused, InvalidRequest

Address: TypeAlias = IPv4Address | IPv6Address

DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_URL_CHARS = 8192  # Addresses with a signature and a session token reach 3000.
_MAX_HOST_CHARS = 253
_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SAFE = "/%:=&?~+!$,;'@()*[]|"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: ``host`` in lower-case ASCII, ``literal`` when it is an address and not a name."""

    scheme: str
    host: str
    port: int
    path: str
    literal: Address | None = None

    @property
    def host_header(self) -> str:
        """Host and, unless it is the usual one, port as the Host header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address again, as a base for relative ones."""
        return f"{self.scheme}://{self.host_header}{self.path}"


def parse(url: str, param: str | None = None) -> Target:
    """Return what ``url`` means; ``param`` is the request field it came in.

    Raises ``InvalidRequest`` when it is no plain http or https address and ``AddressRefused`` for numeric hosts in
    another spelling than the usual one.
    """
    if len(url) > _MAX_URL_CHARS:
        raise _invalid(f"is longer than {_MAX_URL_CHARS} characters", param)
    if not url.isprintable() or " " in url or "\\" in url:
        raise _invalid("contains a space, a backslash or a character that cannot be printed", param)
    if "#" in url:
        raise _invalid("has a fragment (#)", param)
    parts = _URL.fullmatch(url)
    if parts is None:
        raise _invalid("does not begin with http:// or https:// and a host", param)
    scheme = parts["scheme"].lower()
    host, port = _authority(parts["authority"], param)
    name, literal = _host(host, param)
    path = quote((parts["path"] or "/") + (parts["query"] or ""), safe=_SAFE)
    return Target(scheme, name, port or DEFAULT_PORTS[scheme], path, literal)


def follow(base: Target, location: str) -> Target:
    """Return where a redirect leads. Raises as ``parse`` does."""
    try:
        url = urldefrag(urljoin(base.url, location)).url
    except ValueError as error:
        raise _invalid("cannot be read", None) from error
    return parse(url)


def parse_socket_address(text: str) -> tuple[Address, int]:
    """Return the address and port that ``ip:port`` or ``[ipv6]:port`` names; raises ``ValueError``."""
    parts = _AUTHORITY.fullmatch(text)
    if parts is None or parts["port"] is None or int(parts["port"]) > 65535:
        raise ValueError(text)
    host = parts["host"]
    address: Address = IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(text)
    return address, int(parts["port"])


def _authority(text: str, param: str | None) -> tuple[str, int | None]:
    if "@" in text:
        raise _invalid("contains a user name", param)
    parts = _AUTHORITY.fullmatch(text)
    if parts is None:
        raise _invalid("has no valid host and port", param)
    port = int(parts["port"]) if parts["port"] else None
    if port is not None and port > 65535:
        raise _invalid("has no valid host and port", param)
    return parts["host"], port


def _host(text: str, param: str | None) -> tuple[str, Address | None]:
    """Return the normal form of a host, and its address when it is one."""
    if text.startswith("["):
        address = _ipv6(text[1:-1], param)
        return str(address), address
    name = _ascii_name(text, param)
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return name, _ipv4(text, param)
    if name == "localhost" or name.endswith(".localhost"):
        return name, IPv4Address("127.0.0.1")  # Never a matter for the DNS (RFC 6761).
    return name, None


def _ipv6(text: str, param: str | None) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError as error:
        raise _invalid("has no valid IPv6 address in its brackets", param) from error
    if address.scope_id is not None:
        raise _invalid("names a network interface (%)", param)
    return address


def _ipv4(text: str, param: str | None) -> IPv4Address:
    """Take four plain decimal numbers only: octal, hexadecimal and short forms have more than one reading."""
    try:
        return IPv4Address(text)
    except ipaddress.AddressValueError as error:
        raise AddressRefused(
            "The host is a number that is not a plain IPv4 address.", param=param, remedy="Use a host name."
        ) from error


def _ascii_name(text: str, param: str | None) -> str:
    name = text.lower()
    if len(name) <= _MAX_HOST_CHARS and not text.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except UnicodeError as error:
            raise _invalid("has a host name that IDNA does not allow", param) from error
    name = name.removesuffix(".")
    if len(name) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _invalid("has no valid host name", param)
    return name


def _invalid(what: str, param: str | None) -> InvalidRequest:
    return InvalidRequest(
        f"The address {what}.", param=param, remedy="Give a plain address such as https://host.example/path."
    )
