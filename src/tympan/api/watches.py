"""Eyes on what a server depends on: each looks in a thread of its own, so that nobody has to wait for what is dead."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeAlias

from tympan.background import Background, attempt

_JOIN_S = 1.0
_RETRY_S = 0.5


class PartState(StrEnum):
    """How a part stands: it works, it works in part or late, it does not work."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class PartReport:
    """How one part stands; if not well, why and what to do; and more facts about it."""

    state: PartState = PartState.OK
    reason: str | None = None
    remedy: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as `/health` tells it."""
        told = {"status": self.state.value, "reason": self.reason, "remedy": self.remedy}
        return {**told, **self.facts}


PartReports: TypeAlias = Mapping[str, PartReport]


class Spells:
    """Since when parts have not been well, as far as this process has looked. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Tell times by ``clock``, in Unix seconds."""
        self._clock = clock
        self.began: dict[str, float] = {}
        """When each part that is not well was first seen so; one that is well is not in it."""

    def note(self, parts: PartReports) -> None:
        """Remember how parts stand."""
        now = self._clock()
        bad = (name for name, part in parts.items() if part.state is not PartState.OK)
        self.began = {name: self.began.get(name, now) for name in bad}


@dataclass(frozen=True, slots=True)
class Sight:
    """What is looked at: ``look`` may block, within limits of its own, and tells of ``names`` or of some of them.

    ``silent`` is what is said of all of them when a look does not come back.
    """

    names: tuple[str, ...]
    look: Callable[[], PartReports]
    silent: PartReport


class Watch:
    """Looks at one thing over and over; what was found last is there without waiting."""

    def __init__(self, sight: Sight, *, period_s: float = 10.0, patience_s: float = 20.0) -> None:
        """Look every ``period_s``; a look that takes longer than ``patience_s`` means that there is no answer.

        One bad look is followed by another at once, and only that counts: a moment's trouble is none.
        """
        self._sight, self._period_s, self._patience_s = sight, period_s, patience_s
        self._background = Background(f"watch-{sight.names[0]}", self._run, _JOIN_S)
        self._found: PartReports = {}
        self._began: float | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to look."""
        self._background.start()

    def stop(self) -> None:
        """Look no more; a look that hangs is left behind."""
        self._background.stop()

    def reports(self) -> PartReports:
        """Return what was found last; never waits. Nothing before the first look has ended."""
        with self._lock:
            began, found = self._began, self._found
        if began is not None and time.monotonic() - began > self._patience_s:
            return dict.fromkeys(self._sight.names, self._sight.silent)
        return found

    def _run(self) -> None:
        while True:
            found = self._look()
            if any(each.state is not PartState.OK for each in found.values()):
                if self._background.over.wait(min(_RETRY_S, self._period_s)):
                    return
                found = self._look()
            with self._lock:
                self._found = found
            if self._background.over.wait(self._period_s):
                return

    def _look(self) -> PartReports:
        with self._lock:
            self._began = time.monotonic()
        found = attempt(self._background.name, self._sight.look)
        with self._lock:
            self._began = None
        return {self._sight.names[0]: self._sight.silent} if found is None else found


class Watches:
    """All that is watched. Use it in a ``with`` statement, or not at all: then nothing is looked at."""

    def __init__(self, watches: Iterable[Watch] = ()) -> None:
        """Watch all of ``watches``."""
        self._watches = tuple(watches)

    def __enter__(self) -> Self:
        """Begin to look."""
        for watch in self._watches:
            watch.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Look no more."""
        for watch in self._watches:
            watch.stop()

    def reports(self) -> dict[str, PartReport]:
        """Return what was found last of everything; never waits."""
        return {name: report for watch in self._watches for name, report in watch.reports().items()}
