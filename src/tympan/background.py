"""What threads in the background do over and over: a failure is logged and never ends the thread."""

import threading
from collections.abc import Callable
from typing import TypeVar

from tympan import telemetry
from tympan.errors import TympanError

Result = TypeVar("Result")

_LOG = telemetry.get_logger(__name__)


class Background:
    """A thread that works until it is told to stop; it does not keep the process alive."""

    def __init__(self, name: str, work: Callable[[], object], join_s: float) -> None:
        """Prepare a thread for ``work``, which looks at ``over``; who stops it waits for ``join_s`` at most."""
        self.name, self.over, self._join_s = name, threading.Event(), join_s
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Say that it is over, and wait for what the thread has in hand; does nothing to one that never began."""
        self.over.set()
        if self._thread.is_alive():
            self._thread.join(self._join_s)


def attempt(chore: str, action: Callable[[], Result]) -> Result | None:
    """Return what ``action`` returns; ``None`` when it failed, which the next turn makes good."""
    try:
        return action()
    except TympanError as error:
        _LOG.warning("periodic_task_failed", chore=chore, code=error.code, cause=error.message)
    except Exception as error:  # noqa: BLE001 (the thread has to live on)
        _LOG.error("periodic_task_crashed", chore=chore, **telemetry.crash_report(error))
    return None
