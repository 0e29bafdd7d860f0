"""A shelf that the workers of a cluster share, in Redis. What lies there is sealed: Redis and its files hold no text.

Every exchange has 50 ms; after a failure Redis is left alone for 5 s. Entries end by themselves, by Redis's clock. Who
has how much is written down beside them, in the same step.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from tympan import telemetry
from tympan.errors import ConfigError
from tympan.jobs.shelves import LARGEST_SHARE, ShelfAway
from tympan.storage.redis_link import RedisAway, RedisLink, Script

_OPEN_S = 5.0
_LARGEST_BYTES = 1 << 20
_PREFIX = "tympan:results"

_BOOKS = f"""
local P = '{_PREFIX}:'
local shares, total = P .. 'shares', P .. 'bytes'
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local function named(tenant, what) return P .. '{{' .. tenant .. '}}:' .. what end

local function add(tenant, n)
  redis.call('ZINCRBY', shares, n, tenant)
  redis.call('INCRBY', total, n)
end

local function drop(tenant, key)
  local n = redis.call('HGET', named(tenant, 'sizes'), key)
  redis.call('DEL', named(tenant, key))
  redis.call('ZREM', named(tenant, 'ends'), key)
  redis.call('HDEL', named(tenant, 'sizes'), key)
  if n then add(tenant, 0 - tonumber(n)) end
end

local function close(tenant)
  -- Nothing is left of this tenant: what is still written down was lost in another way.
  if redis.call('ZCARD', named(tenant, 'ends')) > 0 then return end
  local n = redis.call('ZSCORE', shares, tenant)
  if n then redis.call('INCRBY', total, 0 - tonumber(n)) end
  redis.call('ZREM', shares, tenant)
  redis.call('DEL', named(tenant, 'sizes'))
end

local function purge(tenant)
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', named(tenant, 'ends'), '-inf', now, 'LIMIT', 0, 500)) do
    drop(tenant, key)
  end
  close(tenant)
end
"""

_PUT = f"""{_BOOKS}
-- ARGV: the tenant, the key, the data, for how many milliseconds, how many bytes there may be in all.
local tenant, key, n = ARGV[1], ARGV[2], string.len(ARGV[3]) + string.len(ARGV[1]) + 512
redis.call('SET', named(tenant, key), ARGV[3], 'PX', ARGV[4])  -- First: it fails when Redis is full.
local had = redis.call('HGET', named(tenant, 'sizes'), key)
redis.call('ZADD', named(tenant, 'ends'), now + tonumber(ARGV[4]), key)
redis.call('HSET', named(tenant, 'sizes'), key, n)
add(tenant, n - (had and tonumber(had) or 0))
purge(tenant)
local evicted, most = 0, tonumber(ARGV[5])
while tonumber(redis.call('GET', total) or '0') > most and evicted < 1000 do
  local largest = redis.call('ZREVRANGE', shares, 0, 0)[1]
  if not largest then break end
  local oldest = redis.call('ZRANGE', named(largest, 'ends'), 0, 0)[1]
  if oldest then drop(largest, oldest); evicted = evicted + 1 end
  close(largest)
end
return {{evicted, tonumber(redis.call('GET', total) or '0')}}
"""

_FORGET = f"""{_BOOKS}
-- ARGV: the tenant, then the keys.
for i = 2, #ARGV do drop(ARGV[1], ARGV[i]) end
close(ARGV[1])
return 0
"""

_FORGET_TENANT = f"""{_BOOKS}
local tenant = ARGV[1]
for _, key in ipairs(redis.call('ZRANGE', named(tenant, 'ends'), 0, 1999)) do drop(tenant, key) end
close(tenant)
return redis.call('ZCARD', named(tenant, 'ends'))
"""

_SWEEP = f"""{_BOOKS}
for _, tenant in ipairs(redis.call('ZRANGE', shares, 0, -1)) do purge(tenant) end
if redis.call('ZCARD', shares) == 0 then redis.call('DEL', total) end
return tonumber(redis.call('GET', total) or '0')
"""


class Seals(Protocol):
    """Makes data unreadable to whoever has not the key of this installation."""

    def seal_bytes(self, data: bytes) -> bytes:
        """Return ``data`` sealed."""
        ...

    def unseal_bytes(self, sealed: bytes) -> bytes:
        """Return what was sealed. Raises ``ConfigError`` when no key of ours opens it."""
        ...


class RedisShelf:
    """What is kept in the Redis of a cluster."""

    def __init__(self, url: str, max_bytes: int, seals: Seals, *, open_s: float = _OPEN_S) -> None:
        """Use the Redis at ``url`` for ``max_bytes``; after a failure it is left alone for ``open_s``."""
        self._link, self._max_bytes, self._seals = RedisLink(url, open_s=open_s), max_bytes, seals
        self._put, self._forget, self._forget_tenant, self._sweep = map(
            self._link.script, (_PUT, _FORGET, _FORGET_TENANT, _SWEEP)
        )

    def find(self, tenant: str, key: str) -> bytes | None:
        """Return what was put there; what was sealed by somebody else is taken for damaged: nothing at all."""
        try:
            sealed = self._link.get(f"{_PREFIX}:{{{tenant}}}:{key}")
        except RedisAway as error:
            raise ShelfAway from error
        if sealed is None:
            return None
        try:
            return self._seals.unseal_bytes(sealed)
        except ConfigError:
            return b""

    def put(self, tenant: str, key: str, data: bytes, ttl_s: float) -> int:
        """Keep ``data``, sealed; what is larger than its share, or than a megabyte, is not kept."""
        if not self._link.is_open:
            raise ShelfAway  # Sealing would be in vain.
        sealed = self._seals.seal_bytes(data)
        if len(sealed) > min(self._max_bytes // LARGEST_SHARE, _LARGEST_BYTES):
            return 0
        answer = self._run(self._put, tenant, key, sealed, max(1, round(ttl_s * 1000)), self._max_bytes)
        telemetry.RESULT_CACHE_BYTES.set(int(answer[1]))
        return int(answer[0])

    def forget(self, tenant: str, keys: Iterable[str]) -> None:
        """Remove what is there."""
        self._run(self._forget, tenant, *keys)

    def forget_tenant(self, tenant: str) -> None:
        """Remove everything of a tenant."""
        while self._run(self._forget_tenant, tenant):
            pass

    def sweep(self) -> int:
        """Put the books in order; return how many bytes are kept."""
        return int(self._run(self._sweep))

    def close(self) -> None:
        """Close all connections."""
        self._link.close()

    def _run(self, script: Script, *arguments: str | float | bytes) -> Any:
        try:
            return script([], list(arguments))
        except RedisAway as error:
            raise ShelfAway from error
