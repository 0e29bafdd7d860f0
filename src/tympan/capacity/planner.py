"""How many machines a demand needs, and what then happens: every answer from several simulated runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tympan.bench.stats import quantile
from tympan.capacity import theory
from tympan.capacity.demand import Demand, Goal
from tympan.capacity.outcome import Estimate, Outcome, percentiles
from tympan.capacity.profile import Profile
from tympan.capacity.replica import House
from tympan.capacity.simulation import Fleet, Span, simulate
from tympan.errors import InvalidRequest

MAX_REPLICAS = 256
SATURATED = 32
"""Callers at once that keep one machine as busy as it can be."""

CONCURRENCY = (1, 2, 4, 8, 16, 32)
MAX_REFUSED = 0.001
"""Share of requests that may be refused where a goal is to be met."""

_FEW = 3
_WINDOWS, _LEAST_REQUESTS, _MOST_REQUESTS = 1_600.0, 60, 800


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated: runs with different seeds for each answer, and how long each is beside the usual."""

    runs: int = 5
    seed: int = 1
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What so many machines do with a demand. Times in seconds, each with its 95 % interval over the runs."""

    replicas: int
    wait_s: dict[str, Estimate] | None
    turnaround_s: dict[str, Estimate] | None
    job_turnaround_s: dict[str, Estimate] | None
    audio_s_per_s: Estimate
    utilisation: Estimate
    windows_a_batch: float
    refused_share: float
    broken: float = 0.0

    def misses(self, goal: Goal) -> list[str]:
        """Return what of the goal does not hold, in words."""
        found = [
            f"{what} {_value(values)} > {limit:g} s"
            for what, values, limit in (
                ("wait p95", self.wait_s, goal.wait_p95_s),
                ("turnaround p95", self.turnaround_s, goal.turnaround_p95_s),
                ("jobs' turnaround p95", self.job_turnaround_s, goal.job_p95_s),
            )
            if limit is not None and values is not None and not _is_within(values["p95"], limit)
        ]
        if self.refused_share > MAX_REFUSED:
            found.append(f"{100 * self.refused_share:.1f} % are refused")
        lost = [v for v in (self.turnaround_s, self.job_turnaround_s) if v is not None and v["p99"].value is None]
        return [*found, "what comes is never done"] if lost and not found else found


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer for one kind of machine. ``per_machine_s`` is its capacity in seconds of audio a second.

    ``without_one`` are the figures after one machine has died, ``doubled`` those of twice the demand on the same
    machines, ``for_double`` how many it would take. ``by_hour`` are machines by the hour of a day.
    """

    profile: Profile
    demand: Demand
    goal: Goal
    per_machine_s: float
    curve: tuple[tuple[int, float, float], ...]
    figures: Figures
    headroom: float | None
    without_one: Figures | None
    doubled: Figures
    for_double: int | None
    tried: tuple[Figures, ...]
    formula_wait_s: float | None
    by_hour: tuple[int, ...] = ()
    cost_per_hour: float | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def audio_s_per_s(self) -> float:
        """Seconds of audio a second that the demand comes to."""
        asked = self.demand.audio_s_per_s
        return asked if asked is not None else self.figures.audio_s_per_s.value or 0.0

    @property
    def cost_per_audio_hour(self) -> float | None:
        """What an hour of audio costs in the busiest hour, all machines running."""
        if self.cost_per_hour is None or not self.audio_s_per_s:
            return None
        return self.cost_per_hour * self.figures.replicas / self.audio_s_per_s

    @property
    def cost_per_day(self) -> tuple[float, float] | None:
        """What a day costs with all machines on, and with as many as each hour needs."""
        if self.cost_per_hour is None:
            return None
        hours = self.by_hour or (self.figures.replicas,) * 24
        return 24 * self.figures.replicas * self.cost_per_hour, sum(hours) * self.cost_per_hour


