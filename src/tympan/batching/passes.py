"""Passes of the engine in the traces of those whose windows they had."""

from tympan import tracing
from tympan.batching.backlog import Running


def trace(running: Running, error: str = "") -> None:
    """Record a pass that has just ended, with an error code if it failed."""
    members = (tracing.Member(item.origin.trace, item.enqueued_s, item.audio_s) for item in running.items)
    tracing.batch(members, running.began_s, error)
