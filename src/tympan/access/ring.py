"""The keys that this process has seen lately, and the one thread that asks the database about them.

Whoever wants to know about a key asks here; however many ask about however many keys, the database gets one question at
a time. So a flood of bad keys costs the database no more than a trickle, and a database that does not answer holds up
one thread.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias

from tympan import telemetry
from tympan.errors import Overloaded, StorageUnavailable, TympanError
from tympan.storage.keys import KeyFact

Find: TypeAlias = Callable[[Sequence[str]], Mapping[str, KeyFact]]
Touch: TypeAlias = Callable[[Collection[str]], object]

MAX_KNOWN = 10_000
"""Keys, and ids that are no key's, that are remembered; of each kind."""

TOUCH_S = 60.0
"""How often the last use of keys is written down, at most."""

_MAX_WANTED = 2_000
_AT_A_TIME = 500
_JOIN_S = 5.0
_LOG = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What the database said about an id, and on which moment of the monotonic clock it was asked."""

    fact: KeyFact | None
    asked_s: float


class KeyRing:
    """What is known of keys; every method returns at once and may be called from any thread."""

    def __init__(self, find: Find, touch: Touch, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask ``find`` about ids and tell ``touch`` which keys were used, both in a thread of this object's own."""
        self._find, self._touch, self._clock = find, touch, clock
        self._lock = threading.Condition()
        self._keys: OrderedDict[str, Known] = OrderedDict()
        self._strangers: OrderedDict[str, Known] = OrderedDict()
        self._wanted: OrderedDict[str, Future[Known]] = OrderedDict()
        self._in_question: Mapping[str, Future[Known]] = {}
        self._used: set[str] = set()
        self._touched_s = clock()
        self._asking_since: float | None = None
        self._over = False
        self._thread: threading.Thread | None = None

    def known(self, key_id: str) -> Known | None:
        """Return what was said about an id last, ``None`` when it was not asked about lately."""
        with self._lock:
            for found in (self._keys, self._strangers):
                if key_id in found:
                    found.move_to_end(key_id)
                    return found[key_id]
        return None

    def ask(self, key_id: str) -> "Future[Known]":
        """Have the database asked about an id; the future holds the answer, or a ``TympanError``."""
        with self._lock:
            future = self._wanted.get(key_id) or self._in_question.get(key_id)
            if future is not None:
                return future
            future = Future()
            if self._over or len(self._wanted) >= _MAX_WANTED:
                future.set_exception(Overloaded("Too many keys are being looked up.", retry_after_s=1.0))
                return future
            future.set_running_or_notify_cancel()  # Who does not wait any longer must not take it from the others.
            self._wanted[key_id] = future
            self._start()
            self._lock.notify()
            return future

    def used(self, key_id: str) -> None:
        """Note that a key has been used; it is written down within about a minute."""
        with self._lock:
            if key_id not in self._used and len(self._used) < MAX_KNOWN:
                self._used.add(key_id)
                self._lock.notify()

    @property
    def silent_s(self) -> float:
        """For how long the database has not answered the question that it was asked; 0 when there is none."""
        since = self._asking_since
        return 0.0 if since is None else self._clock() - since

    def close(self) -> None:
        """Write down what was used and stop."""
        with self._lock:
            self._over = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._over:
            with self._lock:
                if not (self._wanted or self._over):
                    self._lock.wait(self._pause_s())
                batch = dict(self._wanted.popitem(last=False) for _ in range(min(_AT_A_TIME, len(self._wanted))))
                self._in_question = batch
            if batch:
                self._answer(batch)
            if self._clock() - self._touched_s >= TOUCH_S:
                self._write_down()
        self._write_down()
        for future in self._wanted.values():
            future.set_exception(StorageUnavailable("The server is stopping."))

    def _pause_s(self) -> float | None:
        return max(0.0, self._touched_s + TOUCH_S - self._clock()) if self._used else None

    def _answer(self, batch: Mapping[str, "Future[Known]"]) -> None:
        asked_s = self._asking_since = self._clock()
        try:
            facts = self._find(list(batch))
        except Exception as error:  # noqa: BLE001 (whoever asked is told; the thread goes on)
            failure = error if isinstance(error, TympanError) else TympanError()
            if failure is not error:
                _LOG.error("keys_cannot_be_read", **telemetry.crash_report(error))
            self._forget_question()
            for future in batch.values():
                future.set_exception(failure)
            return
        answers = {key_id: Known(facts.get(key_id), asked_s) for key_id in batch}
        self._remember(answers)
        self._forget_question()
        for key_id, future in batch.items():
            future.set_result(answers[key_id])

    def _forget_question(self) -> None:
        with self._lock:
            self._in_question = {}
            self._asking_since = None

    def _remember(self, answers: Mapping[str, Known]) -> None:
        with self._lock:
            for key_id, found in answers.items():
                place, other = (self._keys, self._strangers) if found.fact else (self._strangers, self._keys)
                other.pop(key_id, None)
                place[key_id] = found
                place.move_to_end(key_id)
                while len(place) > MAX_KNOWN:
                    place.popitem(last=False)

    def _write_down(self) -> None:
        with self._lock:
            used, self._used = self._used, set()
        self._touched_s = self._clock()
        try:
            if used:
                self._touch(used)
        except TympanError as error:
            _LOG.warning("last_use_of_keys_is_lost", keys=len(used), error_code=error.code)