def plan(
    profile: Profile,
    demand: Demand,
    goal: Goal,
    house: House | None = None,
    effort: Effort | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Return how many machines of one kind meet ``goal``, and what is to be expected of them.

    Raises ``InvalidRequest`` when more than ``MAX_REPLICAS`` would be needed, or no number would do.
    """
    house, effort = house or House(), effort or Effort()
    say("capacity of one machine")
    curve = throughput(profile, demand, house, effort)
    desk = _Desk(profile, house, effort, goal, curve, say)
    replicas = desk.search(demand, desk.least(demand), desk.guess(demand))
    figures = desk.figures(demand, replicas)
    double = demand.times(2.0)
    say("one machine less, and twice the demand")
    doubled = desk.figures(double, replicas, min(_FEW, effort.runs))
    return Plan(
        profile=profile,
        demand=demand,
        goal=goal,
        per_machine_s=desk.per_machine_s,
        curve=curve,
        figures=figures,
        headroom=desk.headroom(demand, replicas),
        without_one=desk.without_one(demand, replicas) if replicas > 1 else None,
        doubled=doubled,
        for_double=desk.for_double(double, replicas, doubled),
        tried=tuple(sorted(desk.tried(demand), key=lambda each: each.replicas)),
        formula_wait_s=formula_wait_s(profile, demand, replicas),
        by_hour=_by_hour(demand, replicas),
    )


def throughput(
    profile: Profile, demand: Demand, house: House | None = None, effort: Effort | None = None
) -> tuple[tuple[int, float, float], ...]:
    """Return what one machine does with recordings of the demand's lengths, by callers at once.

    Each row has the callers, the seconds of audio a second, and the median turnaround in seconds.
    """
    house, effort = house or House(), effort or Effort()
    rows = []
    for callers in CONCURRENCY:
        crowd = replace(demand, callers=callers, think_s=0.0, per_hour=None, by_hour=())
        span = _span(profile, crowd, replace(effort, share=effort.share / 4))
        # Jobs that wait for a slot keep their callers waiting too: a crowd of jobs needs no more callers than slots.
        run = simulate(Fleet(profile, 1, house), crowd, span, effort.seed)
        times = sorted(sample.turnaround_s for sample in run.samples if not sample.refused)
        rows.append((callers, run.audio_s_per_s, quantile(times, 0.5) if times else math.inf))
    return tuple(rows)


def evaluate(fleet: Fleet, demand: Demand, effort: Effort, dies_at: float | None = None) -> Figures:
    """Return what so many machines do with a demand; with ``dies_at`` after one died at that share of the run."""
    span = _span(fleet.profile, demand, effort)
    if dies_at is not None:
        span = replace(span, dies_at=round(dies_at * span.requests))
    runs = [simulate(fleet, demand, span, effort.seed + n) for n in range(effort.runs)]
    broken = sum(run.broken for run in runs) / len(runs)
    for run in runs:
        first = span.dies_at or 0
        run.samples = [sample for sample in run.samples if sample.number >= first and not sample.broken]
    return _figures(fleet.replicas, runs, broken)


def formula_wait_s(profile: Profile, demand: Demand, replicas: int) -> float | None:
    """Return the mean wait by the formula of M/G/c, every window by itself; ``None`` where callers wait for answers.

    It knows no batches, no lanes and one queue for all machines; it is infinite where one by one would never do.
    """
    if demand.per_hour is None:
        return None
    values, weights = list[float](), list[float]()
    jobs = demand.job_lengths or demand.lengths
    for lengths, share in ((demand.lengths, 1.0 - demand.job_share), (jobs, demand.job_share)):
        values += [profile.engine_s(length_s) for length_s in lengths.values_s]
        weights += [share * weight / sum(lengths.weights) for weight in lengths.weights]
    mean_s, variation = theory.moments(values, weights)
    return theory.mgc_wait_s(demand.per_hour / 3600.0, mean_s, max(0.0, variation), replicas)


class _Desk:
    """Works the answers out, each number of machines once."""

    def __init__(
        self,
        profile: Profile,
        house: House,
        effort: Effort,
        goal: Goal,
        curve: Sequence[tuple[int, float, float]],
        say: Callable[[str], None],
    ) -> None:
        self.profile, self.house, self.effort, self.goal = profile, house, effort, goal
        self.curve, self.say = curve, say
        self.per_machine_s = max(rate for _, rate, _ in curve)
        self._known: dict[tuple[Demand, int, int], Figures] = {}

    def figures(self, demand: Demand, replicas: int, runs: int | None = None) -> Figures:
        effort = replace(self.effort, runs=runs or self.effort.runs)
        key = (demand, replicas, effort.runs)
        if key not in self._known:
            self._known[key] = evaluate(Fleet(self.profile, replicas, self.house), demand, effort)
        return self._known[key]

    def tried(self, demand: Demand) -> list[Figures]:
        """Return the figures of every number of machines that was looked at, the best known of each."""
        best: dict[int, tuple[int, Figures]] = {}
        for (asked, replicas, runs), figures in self._known.items():
            if asked == demand and runs >= best.get(replicas, (0, figures))[0]:
                best[replicas] = (runs, figures)
        return [figures for _, figures in best.values()]

    def least(self, demand: Demand) -> int:
        """Return the fewest machines that have the headroom."""
        asked = demand.audio_s_per_s
        if asked is None:
            return 1
        return max(1, math.ceil(asked / (self.per_machine_s * (1.0 - self.goal.headroom)) - 1e-9))

    def headroom(self, demand: Demand, replicas: int) -> float | None:
        asked = demand.audio_s_per_s
        return None if asked is None else 1.0 - asked / (self.per_machine_s * replicas)

    def fits(self, demand: Demand, replicas: int) -> bool:
        """Whether so many machines meet the goal; callers at once may be more by the headroom."""
        asked = demand if demand.is_open else demand.times(1.0 / (1.0 - self.goal.headroom))
        self.say(f"{replicas} machine{'s' * (replicas != 1)}")
        return not self.figures(asked, replicas, min(2, self.effort.runs)).misses(self.goal)

    def search(self, demand: Demand, least: int, guess: int) -> int:
        """Return the smallest number of machines that will do, from ``least`` on; the search begins at ``guess``.

        Raises ``InvalidRequest``.
        """
        if least > MAX_REPLICAS:
            raise InvalidRequest(
                f"This takes at least {least} machines; {MAX_REPLICAS} are the most that are planned for.",
                remedy="Plan for a part of the demand and multiply.",
            )
        low, high = least - 1, min(MAX_REPLICAS, max(least, guess))
        step = 1
        while not self.fits(demand, high):
            if high == MAX_REPLICAS or self._is_hopeless(demand, high):
                raise self._never(demand, high)
            low, high, step = high, min(MAX_REPLICAS, high + step), step * 2
        step = 1
        while high - low > 1:  # A good guess is nearly right: look close by first.
            middle = max((low + high) // 2, high - step)
            low, high = (low, middle) if self.fits(demand, middle) else (middle, high)
            step *= 2
        return high

    def guess(self, demand: Demand) -> int:
        """Return about how many machines callers at once take, by what one does with so many of them."""
        if demand.callers is None:
            return 1
        callers = demand.callers / (1.0 - self.goal.headroom)
        alone_s = self.profile.alone_s(demand.mean_s)
        limits = [self.goal.turnaround_p95_s, alone_s + (self.goal.wait_p95_s or 0.0) if self.goal.wait_p95_s else None]
        limit_s = min((limit for limit in limits if limit is not None), default=alone_s * 4.0)
        within = [here for here, _, turnaround_s in self.curve if turnaround_s <= limit_s]
        share = max(within, default=1) * (1.0 + demand.think_s / limit_s)
        return max(1, math.ceil(callers / share))

    def _is_hopeless(self, demand: Demand, replicas: int) -> bool:
        """Whether machines in plenty would not help: a request takes too long even by itself."""
        limit_s = self.goal.turnaround_p95_s
        lengths = demand.lengths
        total, seen = sum(lengths.weights), 0.0
        for value, weight in sorted(zip(lengths.values_s, lengths.weights, strict=True)):
            seen += weight / total
            if seen >= 0.95:
                return limit_s is not None and replicas > 1 and self.profile.alone_s(value) > 2.0 * limit_s
        return False

    def _never(self, demand: Demand, replicas: int) -> InvalidRequest:
        asked = demand if demand.is_open else demand.times(1.0 / (1.0 - self.goal.headroom))
        misses = "; ".join(self.figures(asked, replicas, min(2, self.effort.runs)).misses(self.goal))
        return InvalidRequest(
            f"The goal is not met by {replicas} machines: {misses}.",
            remedy="Allow more time, a faster machine, a smaller model, or shorter files.",
        )

    def without_one(self, demand: Demand, replicas: int) -> Figures:
        few = replace(self.effort, runs=min(_FEW, self.effort.runs))
        return evaluate(Fleet(self.profile, replicas, self.house), demand, few, dies_at=0.3)

    def for_double(self, double: Demand, replicas: int, doubled: Figures) -> int | None:
        """Return how many machines twice the demand takes; ``None`` where none are enough."""
        if not doubled.misses(self.goal) and self.least(double) <= replicas:
            return replicas
        try:
            return self.search(double, max(self.least(double), replicas + 1), 2 * replicas)
        except InvalidRequest:
            return None


def _span(profile: Profile, demand: Demand, effort: Effort) -> Span:
    """Return how many requests a run has, so that long recordings do not make it long."""
    windows = _mean_windows(profile, demand)
    requests = round(effort.share * min(_MOST_REQUESTS, max(_LEAST_REQUESTS, _WINDOWS / windows)))
    crowd = 2 * (demand.callers or 0)
    return Span(requests=max(20, requests, crowd), warm_up=max(10, requests // 8, crowd))


def _mean_windows(profile: Profile, demand: Demand) -> float:
    def mean(lengths_s: Sequence[float], weights: Sequence[float]) -> float:
        numbers = [len(profile.windows_of(length_s)) for length_s in lengths_s]
        return sum(n * w for n, w in zip(numbers, weights, strict=True)) / sum(weights)

    jobs = demand.job_lengths or demand.lengths
    return demand.job_share * mean(jobs.values_s, jobs.weights) + (1.0 - demand.job_share) * mean(
        demand.lengths.values_s, demand.lengths.weights
    )


def _figures(replicas: int, runs: Sequence[Outcome], broken: float) -> Figures:
    return Figures(
        replicas=replicas,
        wait_s=percentiles(runs, lambda sample: sample.wait_s, jobs=False),
        turnaround_s=percentiles(runs, lambda sample: sample.turnaround_s, jobs=False),
        job_turnaround_s=percentiles(runs, lambda sample: sample.turnaround_s, jobs=True),
        audio_s_per_s=Estimate.of([run.audio_s_per_s for run in runs]),
        utilisation=Estimate.of([min(1.0, run.utilisation) for run in runs]),
        windows_a_batch=sum(run.windows_a_batch for run in runs) / len(runs),
        refused_share=sum(run.refused_share for run in runs) / len(runs),
        broken=broken,
    )


def _by_hour(demand: Demand, replicas: int) -> tuple[int, ...]:
    """Return the machines that each hour of a day needs, in proportion to the busiest one."""
    busiest = max(demand.by_hour, default=0.0)
    share = partial(max, 1)
    return (
        tuple(share(math.ceil(replicas * requests / busiest - 1e-9)) for requests in demand.by_hour) if busiest else ()
    )


def _is_within(estimate: Estimate, limit_s: float) -> bool:
    return estimate.value is not None and estimate.value <= limit_s


def _value(values: dict[str, Estimate]) -> str:
    found = values["p95"].value
    return "without end" if found is None else f"{found:.2f} s"
