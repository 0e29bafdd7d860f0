"""Signals between processes through Redis. Without Redis, or with one that is slow, changes are noticed a little later.

Announcing has 50 ms; after a failure Redis is left alone for 5 s. Hearing is a thread's business alone: whoever waits
never waits for Redis.
"""

from contextlib import suppress

from tympan import telemetry
from tympan.background import Background
from tympan.jobs.signals import LocalSignals
from tympan.storage.redis_link import RedisAway, RedisLink

_LOG = telemetry.get_logger(__name__)
_CHANNEL = "tympan.jobs"
_OPEN_S = 5.0
_JOIN_S = 3.0


class RedisSignals:
    """Signals to and from every process on the same Redis."""

    def __init__(self, url: str, *, open_s: float = _OPEN_S) -> None:
        """Use the Redis at ``url``; after a failure it is left alone for ``open_s``."""
        self._link, self._open_s = RedisLink(url, open_s=open_s), open_s
        self._local = LocalSignals()
        self._background = Background("signals", self._listen, _JOIN_S)

    def start(self) -> None:
        """Begin to hear."""
        self._background.start()

    def stop(self) -> None:
        """Stop hearing."""
        self._background.stop()
        self._link.close()

    def announce(self, job_id: str) -> None:
        """Tell every process; silently nobody while Redis is away."""
        self._local.announce(job_id)
        with suppress(RedisAway):
            self._link.publish(_CHANNEL, job_id)

    def wait(self, job_id: str, timeout_s: float) -> bool:
        """Return whether the job was announced within ``timeout_s``."""
        return self._local.wait(job_id, timeout_s)

    def _listen(self) -> None:
        while not self._background.over.is_set():
            try:
                self._link.listen(_CHANNEL, self._local.announce, self._background.over)
            except RedisAway as error:
                _LOG.info("redis_news_missed", error_type=str(error))
            self._background.over.wait(self._open_s)
