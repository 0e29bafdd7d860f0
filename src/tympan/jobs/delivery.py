"""The delivery loop: claims what is due, sends it from a few threads, and notes what came of it.

One thread talks to the database and hands claims to the senders; what they bring back is noted together. An attempt
that is not noted, because the process died, is made again by whoever finds its lease run out: receivers get each event
at least once, under one id.

An attempt without an answer is noted at a fixed time after it began, whatever kept the answer away: what its endpoint's
owner sees must not tell a closed port from a silent one. Until then it is kept aside and occupies no sender.
"""

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from tympan import telemetry, tracing
from tympan.egress import Answer, PostLimits
from tympan.errors import ConfigError, StorageUnavailable, TympanError
from tympan.faultpoints import reach
from tympan.jobs.delivery_rules import Reply, Schedule, judge
from tympan.jobs.sealing import Sealer
from tympan.jobs.webhooks import message_body, message_headers
from tympan.storage.deliveries import DeliveryStore
from tympan.storage.delivery_values import DeliveryClaim, Outcome
from tympan.storage.ids import new_id

_GATHER_S = 0.005
_FRESH_S = 0.25
_MAX_KEPT_BACK = 256
_LOG = telemetry.get_logger(__name__)


class Courier(Protocol):
    """Sends messages to addresses that may be reached."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str], limits: PostLimits) -> Answer:
        """Send ``body`` and return the answer, whatever its status. Raises ``TympanError`` when none came."""


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """How deliveries are made. ``workers`` bounds the attempts at a time; half of them are for endpoints on trial.

    Endpoints that nobody can want any more are looked for every ``tidy_s``, events older than ``keep_s`` every
    ``forget_s``.
    """

    schedule: Schedule = field(default_factory=Schedule)
    limits: PostLimits = field(default_factory=PostLimits)
    workers: int = 16
    poll_s: float = 1.0
    tidy_s: float = 60.0
    forget_s: float = 600.0
    keep_s: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What a test replaces: the clock (Unix seconds), the dice (0 to 1), and who is told what came of attempts.

    ``observer`` gets ``delivered``, ``pending``, ``failed``, ``dropped`` or ``lost``, and how many.
    """

    clock: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random
    observer: Callable[[str, int], None] = lambda _result, _count: None


@dataclass(frozen=True, slots=True)
class _Ended:
    """An attempt that is over: what came of it, and from when on (monotonic seconds) that may be noted."""

    claim: DeliveryClaim
    outcome: Outcome | None
    told_at: float


