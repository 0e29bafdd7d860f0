"""How often each address has come with a bad key lately, so that guessing is slow and costs us little."""

import ipaddress
from collections import OrderedDict

MAX_FAILURES = 10
"""Bad keys from one address in ``WINDOW_S`` that are answered as such; those after them are told to wait."""

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
_HOME_PREFIX = 64


class FailureLog:
    """The last failures of each address, of so many addresses at most: those seen longest ago are forgotten."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        """Begin with no failures."""
        self._max = max_addresses
        self._times: OrderedDict[str, tuple[float, ...]] = OrderedDict()

    def note(self, address: str, now_s: float) -> float | None:
        """Count a failure; return ``None``, or the seconds to wait when there were too many. Those do not count."""
        key = _neighbourhood(address)
        times = tuple(at for at in self._times.get(key, ()) if at > now_s - WINDOW_S)
        if len(times) >= MAX_FAILURES:
            self._keep(key, times)
            return times[0] + WINDOW_S - now_s
        self._keep(key, (*times, now_s))
        return None

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._times)

    def _keep(self, key: str, times: tuple[float, ...]) -> None:
        self._times[key] = times
        self._times.move_to_end(key)
        while len(self._times) > self._max:
            self._times.popitem(last=False)


def _neighbourhood(address: str) -> str:
    """Return what is counted together: with IPv6 a home has a whole network of addresses."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _HOME_PREFIX), strict=False))
    return str(parsed)
