"""A ledger that the processes of a cluster share, in Redis; one of its own for as long as Redis is away.

Each process remembers what Redis said last. When Redis goes, that is where its own ledger goes on, giving out its part
of every rate. When Redis comes back it is told what was taken meanwhile; one that comes back empty begins where the
process that asks first stands. So neither gives anybody a second burst.
"""

import threading
import uuid
from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

from tympan import telemetry
from tympan.access.gcra import Charge, Reading
from tympan.access.ledger import MAX_KEYS, Key, LocalLedger, Taken
from tympan.background import Background
from tympan.storage.redis_link import RedisAway, RedisLink

_LOG = telemetry.get_logger(__name__)
_BEAT_S = 2.0
_JOIN_S = 2.0
_NO_BOUND = 1 << 31
_PREFIX = "tympan:limits"
_INSTANCES = f"{_PREFIX}:instances"

_NOW = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
"""

_TAKE = f"""{_NOW}
-- ARGV: whether it may not be refused; then for each key, in seconds, the cost, the period, the lead to begin with, and
-- what was taken while we were away.
local leads, fits, news = {{}}, {{}}, {{}}
local all = true
for i = 1, #KEYS do
  local cost, period = tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1])
  local begin, owed = tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i + 1])
  local held = redis.call('HMGET', KEYS[i], 'ahead', 'seen')
  local ahead = begin
  news[i] = begin > 0
  if held[1] then
    local left = math.max(0, tonumber(held[1]) - math.max(0, now - tonumber(held[2])))
    ahead = math.max(left, math.min(left + owed, begin))
    news[i] = owed > 0 or now < tonumber(held[2])  -- Else a clock that was set back would stand still here.
  end
  leads[i] = ahead
  fits[i] = ARGV[1] == '1' or ahead + cost <= period + 0.000001
  all = all and fits[i]
end
local answer = {{}}
for i = 1, #KEYS do
  if all then
    leads[i] = math.max(0, leads[i] + tonumber(ARGV[4 * i - 2]))
  end
  if all or news[i] then
    redis.call('HSET', KEYS[i], 'ahead', string.format('%.6f', leads[i]), 'seen', string.format('%.6f', now))
    redis.call('PEXPIRE', KEYS[i], math.ceil(leads[i] * 1000) + 1000)
  end
  answer[2 * i - 1] = string.format('%.6f', leads[i])
  answer[2 * i] = fits[i] and 1 or 0