class DeliveryLoop:
    """Sends what is due until it is stopped; any number of processes may run one."""

    def __init__(
        self,
        store: DeliveryStore,
        courier: Courier,
        sealer: Sealer,
        options: DeliveryOptions | None = None,
        tools: Tools | None = None,
    ) -> None:
        """Take deliveries from ``store``; ``start`` starts the threads."""
        self._store, self._courier, self._sealer = store, courier, sealer
        self._options, self._tools = options or DeliveryOptions(), tools or Tools()
        self._owner = new_id("snd")
        self._senders = ThreadPoolExecutor(self._options.workers, thread_name_prefix="webhook")
        # Bounded by the number of claims in flight, which the number of workers bounds.
        self._ended: deque[_Ended] = deque()
        self._kept_back: list[_Ended] = []
        self._unmarked: list[Outcome] = []
        self._in_flight = self._on_trial = 0
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._tidy_at = self._forget_at = time.monotonic()

    def start(self) -> None:
        """Start sending in the background."""
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 25.0) -> None:
        """Claim nothing more, wait up to ``timeout_s`` for what is being sent, note it all, and end the threads."""
        self._stop.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._senders.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Look for work now: something has just become due."""
        self._bell.set()

    def run_once(self) -> int:
        """Send what is due now, as far as there is room, and return how many attempts were noted.

        For callers that have not called ``start``. Raises ``StorageUnavailable``.
        """
        noted = self._note()
        self._claim()
        while self._in_flight or self._kept_back:
            self._bell.wait(self._pause_s())
            self._bell.clear()
            noted += self._note()
        return noted

    def _run(self) -> None:
        while not self._stop.is_set() or self._in_flight or self._kept_back:
            self._bell.clear()
            try:
                self._note()
                if not self._stop.is_set():
                    self._claim()
                    self._tidy()
            except TympanError as error:
                _LOG.warning("webhooks_not_looked_up", code=error.code)
            except Exception:  # noqa: BLE001 (a mistake in one delivery must not end all others)
                _LOG.exception("webhooks_failed")
                self._unmarked.clear()  # Their leases run out, and they are tried again.
            self._rest()

    def _rest(self) -> None:
        """Wait for work or answers; a moment longer when more answers are about to come, to note them together."""
        self._bell.wait(self._pause_s())
        if 0 < len(self._ended) < self._in_flight:
            time.sleep(_GATHER_S)

    def _pause_s(self) -> float:
        """Return how long nothing has to be looked at, unless the bell rings."""
        now = time.monotonic()
        return min([self._options.poll_s, *(max(0.0, ended.told_at - now) for ended in self._kept_back)])

    def _claim(self) -> None:
        workers, spare = self._options.workers, _MAX_KEPT_BACK - len(self._kept_back)
        room = min(workers, spare) - self._in_flight - len(self._unmarked)
        # Who does not answer can fill half of the senders, and half of the places of those that are kept back.
        trial_room = min(max(1, workers // 2), spare - _MAX_KEPT_BACK // 2) - self._on_trial
        taken = time.monotonic()
        for claim in self._store.claim(self._owner, room, trial_room):
            self._in_flight += 1
            self._on_trial += claim.on_trial
            self._senders.submit(self._work, claim, taken)

    def _collect(self) -> None:
        """Take what the senders brought back; what may not be told yet is kept, unless this is the end."""
        while self._ended:
            ended = self._ended.popleft()
            self._in_flight -= 1
            self._on_trial -= ended.claim.on_trial
            self._kept_back.append(ended)
        now = float("inf") if self._stop.is_set() else time.monotonic()
        due = [ended for ended in self._kept_back if ended.told_at <= now]
        self._kept_back = [ended for ended in self._kept_back if ended.told_at > now]
        self._unmarked += [ended.outcome for ended in due if ended.outcome is not None]

    def _note(self) -> int:
        """Note what may be told; what cannot be noted now is kept for the next time."""
        self._collect()
        if not self._unmarked:
            return 0
        reach("webhook.mark")
        counts = self._store.mark(self._unmarked)
        noted, self._unmarked = len(self._unmarked), []
        for result, count in counts.items():
            self._tools.observer(result, count)
        return noted

    def _tidy(self) -> None:
        options, now = self._options, time.monotonic()
        if now >= self._tidy_at:
            self._tidy_at = now + options.tidy_s
            self._store.forget_endpoints()
        if now >= self._forget_at:
            self._forget_at = now + options.forget_s
            self._store.forget(options.keep_s)

    def _work(self, claim: DeliveryClaim, taken: float) -> None:
        outcome: Outcome | None = None
        began = time.monotonic()
        try:
            outcome = self._attempt(claim, taken)
        except StorageUnavailable:
            _LOG.warning("webhook_put_off", endpoint=claim.endpoint_id, event_id=claim.event.id)
        except Exception:  # noqa: BLE001 (a mistake in one delivery must not end all others)
            _LOG.exception("webhook_attempt_failed", endpoint=claim.endpoint_id, event_id=claim.event.id)
            reply = Reply(error="The attempt failed inside the server.")
            outcome = judge(claim, reply, self._options.schedule, self._tools.draw())
        finally:
            unanswered = outcome is not None and outcome.status is None
            told_at = began + self._options.limits.told_after_s if unanswered else 0.0
            self._ended.append(_Ended(claim, outcome, told_at))
            self._bell.set()

    def _attempt(self, claim: DeliveryClaim, taken: float) -> Outcome | None:
        """Return what came of an attempt; ``None`` when the delivery is no longer ours to make.

        ``taken`` is when it was claimed: what is no longer fresh is looked at again.
        """
        reach("webhook.send")
        if time.monotonic() - taken > _FRESH_S and not self._store.holds(claim):
            return None
        if claim.attempt > 1:
            telemetry.RETRIES.labels("delivery").inc()
        with tracing.span("webhook", parent=claim.event.trace, kind="CLIENT") as span:
            reply = self._post(claim)
            outcome = judge(claim, reply, self._options.schedule, self._tools.draw())
            span.note({"tympan.event_id": claim.event.id, "tympan.try": claim.attempt})
            span.fail("" if outcome.result == "delivered" else str(outcome.status or "unanswered"))
        _LOG.info(
            "webhook_attempt",
            endpoint=claim.endpoint_id,
            event_id=claim.event.id,
            event_type=claim.event.type,
            attempt=claim.attempt,
            result=outcome.result,
            status=outcome.status,
            duration_ms=outcome.duration_ms,
        )
        return outcome

    def _post(self, claim: DeliveryClaim) -> Reply:
        started = time.monotonic()
        try:
            secrets = self._opened(claim.secrets)
            body = message_body(claim.event)
            at = datetime.fromtimestamp(self._tools.clock(), UTC)
            headers = message_headers(claim.event.id, body, secrets, at)
            answer = self._courier.post(claim.url, body, headers, self._options.limits)
        except TympanError as error:
            # What it took tells as much as when it is noted.
            took_s = max(time.monotonic() - started, self._options.limits.told_after_s)
            return Reply(error=error.message, duration_s=took_s)
        return Reply(answer.status, None, answer.retry_after_s, answer.excerpt, answer.duration_s)

    def _opened(self, sealed: Sequence[str]) -> list[str]:
        """Return the secrets that sign, the newest first. Raises ``ConfigError`` when the newest cannot be opened.

        One before it that cannot be opened signs no more: its key is lost, and a new secret was made because of that.
        """
        secrets = [self._sealer.unseal(sealed[0])]
        for older in sealed[1:]:
            with contextlib.suppress(ConfigError):
                secrets.append(self._sealer.unseal(older))
        return secrets
