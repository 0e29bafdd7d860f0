"""Places where a test can make the program fail: each is named after the commit it stands beside.

``TYMPAN_FAULT=point:action[:nth]`` acts when ``point`` is reached for the ``nth`` time in this process (the first
unless said): ``crash`` ends the process as a kill would, ``stop`` freezes it, ``delay`` waits 2 s, ``raise`` raises
``InjectedFault``. Without the variable a point costs one comparison.
"""

import os
import signal
import threading
import time

POINTS = (
    "upload.written",  # A body is in staging.
    "blob.fsync",  # A blob's bytes are on disk under a name that nobody reads.
    "blob.rename",  # It has its name.
    "blob.delete",
    "job.insert",  # The job's row and first step are written, not committed.
    "job.committed",  # They are committed, nobody has been told.
    "bell.publish",  # A doorbell is about to be published.
    "bell.mark",  # It is published, not yet marked.
    "step.claimed",  # A worker holds a step and has done nothing.
    "prepare.media",  # The audio is at hand.
    "section.put",  # A section's audio is stored, its row is not.
    "section.insert",  # Its row is written, not committed.
    "prepare.commit",  # All sections are there; the end of `prepare` is not committed.
    "section.decoded",  # The text is known and stored nowhere.
    "section.commit",  # It is written, not committed.
    "section.committed",
    "anew.commit",  # Sections of another model are dropped, not committed.
    "finish.assembled",  # The transcript is known and stored nowhere.
    "finish.commit",  # Transcript, state and event are written, not committed.
    "finish.committed",
    "job.fail",  # A failure is written, not committed.
    "job.cancel",  # A cancellation is written, not committed.
    "sweep.release",  # Expired leases are released, not committed.
    "erase.rows",  # A job's rows are gone, not committed.
    "erase.blobs",  # They are gone, its blobs are not.
    "webhook.claim",
    "webhook.send",  # A delivery is about to be sent.
    "webhook.mark",  # It was answered, not yet marked.
    "upload.part",  # A part of a resumable upload is stored, its row is not.
    "upload.commit",  # Its row is written, not committed.
    "golden.begin",  # A run of a golden set is written, not committed.
    "golden.record",  # What one of its clips came to is written, not committed.
    "golden.finish",  # The end of the run, with its alarms, is written, not committed.
)
"""Every point there is."""

_DELAY_S = 2.0
_lock = threading.Lock()
_seen: dict[str, int] = {}


class InjectedFault(Exception):
    """A test asked for a failure here."""


def reach(point: str) -> None:
    """Say that ``point`` is reached; does nothing unless a test asked otherwise."""
    wanted = os.environ.get("TYMPAN_FAULT")
    if wanted:
        _act(point, wanted)


def _act(point: str, wanted: str) -> None:
    name, action, *rest = wanted.split(":")
    if name != point:
        return
    with _lock:
        _seen[point] = count = _seen.get(point, 0) + 1
    if count != int(rest[0] if rest else 1):
        return
    if action == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        # To this thread: sent to the process, another thread may take it while this one goes on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    elif action == "delay":
        time.sleep(_DELAY_S)
    elif action == "raise":
        raise InjectedFault(point)
