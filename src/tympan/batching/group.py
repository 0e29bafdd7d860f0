"""One model on several devices: a batcher for each, and every window goes to the one that is done first."""

import copy
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol

from tympan.batching.queue import Origin
from tympan.batching.stats import BatcherStats, together
from tympan.domain import WindowResult, WindowTask
from tympan.engine.base import EngineInfo
from tympan.errors import Overloaded, TympanError, Unavailable

_log = logging.getLogger(__name__)


class AnyBatcher(Protocol):
    """A batcher, as far as those that run a model are concerned. See ``Batcher`` for what each does."""

    @property
    def info(self) -> EngineInfo | None:
        """What the engine runs; ``None`` until it was loaded once."""

    @property
    def ready(self) -> bool:
        """Whether new windows are welcome."""

    @property
    def failure(self) -> TympanError | None:
        """Why the engine is not there; ``None`` while it is."""

    @property
    def memory_bytes(self) -> int | None:
        """Memory of the engine's process."""

    def start(self) -> None:
        """Start loading the engine and return at once."""

    def wait_ready(self, timeout_s: float) -> EngineInfo:
        """Wait for the engine. Raises why it failed."""

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Accept a window. Raises ``Overloaded`` and ``Unavailable``."""

    def stats(self) -> BatcherStats:
        """Return what waits and runs."""

    def close(self, drain_s: float) -> None:
        """End the engine."""


class BatcherGroup:
    """Several batchers that pass for one. It takes work as long as one of them does.

    A window stays with the device that it was given to: when that is lost, it waits for the device to come back, or is
    refused when it does not.
    """

    def __init__(self, members: Sequence[AnyBatcher]) -> None:
        """Join ``members``, each of which runs the same model on a device of its own."""
        if not members:
            raise ValueError("A group has at least one batcher.")
        self._members = tuple(members)

    @property
    def info(self) -> EngineInfo | None:
        """What the engines run; ``None`` until one of them was loaded."""
        return next((member.info for member in self._members if member.info is not None), None)

    @property
    def ready(self) -> bool:
        """Whether at least one takes windows."""
        return any(member.ready for member in self._members)

    @property
    def failure(self) -> TympanError | None:
        """Why no engine is there; ``None`` while one is."""
        failures = [member.failure for member in self._members]
        return None if None in failures else failures[0]

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of all processes; ``None`` where the system does not tell."""
        known = [member.memory_bytes for member in self._members if member.memory_bytes is not None]
        return sum(known) if known else None

    def start(self) -> None:
        """Start loading on all devices and return at once."""
        for member in self._members:
            member.start()

    def wait_ready(self, timeout_s: float) -> EngineInfo:
        """Wait until every device has loaded the model or failed; return what runs, or raise why none could."""
        with ThreadPoolExecutor(len(self._members), thread_name_prefix="wait-ready") as threads:
            loads = [threads.submit(partial(member.wait_ready, timeout_s)) for member in self._members]
        errors = [error for load in loads if (error := load.exception()) is not None]
        for error in errors:
            if not isinstance(error, TympanError):
                raise error
        if len(errors) == len(loads):
            raise errors[0]
        for error in errors:
            _log.error("one of %d devices does not take part: %s", len(loads), str(error))
        return next(load.result() for load in loads if load.exception() is None)

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Hand a window to the device that is done first. Raises ``Overloaded`` and ``Unavailable`` when none takes it.

        The error is that of the device that would have been the first choice.
        """
        refused: TympanError | None = None
        for member in sorted(self._members, key=_turn):
            try:
                return member.submit(task, origin)
            except (Overloaded, Unavailable) as error:
                refused = refused or error
        raise copy.copy(refused) if refused is not None else Unavailable()

    def stats(self) -> BatcherStats:
        """Return what waits and runs on all devices; a newcomer waits for the first that is done."""
        return together([member.stats() for member in self._members])

    def close(self, drain_s: float) -> None:
        """Refuse new windows, finish the accepted ones within ``drain_s`` seconds, end all engines, side by side."""
        with ThreadPoolExecutor(len(self._members), thread_name_prefix="close") as threads:
            for end in [threads.submit(partial(member.close, drain_s)) for member in self._members]:
                end.result()


def _turn(member: AnyBatcher) -> tuple[bool, float, int]:
    stats = member.stats()
    return not member.ready, stats.predicted_drain_s, sum(stats.queued_windows.values()) + stats.running_windows
