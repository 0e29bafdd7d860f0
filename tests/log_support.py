"""What a test reads of the log."""

import contextlib
import io
import logging
from collections.abc import Iterator

import structlog

from tympan import logs, telemetry


@contextlib.contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """Give what is logged meanwhile, at every level, as JSON lines; logging is as before afterwards."""
    root, ours = logging.getLogger(), logging.getLogger(logs.OURS)
    handlers, levels = root.handlers[:], (root.level, ours.level)
    stream = io.StringIO()
    telemetry.configure_logging("debug", "json", stream)
    try:
        yield stream
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
