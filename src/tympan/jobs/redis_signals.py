"""Signals between processes through Redis. Without Redis, or with one that is slow, changes are noticed a little later.

Announcing has 50 ms; after a failure Redis is left alone for 5 s. Hearing is a thread's business alone: whoever waits
never waits for Redis.
"""

import threading
import time
from contextlib import suppress
from typing import Any

import redis

from tympan import telemetry
from tympan.jobs.signals import LocalSignals

_LOG = telemetry.get_logger(__name__)
_CHANNEL = "tympan.jobs"
_ANSWER_S = 0.05
_OPEN_S = 5.0
_LISTEN_S = 1.0
_MAX_ID_CHARS = 64


class RedisSignals:
    """Signals to and from every process on the same Redis."""

    def __init__(self, url: str, *, open_s: float = _OPEN_S) -> None:
        """Use the Redis at ``url``; after a failure it is left alone for ``open_s``."""
        bounds: dict[str, Any] = {"socket_timeout": _ANSWER_S, "socket_connect_timeout": _ANSWER_S, "retry": None}
        self._speaker = redis.Redis.from_url(url, **bounds)
        self._url, self._open_s = url, open_s
        self._local = LocalSignals()
        self._closed_until = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)

    def start(self) -> None:
        """Begin to hear."""
        self._thread.start()

    def stop(self) -> None:
        """Stop hearing."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(3 * _LISTEN_S)
        with suppress(redis.RedisError):
            self._speaker.close()

    def announce(self, job_id: str) -> None:
        """Tell every process; silently nobody while Redis is away."""
        self._local.announce(job_id)
        if time.monotonic() < self._closed_until:
            return
        try:
            self._speaker.publish(_CHANNEL, job_id)
        except (redis.RedisError, OSError) as error:
            self._closed_until = time.monotonic() + self._open_s
            _LOG.warning("redis_left_alone", error_type=type(error).__name__, for_s=self._open_s)

    def wait(self, job_id: str, timeout_s: float) -> bool:
        """Return whether the job was announced within ``timeout_s``."""
        return self._local.wait(job_id, timeout_s)

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                self._hear()
            except (redis.RedisError, OSError) as error:
                _LOG.info("redis_unheard", error_type=type(error).__name__)
            self._over.wait(self._open_s)

    def _hear(self) -> None:
        """Pass on what is announced, until Redis goes away: one that is frozen does not answer the health check."""
        listener = redis.Redis.from_url(
            self._url, socket_connect_timeout=_LISTEN_S, socket_timeout=_LISTEN_S, retry=None, health_check_interval=5
        )
        with listener, listener.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(_CHANNEL)
            while not self._over.is_set():
                message = channel.get_message(timeout=_LISTEN_S)
                if message is not None and len(message["data"]) <= _MAX_ID_CHARS:
                    self._local.announce(message["data"].decode(errors="replace"))
