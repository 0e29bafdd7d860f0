"""Waiting for what a process of a cluster needs: servers that are started in any order, a schema that is being made."""

import threading
from collections.abc import Callable, Mapping

from tympan import telemetry
from tympan.errors import ConfigError, StorageUnavailable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 3.0
_LOG = telemetry.get_logger(__name__)


def wait_for(needs: Mapping[str, Callable[[], object]], over: threading.Event) -> bool:
    """Return whether every need was met before ``over`` was set.

    A need raises ``StorageUnavailable`` or ``ConfigError`` within a few seconds while it is not met; every try is
    logged, with what can be done.
    """
    return all(_wait(what, check, over) for what, check in needs.items())


def _wait(what: str, check: Callable[[], object], over: threading.Event) -> bool:
    pause_s = _FIRST_PAUSE_S
    while not over.is_set():
        try:
            check()
        except (StorageUnavailable, ConfigError) as error:
            _LOG.warning("waiting", what=what, cause=error.message, remedy=error.remedy, again_in_s=pause_s)
        else:
            return True
        over.wait(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
    return False
