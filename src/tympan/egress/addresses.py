"""Which network addresses may be reached: a list of our own, and exact exceptions by the operator.

Python's ``is_global`` and ``is_private`` are descriptions, not a filter: both let through addresses that end on this
machine or in its network, such as those of NAT64, 6to4 and carriers. So every range is written out here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from tympan.egress.urls import Address, Target, parse_socket_address
from tympan.errors import AddressRefused, ConfigError

_DENIED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' own
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Only 2000::/3 is assigned for global unicast; the first three lines deny all else: loopback, IPv4 in IPv6 in every
# form, NAT64 (64:ff9b::/96, 64:ff9b:1::/48), discard, unique local, link-local, site-local, multicast.
_DENIED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # protocol assignments, Teredo and ORCHID among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # 6bone, given back
        "3fff::/20",  # documentation
    )
)


@dataclass(frozen=True, slots=True)
class EgressRules:
    """What may be reached. ``allow`` holds the operator's exceptions: exact ``ip:port``, IPv6 in brackets."""

    allow: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)
    https_only: bool = False


def is_denied(address: Address) -> bool:
    """Return whether an address is this machine, its network, or no ordinary host on the internet."""
    if address.version == 4:
        return any(address in network for network in _DENIED_V4)
    return any(address in network for network in _DENIED_V6)


class AddressPolicy:
    """Decides by the rules; asks nobody."""

    def __init__(self, rules: EgressRules) -> None:
        """Read the rules. Raises ``ConfigError`` for an exception that is no exact ``ip:port``."""
        self._ports = frozenset(rules.ports)
        self._https_only = rules.https_only
        self._allowed = frozenset(_exception(rule) for rule in rules.allow)

    def check(self, target: Target, param: str | None = None) -> None:
        """Raise ``AddressRefused`` for what can be refused without asking the DNS."""
        if target.literal is not None and (target.literal, target.port) in self._allowed:
            return  # Named by the operator, who knows whether the way there needs TLS.
        if self._https_only and target.scheme != "https":
            raise AddressRefused("Only https addresses may be reached.", param=param, remedy="Use https.")
        if target.literal is not None and is_denied(target.literal):
            raise AddressRefused(param=param, remedy="Use a public address; the operator can allow exceptions.")
        if target.port not in self._ports and (target.literal is not None or not self._is_port_of_exception(target)):
            raise AddressRefused(
                f"Port {target.port} may not be reached.", param=param, remedy="Use the usual port of http or https."
            )

    def refused(self, answers: Sequence[Address], port: int) -> list[Address]:
        """Return those of a name's addresses that may not be reached; one is enough to refuse the name."""
        return [address for address in answers if not self._admits(address, port)]

    def _admits(self, address: Address, port: int) -> bool:
        return (address, port) in self._allowed or (port in self._ports and not is_denied(address))

    def _is_port_of_exception(self, target: Target) -> bool:
        return any(port == target.port for _, port in self._allowed)


def _exception(rule: str) -> tuple[Address, int]:
    try:
        return parse_socket_address(rule)
    except ValueError as error:
        raise ConfigError(
            f"{rule!r} is not a valid exception for outgoing requests.",
            remedy="Write ip:port, such as 10.0.0.5:9000 or [fd00::5]:80.",
        ) from error
