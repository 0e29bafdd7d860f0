"""Plans for whoever asks a running server: one at a time, from the machine's last profile and from its own traffic."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tympan.capacity.aside import Question, plan_aside
from tympan.capacity.demand import Demand, Goal, Lengths, Seen
from tympan.capacity.planner import Effort
from tympan.capacity.profile import Profile
from tympan.capacity.replica import House
from tympan.errors import Conflict, InvalidRequest, Overloaded

__all__ = ["DEFAULT_LENGTH_S", "DEFAULT_WAIT_S", "LIMIT_S", "Demand", "Goal", "Lengths", "PlanDesk", "PlanWish"]

DEFAULT_LENGTH_S = 30.0
"""How long recordings are where nothing else is said."""

DEFAULT_WAIT_S = 5.0
"""How long 95 % of the calls may wait where no goal is given."""

LIMIT_S = 120.0
"""Longest time for one plan."""

_BUSY_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class PlanWish:
    """What is asked: how much (``None`` everywhere: as was seen in the last ``days``), and what has to hold."""

    callers: int | None = None
    think_s: float = 0.0
    per_hour: float | None = None
    by_hour: tuple[float, ...] = ()
    days: int = 7
    growth: float = 1.0
    lengths: Lengths | None = None
    job_share: float | None = None
    job_lengths: Lengths | None = None
    goal: Goal = field(default_factory=lambda: Goal(wait_p95_s=DEFAULT_WAIT_S))
    effort: Effort = field(default_factory=Effort)
    cost_per_hour: float | None = None
    profile: Profile | None = None

    @property
    def is_live(self) -> bool:
        """Whether the demand is what was seen."""
        return self.callers is None and self.per_hour is None and not self.by_hour

    def demand(self, seen: Seen) -> Demand:
        """Return the demand times ``growth``; what is not said is as it was ``seen``. Raises ``InvalidRequest``."""
        by_hour = self.by_hour or seen.by_hour
        busiest = max(by_hour, default=None) if self.per_hour is None else self.per_hour
        asked = Demand(
            lengths=self.lengths or seen.lengths or Lengths((DEFAULT_LENGTH_S,)),
            callers=self.callers,
            think_s=self.think_s,
            per_hour=None if self.callers is not None else busiest,
            by_hour=by_hour if self.callers is None else (),
            job_share=seen.job_share if self.job_share is None else self.job_share,
            job_lengths=self.job_lengths or seen.job_lengths,
        )
        return asked if self.growth == 1.0 else asked.times(self.growth)


class PlanDesk:
    """Plans, one at a time."""

    def __init__(
        self,
        profile: Callable[[], Profile | None],
        seen: Callable[[int], Seen],
        house: House,
        *,
        limit_s: float = LIMIT_S,
    ) -> None:
        """Plan with what ``profile`` returns, the last that was measured, and what was ``seen`` in so many days.

        Both may wait for the database or the storage.
        """
        self._profile, self._seen, self._house, self.limit_s = profile, seen, house, limit_s
        self._turn = threading.Lock()
        self._over = threading.Event()

    def plan(self, wish: PlanWish, command: str, is_given_up: Callable[[], bool]) -> dict[str, object]:
        """Return the plan as `tympan capacity --json` prints it; ``command`` stands in it as what was asked.

        Raises ``Conflict`` when no machine was measured, ``InvalidRequest`` for a demand that nothing was seen of or a
        goal that cannot be met, ``Overloaded`` while another plan is made or when this one takes too long.
        """
        if not self._turn.acquire(blocking=False):
            raise Overloaded(
                "Another plan is being made.", remedy="Ask again when it is done.", retry_after_s=_BUSY_RETRY_S
            )
        try:
            question = self._question(wish)
            return plan_aside(question, command, self.limit_s, lambda: self._over.is_set() or is_given_up())
        finally:
            self._turn.release()

    def close(self) -> None:
        """Give up the plan that is being made."""
        self._over.set()

    def _question(self, wish: PlanWish) -> Question:
        profile = wish.profile or self._last_profile()
        seen = self._what_was_seen(wish.days) if wish.is_live else Seen()
        return Question(profile, wish.demand(seen), wish.goal, self._house, wish.effort, wish.cost_per_hour, seen.notes)

    def _last_profile(self) -> Profile:
        remedy = "Run `tympan capacity --fresh` on a machine that works, with this DATA_DIR or in this cluster."
        try:
            profile = self._profile()
        except InvalidRequest as error:
            raise Conflict(error.message, remedy=remedy) from error
        if profile is None:
            raise Conflict("No machine has been measured yet.", remedy=remedy)
        return profile

    def _what_was_seen(self, days: int) -> Seen:
        try:
            return self._seen(days)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"There were no requests in the last {days} days.",
                param="days",
                remedy="Give more days, or say what you expect with per_hour and mean_length_s.",
            ) from error