end
return answer
"""

_HOLD = f"""{_NOW}
-- KEYS: who holds. ARGV: the token, how many there may be, for how many seconds it is good without being renewed.
local good = tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 2 * good, '+inf')
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + good, ARGV[1])
redis.call('EXPIRE', KEYS[1], math.ceil(2 * good))
return 1
"""

_BEAT = f"""{_NOW}
-- KEYS: the processes, then who holds. ARGV: for how long it is good, who we are, then a token for each further key.
local good = tonumber(ARGV[1])
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], now + good, ARGV[i + 1])
  redis.call('EXPIRE', KEYS[i], math.ceil(2 * good))
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 2 * good, '+inf')
return redis.call('ZCARD', KEYS[1])
"""

_RELEASE = "return redis.call('ZREM', KEYS[1], ARGV[1])"


_Before: TypeAlias = tuple[float, float]
"""By how many seconds we take a tenant to be ahead, and how much of that Redis has not been told."""


class _Scripts:
    """What runs inside Redis, by its own clock. Everything raises ``RedisAway``."""

    def __init__(self, link: RedisLink) -> None:
        self._take, self._hold, self._beat, self._release = map(link.script, (_TAKE, _HOLD, _BEAT, _RELEASE))

    def take(self, tenant: str, charges: Sequence[Charge], before: Sequence[_Before], *, force: bool) -> Taken:
        """Take all or nothing, all in any case with ``force``."""
        each = ((charge.cost_s, charge.rate.period_s, *known) for charge, known in zip(charges, before, strict=True))
        keys = [_key(tenant, charge.name) for charge in charges]
        answer = self._take(keys, ["1" if force else "0", *chain.from_iterable(each)])
        found = zip(charges, answer[::2], answer[1::2], strict=True)
        return Taken(tuple(Reading(charge, float(ahead), not fits) for charge, ahead, fits in found))

    def hold(self, tenant: str, kind: str, token: str, most: int, good_s: float) -> bool:
        """Return whether there was room for the token."""
        return bool(self._hold([_key(tenant, kind)], [token, most, good_s]))

    def release(self, tenant: str, kind: str, token: str) -> None:
        """Remove the token."""
        self._release([_key(tenant, kind)], [token])

    def beat(self, me: str, held: Sequence[tuple[Key, str]], good_s: float) -> int:
        """Renew ``me`` and what is held; return how many processes there are."""
        keys = [_INSTANCES, *(_key(*key) for key, _ in held)]
        return int(self._beat(keys, [good_s, me, *(token for _, token in held)]))


class SharedLedger:
    """A ledger in Redis. ``start`` it: a thread keeps what is held, and finds Redis again when it was away."""

    blocks = True

    def __init__(self, url: str, *, beat_s: float = _BEAT_S) -> None:
        """Use the Redis at ``url``; what a process holds that has died is free after four beats."""
        self._link = RedisLink(url, open_s=float("inf"))
        self._scripts, self._local = _Scripts(self._link), LocalLedger()
        self._beat_s, self._good_s = beat_s, 4 * beat_s
        self._me, self._n_parts = uuid.uuid4().hex[:16], 1
        self._owed: dict[Key, float] = {}
        self._lock = threading.Lock()
        self._background = Background("limits", self._run, _JOIN_S)

    @property
    def n_parts(self) -> int:
        """How many processes share the limits, as far as is known."""
        return self._n_parts

    @property
    def shares(self) -> bool:
        """Whether Redis is used at the moment."""
        return self._link.is_open

    def start(self) -> None:
        """Begin to be counted among the processes."""
        self._background.start()

    def stop(self) -> None:
        """Stop; what is held is free soon after."""
        self._background.stop()
        self._link.close()

    def take(self, tenant: str, charges: Sequence[Charge]) -> Taken:
        """Take all of ``charges``, or nothing when one of them does not fit."""
        taken = self._ask(tenant, charges, force=False)
        if taken is None:
            taken = self._local.take(tenant, charges, self._n_parts)
            if taken.refused is None:
                self._owe(tenant, charges)
        return taken

    def settle(self, tenant: str, charges: Sequence[Charge]) -> None:
        """Take, or give back, whether it fits or not."""
        if self._ask(tenant, charges, force=True) is None:
            self._local.settle(tenant, charges, self._n_parts)
            self._owe(tenant, charges)

    def hold(self, tenant: str, kind: str, most: int) -> str | None:
        """Return a token for one more of ``kind``, ``None`` when the tenant has ``most``."""
        token = self._local.hold(tenant, kind, _NO_BOUND)
        if token is None:
            return None
        try:
            if self._scripts.hold(tenant, kind, self._named(token), most, self._good_s):
                return token
        except RedisAway:
            self._note_away()
            self._local.release(tenant, kind, token)
            return self._local.hold(tenant, kind, most, self._n_parts)
        self._local.release(tenant, kind, token)
        return None

    def release(self, tenant: str, kind: str, token: str) -> None:
        """Give a token back; a second call does nothing."""
        self._local.release(tenant, kind, token)
        try:
            self._scripts.release(tenant, kind, self._named(token))
        except RedisAway:
            self._note_away()

    def beat(self) -> None:
        """Say that this process is there and what it holds, if Redis answers."""
        if not self._link.is_open and not self._link.probe():
            return
        held = [(key, self._named(token)) for key, token in self._local.tokens()]
        try:
            self._n_parts = max(1, self._scripts.beat(self._me, held, self._good_s))
        except RedisAway:
            self._note_away()
        else:
            telemetry.LIMITS_SHARED.set(1)

    def _ask(self, tenant: str, charges: Sequence[Charge], *, force: bool) -> Taken | None:
        """Return what Redis says, ``None`` while it is away."""
        if not charges:
            return Taken()
        if not self._link.is_open:
            return None
        owed = self._redeem(tenant, charges)
        before = list(zip(self._local.leads(tenant, charges), owed, strict=True))
        try:
            taken = self._scripts.take(tenant, charges, before, force=force)
        except RedisAway:
            self._note_away()
            self._owe_s(tenant, charges, owed)
            return None
        self._local.learn(tenant, taken.readings)
        return taken

    def _owe(self, tenant: str, charges: Sequence[Charge]) -> None:
        """Remember what Redis does not know of."""
        self._owe_s(tenant, charges, [charge.cost_s for charge in charges])

    def _owe_s(self, tenant: str, charges: Sequence[Charge], owed: Sequence[float]) -> None:
        with self._lock:
            for charge, owed_s in zip(charges, owed, strict=True):
                key = (tenant, charge.name)
                if owed_s and (key in self._owed or len(self._owed) < MAX_KEYS):
                    self._owed[key] = self._owed.get(key, 0.0) + owed_s

    def _redeem(self, tenant: str, charges: Sequence[Charge]) -> list[float]:
        """Return what Redis does not know of, and forget it."""
        with self._lock:
            return [self._owed.pop((tenant, charge.name), 0.0) for charge in charges]

    def _named(self, token: str) -> str:
        return f"{self._me}:{token}"

    def _note_away(self) -> None:
        telemetry.LIMITS_SHARED.set(0)

    def _run(self) -> None:
        while True:
            self.beat()
            if self._background.over.wait(self._beat_s):
                return


def _key(tenant: str, name: str) -> str:
    return f"{_PREFIX}:{{{tenant}}}:{name}"
