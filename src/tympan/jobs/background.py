"""What threads in the background do over and over: a failure is logged and never ends the thread."""

from collections.abc import Callable
from typing import TypeVar

from tympan import telemetry
from tympan.errors import TympanError

Result = TypeVar("Result")

_LOG = telemetry.get_logger(__name__)


def attempt(chore: str, action: Callable[[], Result]) -> Result | None:
    """Return what ``action`` returns; ``None`` when it failed, which the next turn makes good."""
    try:
        return action()
    except TympanError as error:
        _LOG.warning("chore_failed", chore=chore, code=error.code, cause=error.message)
    except Exception as error:  # noqa: BLE001 (the thread has to live on)
        _LOG.error("chore_broke", chore=chore, **telemetry.crash_report(error))
    return None
