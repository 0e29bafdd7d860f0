"""What an engine's process prints, as lines of the log: runtimes print as they please, and the log has one form."""

import logging
import subprocess
import threading
import time
from typing import IO

_log = logging.getLogger(__name__)

_MAX_LINE_BYTES = 1_000
MAX_LINES = 200
"""Lines of one process that are logged in a minute; the rest are read and dropped: it never waits for a reader."""

_MINUTE_S = 60.0


def overhear(process: "subprocess.Popen[bytes]") -> None:
    """Log what ``process`` prints, until it ends; returns at once. Its output has to be a pipe."""
    if process.stdout is not None:
        arguments = (process.stdout, process.pid)
        threading.Thread(target=_listen, args=arguments, name=f"engine-output-{process.pid}", daemon=True).start()


def _listen(output: IO[bytes], pid: int) -> None:
    began_s, heard = time.monotonic(), 0
    with output:
        while line := output.readline(_MAX_LINE_BYTES):
            if time.monotonic() - began_s > _MINUTE_S:
                began_s, heard = time.monotonic(), 0
            heard += 1
            if heard <= MAX_LINES and (said := line.decode("utf-8", "replace").strip()):
                _log.info("engine process %s says: %s", pid, said)
            elif heard == MAX_LINES + 1:
                _log.warning("engine process %s says too much; what more it says in this minute is dropped", pid)
