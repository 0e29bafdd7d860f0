"""Tickets to one job's audio, for who can send no key: a player in a page. Sealed, so that nothing has to be kept.

Every process that has the deployment's key opens a ticket. It is worth nothing for anything else, ends by itself, and
leads nowhere once the job is gone. It is not the key's: a ticket that was given out outlives the key by its own hour.
"""

import json
import secrets
import time
from collections.abc import Callable

from tympan.errors import ConfigError
from tympan.jobs.sealing import Sealer

LIFETIME_S = 3600.0
_MAX_CHARS = 1_000
_USE = "audio"


class Tickets:
    """Gives tickets out and opens them; never waits."""

    def __init__(self, sealer: Sealer | None = None, clock: Callable[[], float] = time.time) -> None:
        """Seal with ``sealer``, or with a key that this object alone has. ``clock`` tells Unix seconds."""
        self._sealer = sealer or Sealer([secrets.token_urlsafe(32)])
        self._clock = clock

    def issue(self, tenant: str, job_id: str) -> tuple[str, int]:
        """Return a ticket to the audio of a tenant's job, and the Unix second at which it ends."""
        until = int(self._clock() + LIFETIME_S)
        return self._sealer.seal(json.dumps([_USE, job_id, tenant, until])), until

    def holder(self, ticket: str, job_id: str) -> str | None:
        """Return for which tenant ``ticket`` opens the audio of ``job_id``; ``None`` when it does not."""
        if len(ticket) > _MAX_CHARS:
            return None
        try:
            use, its_job, tenant, until = json.loads(self._sealer.unseal(ticket))
            is_good = (use, its_job) == (_USE, job_id) and self._clock() < until
        except (ConfigError, ValueError, TypeError):  # Not sealed by us, or for something else.
            return None
        return str(tenant) if is_good else None
