"""A line to Redis for what may be lost: every call is bounded, and a Redis that fails is left alone for a while."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import redis

from tympan import telemetry

_LOG = telemetry.get_logger(__name__)
_ANSWER_S = 0.05
_LISTEN_S = 1.0
_MAX_CONNECTIONS = 64
_MAX_MESSAGE_CHARS = 64

Script: TypeAlias = Callable[[Sequence[str], Sequence[str | float | bytes]], Any]
"""Runs at once for its keys and arguments. Raises ``RedisAway``."""


class RedisAway(Exception):
    """Redis does not answer, or does not do what it is asked; never seen by callers of ours."""


class RedisLink:
    """Redis as one process sees it; safe to share between threads. Each exchange has 50 ms."""

    def __init__(self, url: str, *, open_s: float) -> None:
        """Use the Redis at ``url``; after a failure it is left alone for ``open_s``, or until ``probe`` finds it."""
        bounds: dict[str, Any] = {"socket_timeout": _ANSWER_S, "socket_connect_timeout": _ANSWER_S, "retry": None}
        self._client = redis.Redis.from_url(url, max_connections=_MAX_CONNECTIONS, **bounds)
        self._url, self._open_s = url, open_s
        self._closed_until = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether the next call will try."""
        return time.monotonic() >= self._closed_until

    def probe(self) -> bool:
        """Return whether Redis answers now, and use it again if it does."""
        with suppress(redis.RedisError, OSError):
            self._client.ping()
            self._closed_until = float("-inf")
            return True
        return False

    def publish(self, channel: str, text: str) -> None:
        """Tell whoever listens. Raises ``RedisAway``."""
        self._call(lambda: self._client.publish(channel, text))

    def get(self, key: str) -> bytes | None:
        """Return what is kept under ``key``. Raises ``RedisAway``."""
        found: bytes | None = self._call(lambda: self._client.get(key))
        return found

    def script(self, text: str) -> Script:
        """Return a program that runs inside Redis, where nothing comes between its steps."""
        registered = self._client.register_script(text)
        return lambda keys, arguments: self._call(lambda: registered(keys=list(keys), args=list(arguments)))

    def listen(self, channel: str, hear: Callable[[str], None], over: threading.Event) -> None:
        """Pass on what is published, until ``over`` is set. Raises ``RedisAway`` when Redis goes away or freezes."""
        listener = redis.Redis.from_url(
            self._url, socket_connect_timeout=_LISTEN_S, socket_timeout=_LISTEN_S, retry=None, health_check_interval=5
        )
        try:
            with listener, listener.pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
                heard.subscribe(channel)
                while not over.is_set():
                    message = heard.get_message(timeout=_LISTEN_S)
                    if message is not None and len(message["data"]) <= _MAX_MESSAGE_CHARS:
                        hear(message["data"].decode(errors="replace"))
        except (redis.RedisError, OSError) as error:
            raise RedisAway(type(error).__name__) from error

    def close(self) -> None:
        """Close all connections."""
        with suppress(redis.RedisError):
            self._client.close()

    def _call(self, work: Callable[[], Any]) -> Any:
        if not self.is_open:
            raise RedisAway("It is left alone.")
        try:
            return work()
        except (redis.RedisError, OSError) as error:
            self._closed_until = time.monotonic() + self._open_s
            _LOG.warning("redis_unavailable", error_type=type(error).__name__)
            raise RedisAway(type(error).__name__) from error
