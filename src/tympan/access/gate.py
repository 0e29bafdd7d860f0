"""Who is let in: from the key that came with a request to the caller it stands for.

A key is known for a moment without a question to the database, so what is revoked stops working within ``SURE_S`` plus
``WAIT_S`` in every process. While the database does not answer, keys that it vouched for within ``GRACE_S`` go on.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum

from tympan.access.callers import EVERYBODY, Caller
from tympan.access.failures import FailureLog
from tympan.access.ring import KeyRing, Known
from tympan.access.tokens import Token, parse
from tympan.errors import StorageUnavailable, TooManyFailures, Unauthenticated
from tympan.storage.keys import ANY, KeyFact

FRESH_S = 1.5
"""For so long an answer of the database is as good as new."""

SURE_S = 3.5
"""For so long it still counts, while the database is asked again."""

WAIT_S = 1.0
"""For so long the database may take to answer; then what it said before counts."""

GRACE_S = 300.0
"""For so long what it said before counts, at most."""

_FIRST_WAIT_S = 5.0
_NOBODYS = "0" * 64
_REMEDY = "Send it as Authorization: Bearer tym_..."


class Asks(Enum):
    """Whether callers are asked for keys."""

    NEVER = "never"
    ONCE_THERE_ARE_SOME = "once there are some"
    ALWAYS = "always"


class Gate:
    """Lets callers in. Its methods belong to an event loop; nothing in them waits for the database for long."""

    def __init__(self, asks: Asks, ring: KeyRing, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask callers for keys as ``asks`` says, and look keys up in ``ring``; ``close`` the ring afterwards."""
        self._asks, self._ring, self._clock = asks, ring, clock
        self._failures = FailureLog()

    async def asks_for_keys(self) -> bool:
        """Return whether a caller needs a key. Raises ``StorageUnavailable`` when that could never be found out."""
        if self._asks is Asks.ONCE_THERE_ARE_SOME and (await self._known(ANY)).fact is not None:
            self._asks = Asks.ALWAYS  # For good: were all keys erased, the door would stand open again.
        return self._asks is Asks.ALWAYS

    async def admit(self, key: str | None, address: str) -> Caller:
        """Return who calls from ``address`` with ``key``.

        Raises ``Unauthenticated``, ``TooManyFailures`` for one bad key too many from there, ``StorageUnavailable``.
        """
        if not await self.asks_for_keys():
            return EVERYBODY
        if key is None:
            raise Unauthenticated("An API key is needed.", remedy=_REMEDY)
        try:
            return await self._holder(key)
        except Unauthenticated as error:
            wait_s = self._failures.note(address, self._clock())
            if wait_s is None:
                raise
            raise TooManyFailures(
                "Too many requests with a bad API key have come from this address.",
                remedy="Check the key, then try again after the time in Retry-After.",
                retry_after_s=wait_s,
            ) from error

    async def is_still_good(self, caller: Caller) -> bool:
        """Return whether a caller who was let in would be let in again: for connections that last."""
        if caller.key_id is None:
            return not await self.asks_for_keys()
        known = await self._known(caller.key_id)
        return known.fact is not None and self._why_not(known.fact, known) is None

    async def _holder(self, key: str) -> Caller:
        token = parse(key)
        if token is None:
            raise Unauthenticated("This is not an API key of this server.", remedy=_REMEDY)
        before = self._ring.known(token.id)
        known = await self._known(token.id)
        fact = known.fact
        if not _fits(token, fact) or fact is None:
            # The same work for a wrong secret as for an id that nobody has, or the time would tell which ids there are.
            if known is before:
                await _answer(self._ring.ask(token.id), _FIRST_WAIT_S)
            raise Unauthenticated("The API key is not valid.", remedy="Check it, or ask for a new one.")
        why_not = self._why_not(fact, known)
        if why_not is not None:
            raise Unauthenticated(why_not, remedy="Ask for a new one.")
        self._ring.used(token.id)
        return Caller(fact.tenant, token.id, fact.scopes)

    def _why_not(self, fact: KeyFact, known: Known) -> str | None:
        if fact.revoked:
            return "The API key was revoked."
        if fact.left_s is not None and known.asked_s + fact.left_s <= self._clock():
            return "The API key has expired."
        return None

    async def _known(self, key_id: str) -> Known:
        """Return what the database says, or said a short while ago. Raises ``StorageUnavailable``, ``Overloaded``."""
        before = self._ring.known(key_id)
        if before is None:
            return await _answer(self._ring.ask(key_id), _FIRST_WAIT_S)
        age_s = self._clock() - before.asked_s
        if age_s < FRESH_S:
            return before
        asked = self._ring.ask(key_id)
        if age_s < SURE_S:
            return before
        # A silent database neither shuts the door that stood open, nor one key out.
        counts = key_id == ANY or (before.fact is not None and age_s < GRACE_S)
        try:
            return await _answer(asked, self._patience_s if counts else _FIRST_WAIT_S)
        except StorageUnavailable:
            if counts:
                return before
            raise

    @property
    def _patience_s(self) -> float:
        """How long to wait for an answer that one can do without: not at all once it is late for others."""
        return max(0.0, WAIT_S - self._ring.silent_s)


async def _answer(asked: Future[Known], limit_s: float) -> Known:
    try:
        async with asyncio.timeout(limit_s):
            return await asyncio.shield(asyncio.wrap_future(asked))
    except TimeoutError as error:
        raise StorageUnavailable("The database does not answer.", remedy="Try again.", retry_after_s=2.0) from error


def _fits(token: Token, fact: KeyFact | None) -> bool:
    return hmac.compare_digest(token.secret_sha256, _NOBODYS if fact is None else fact.secret_sha256)
