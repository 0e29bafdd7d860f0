"""Results that are kept for a while, so that an equal call or job of the same tenant need not be worked on again.

Equal means: the same bytes of audio, the same options, the same model on the same runtime, the same software; of voices
that are known, the same names and the same bytes of their samples. How the text is rendered does not matter, since what
is kept is the transcript. A cache may lose everything at any time.
"""

import hashlib
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from tympan import telemetry
from tympan.domain import Options, Transcript
from tympan.jobs.shelves import Shelf, ShelfAway
from tympan.storage import codec

LONGEST_S = 86_400.0
"""Nothing is kept for longer than a day, whatever the settings say: so an erasure that cannot reach it is in time."""

_LOG = telemetry.get_logger(__name__)
_LARGEST_JSON_BYTES = 64 << 20
_LEVEL = 1
_REPEATABLE = frozenset({"onnx", "onnx-asr", "fake"})
"""Engines that draw the same text again; with others a text that was drawn is not kept."""


class Maker(Protocol):
    """What makes a text: an engine's facts, all of which go into the key."""

    @property
    def engine(self) -> str:
        """Name of the runtime."""
        ...

    @property
    def model(self) -> str:
        """Name of the model."""
        ...

    @property
    def digest(self) -> str:
        """Digest of the model's weights and format, as jobs are bound to it."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """One result as it is kept: what it belongs to, and since when, in Unix seconds."""

    tenant: str
    key: str
    at: float
    transcript: Transcript


_KEPT = TypeAdapter(_Kept)


class ResultCache:
    """Results of one installation; without a shelf it only says what is equal. Safe to share between threads."""

    def __init__(
        self, shelf: Shelf | None = None, ttl_of: Callable[[str], float] = lambda _tenant: 0.0, software: str = ""
    ) -> None:
        """Keep results on ``shelf``, a tenant's for ``ttl_of`` seconds; ``software`` is what makes them, in words."""
        self._shelf, self._ttl_of, self._software = shelf, ttl_of, software

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._shelf is not None

    def key(self, sha256: str, options: Options, maker: Maker) -> str:
        """Return 64 characters that are the same for what is equal; the last 32 are the digest of the weights."""
        facts = (self._software, sha256, codec.dump(options.without_voices()), codec.dump(maker))
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32] + maker.digest[:32].rjust(32, "-")

    def find(self, tenant: str, key: str, max_audio_s: float) -> Transcript | None:
        """Return the transcript of an equal call, unless its audio is longer than the tenant may send now.

        Takes 50 ms at most where another process is asked. What is damaged is removed.
        """
        ttl_s = min(self._ttl_of(tenant), LONGEST_S)
        if self._shelf is None or ttl_s <= 0:
            return None
        name = _name(key)
        try:
            data = self._shelf.find(tenant, name)
            kept = None if data is None else _opened(data)
            if data is not None and (kept is None or (kept.tenant, kept.key) != (tenant, name)):
                telemetry.RESULT_CACHE.labels("damaged").inc()
                self._shelf.forget(tenant, [name])
                return None
        except ShelfAway:
            telemetry.RESULT_CACHE.labels("away").inc()
            return None
        if kept is None or time.time() - kept.at > ttl_s or kept.transcript.duration_s > max_audio_s:
            telemetry.RESULT_CACHE.labels("miss").inc()
            return None
        telemetry.RESULT_CACHE.labels("hit").inc()
        return replace(kept.transcript, is_cached=True)

    def keep(self, tenant: str, key: str, maker: Maker, transcript: Transcript) -> None:
        """Keep a transcript that ``maker`` made, if it would make the same again. Failures are not the caller's."""
        ttl_s = min(self._ttl_of(tenant), LONGEST_S)
        if self._shelf is None or ttl_s <= 0 or not _is_repeatable(maker, transcript):
            return
        name = _name(key)
        with suppress(ShelfAway, PydanticSerializationError):  # Text that is no Unicode cannot be written down.
            data = zlib.compress(codec.dump(_Kept(tenant, name, time.time(), transcript)).encode(), _LEVEL)
            telemetry.RESULT_CACHE_EVICTIONS.inc(self._shelf.put(tenant, name, data, ttl_s))

    def forget(self, tenant: str, keys: Iterable[str | None]) -> None:
        """Remove what is equal to jobs with these keys."""
        names = [_name(key) for key in keys if key]
        if self._shelf is not None and names:
            self._erase("result", lambda shelf: shelf.forget(tenant, names))

    def forget_tenant(self, tenant: str) -> None:
        """Remove everything of a tenant."""
        self._erase("tenant", lambda shelf: shelf.forget_tenant(tenant))

    def sweep(self) -> None:
        """Remove what has been kept long enough, and show how much there is."""
        with suppress(ShelfAway):
            if self._shelf is not None:
                telemetry.RESULT_CACHE_BYTES.set(self._shelf.sweep())

    def close(self) -> None:
        """Release what the shelf holds on to."""
        if self._shelf is not None:
            self._shelf.close()

    def _erase(self, what: str, erase: Callable[[Shelf], None]) -> None:
        try:
            if self._shelf is not None:
                erase(self._shelf)
        except ShelfAway:
            _LOG.warning("cached_result_not_erased", what=what, gone_within_s=LONGEST_S)


def served(key: str) -> str:
    """Return the key for a job that got an equal one's result: it finds what is kept, but serves no third job.

    Else results would live on from job to job for ever.
    """
    return f"={key[1:]}"


def _name(key: str) -> str:
    """Return what a result is kept under: the same for a job that made it and one that was served."""
    return key[1:]


def _is_repeatable(maker: Maker, transcript: Transcript) -> bool:
    if transcript.is_cached or transcript.model != maker.model:
        return False
    drawn = transcript.stats.rejected or any(segment.temperature > 0 for segment in transcript.segments)
    return maker.engine in _REPEATABLE or not drawn


def _opened(data: bytes) -> _Kept | None:
    """Return what is kept in ``data``, ``None`` when it is damaged."""
    try:
        opener = zlib.decompressobj()
        text = opener.decompress(data, _LARGEST_JSON_BYTES)
        return _KEPT.validate_json(text) if opener.eof else None
    except (zlib.error, ValidationError):
        return None
