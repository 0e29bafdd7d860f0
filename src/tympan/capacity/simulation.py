"""A demand meets machines, in simulated time: one run from one seed."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tympan.batching.queue import Origin
from tympan.capacity.agenda import Agenda
from tympan.capacity.demand import Demand, Lengths
from tympan.capacity.outcome import Outcome, Sample
from tympan.capacity.profile import Profile
from tympan.capacity.replica import Engine, Hands, House, Visit, feed
from tympan.domain import Lane

TENANT = "default"
LONG_AUDIO_S = 120.0
_SHED_SHORT, _SHED_LONG = 0.95, 0.80
_LONGEST_RUN_S = 2_000_000.0
_TAIL_S = 900.0


@dataclass(frozen=True, slots=True)
class Span:
    """How much of a run is watched: so many requests, after so many that do not count.

    ``dies_at`` is the number of requests watched after which one machine dies; what counts comes afterwards.
    """

    requests: int = 1_000
    warm_up: int = 100
    dies_at: int | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many equal machines, set alike."""

    profile: Profile
    replicas: int = 1
    house: House = field(default_factory=House)


@dataclass(frozen=True, slots=True)
class Came:
    """A request of a load that was drawn beforehand: when it comes, its audio, and the windows that it becomes."""

    at_s: float
    audio_s: float
    windows_s: tuple[float, ...] = ()


def replay(fleet: Fleet, load: Sequence[Came], seed: int = 1) -> Outcome:
    """Return what comes of a load that was drawn beforehand, as `tympan bench load` draws it; all of it counts."""
    mean_s = sum(came.audio_s for came in load) / len(load)
    demand = Demand(Lengths((mean_s,)), per_hour=1.0)
    return _Run(fleet, demand, Span(requests=len(load) + 1, warm_up=0), seed).replayed(load)


def simulate(fleet: Fleet, demand: Demand, span: Span, seed: int = 1) -> Outcome:
    """Return what came of one run; the same for the same seed."""
    return _Run(fleet, demand, span, seed).outcome()


@dataclass(slots=True, eq=False)
class _Job:
    sample: Sample
    left: int


class _Machine:
    """One machine: its engine, who works beside it, and who is in the house."""

    def __init__(self, agenda: Agenda, fleet: Fleet, rng: Random) -> None:
        self.engine = Engine(agenda, fleet.profile, fleet.house, rng)
        self.hands = Hands(agenda, self.engine, fleet.profile)
        self.inside: dict[int, Sample] = {}
        self.threads: deque[Sample] = deque()
        self.running = 0
        self.sections: list[tuple[_Job, float]] = []
        self.slots = fleet.house.job_slots
        self.alive = True

    @property
    def crowd(self) -> tuple[int, int]:
        """How busy it is, for whoever chooses between machines."""
        return len(self.inside), self.running


class _Run:
    def __init__(self, fleet: Fleet, demand: Demand, span: Span, seed: int) -> None:
        self.fleet, self.demand, self.span = fleet, demand, span
        self.agenda, self.rng = Agenda(), Random(seed)  # noqa: S311 (repeatable, not secret)
        self.machines = [_Machine(self.agenda, fleet, Random(seed * 7919 + n)) for n in range(fleet.replicas)]  # noqa: S311
        self.found = Outcome(replicas=fleet.replicas)
        self.numbers = 0
        self.open = 0
        self.board: deque[tuple[_Job, float]] = deque()
        self.mean_engine_s = fleet.profile.engine_s(10.0) / 10.0
        self.began_s: float | None = None
        self.ended_s: float | None = None
        self.busy_before = (0.0, 0, 0)

    # The demand.

    def outcome(self) -> Outcome:
        """Run, and return what came of it."""
        if self.demand.is_open:
            self._arrive()
        else:
            for _ in range(self.demand.callers or 1):
                # Callers do not all begin at one moment: that would be a load of its own.
                self.agenda.at(self.rng.random() * max(1.0, self.demand.think_s), self._send)
        self.agenda.run_until(_LONGEST_RUN_S, lambda: self.ended_s is not None)
        if self.ended_s is None:
            self._end_watch()
        self.agenda.run_until(self.agenda.now_s + _TAIL_S + 20.0 * self.demand.mean_s, lambda: not self.open)
        return self.found

    def replayed(self, load: Sequence[Came]) -> Outcome:
        """Run with requests that come when they are said to, and return what came of it."""
        self._begin_watch()
        for number, came in enumerate(load):
            sample = Sample(number, is_job=False, audio_s=came.audio_s, came_s=came.at_s, windows_s=came.windows_s)
            self.open += 1
            self.found.samples.append(sample)
            self.agenda.at(came.at_s, partial(self._call, sample))
        self.agenda.run_until(_LONGEST_RUN_S, lambda: not self.open)
        self._end_watch()
        return self.found

    def _arrive(self) -> None:
        rate_per_s = (self.demand.per_hour or 0.0) / 3600.0
        self.agenda.after(self.rng.expovariate(rate_per_s), self._arrive)
        self._send()

    def _send(self) -> None:
        is_job, audio_s = self.demand.draw(self.rng)
        number = self.numbers - self.span.warm_up
        self.numbers += 1
        sample = Sample(number, is_job, audio_s, self.agenda.now_s)
        if number == 0:
            self._begin_watch()
        if self.span.dies_at is not None and number == self.span.dies_at:
            self._kill()
        if number >= self.span.requests:
            self._end_watch()
        elif number >= 0:
            self.open += 1
            self.found.samples.append(sample)
        if is_job:
            self._submit(sample)
        else:
            self._call(sample)

    def _begin_watch(self) -> None:
        self.began_s = self.agenda.now_s
        self.busy_before = self._work()

    def _work(self) -> tuple[float, int, int]:
        engines = [machine.engine for machine in self.machines]
        return sum(e.busy_s for e in engines), sum(e.batches for e in engines), sum(e.windows for e in engines)

    def _end_watch(self) -> None:
        if self.ended_s is not None or self.began_s is None:
            return
        self.ended_s = self.agenda.now_s
        busy_s, batches, windows = self._work()
        self.found.span_s = self.ended_s - self.began_s
        self.found.busy_s = busy_s - self.busy_before[0]
        self.found.batches = batches - self.busy_before[1]
        self.found.windows = windows - self.busy_before[2]

    def _finish(self, sample: Sample, *, refused: bool = False, broken: bool = False) -> None:
        """A request is over; its caller, if there is one who waits, sends the next."""
        if not (refused or broken):
            sample.done_s = self.agenda.now_s
            if self.began_s is not None and self.ended_s is None:
                self.found.audio_s += sample.audio_s
        sample.refused, sample.broken = refused, broken
        self.open -= 0 <= sample.number < self.span.requests
        if not self.demand.is_open:
            pause_s = 1.0 if refused or broken else 0.0
            self.agenda.after(pause_s + self.demand.think_s, self._send)

    # Synchronous requests: one machine each, the one with the fewest in the house.

    def _alive(self) -> list[_Machine]:
        return [machine for machine in self.machines if machine.alive]

    def _call(self, sample: Sample) -> None:
        machines = self._alive()
        machine = min(machines, key=lambda each: (each.crowd, self.rng.random())) if machines else None
        if machine is None or self._is_refused(machine, sample):
            self._finish(sample, refused=True)
            return
        machine.inside[id(sample)] = sample
        if machine.running < self.fleet.house.max_concurrent:
            self._begin(machine, sample)
        else:
            machine.threads.append(sample)

    def _is_refused(self, machine: _Machine, sample: Sample) -> bool:
        """Admit as ``api.doors`` does: by places, and by the work in the house, long files counted in part."""
        house = self.fleet.house
        if len(machine.inside) >= house.max_requests:
            return True
        most_s = max(sample.audio_s, LONG_AUDIO_S)
        ahead_s = sum(min(each.audio_s, most_s) for each in machine.inside.values()) * self.mean_engine_s
        return ahead_s >= house.max_wait_s * (_SHED_LONG if sample.audio_s > LONG_AUDIO_S else _SHED_SHORT)

    def _begin(self, machine: _Machine, sample: Sample) -> None:
        machine.running += 1
        profile = self.fleet.profile
        lengths_s = sample.windows_s or profile.windows_of(sample.audio_s)
        work_s = _preparation(profile, sample.audio_s, len(lengths_s))
        sample.own_s = work_s[0] if len(work_s) < Visit.GATHERED else sum(work_s[: Visit.GATHERED])
        origin = Origin(f"r{sample.number}", TENANT, Lane.INTERACTIVE)
        done = partial(self._answered, machine, sample)
        visit = Visit(machine.engine, self.agenda, origin, partial(self._note_begin, sample), done)
        feed(visit, machine.hands, work_s, lengths_s)

    def _note_begin(self, sample: Sample) -> None:
        sample.began_s = min(sample.began_s, self.agenda.now_s)

    def _answered(self, machine: _Machine, sample: Sample) -> None:
        if not machine.alive:
            return
        del machine.inside[id(sample)]
        machine.running -= 1
        self._finish(sample)
        if machine.threads:
            self._begin(machine, machine.threads.popleft())

    # Jobs: sections, each of which any machine with a free slot takes.

    def _submit(self, sample: Sample) -> None:
        section_s = self.fleet.house.section_s
        n = max(1, math.ceil(sample.audio_s / section_s - 1e-9))
        sections = (section_s,) * (n - 1) + (sample.audio_s - section_s * (n - 1),)
        job = _Job(sample, n)
        sample.own_s = self.fleet.profile.door.seconds(min(section_s, sample.audio_s), first=True)
        self.board.extend((job, length_s) for length_s in sections)
        self._share_out()

    def _share_out(self) -> None:
        while self.board:
            free = [machine for machine in self._alive() if machine.slots]
            if not free:
                return
            machine = min(free, key=lambda each: (-each.slots, each.crowd, self.rng.random()))
            self._take(machine, *self.board.popleft())

    def _take(self, machine: _Machine, job: _Job, section_s: float) -> None:
        machine.slots -= 1
        machine.sections.append((job, section_s))
        profile = self.fleet.profile
        lengths_s = profile.windows_of(section_s)
        work_s = _preparation(profile, section_s, len(lengths_s))
        origin = Origin(f"j{id(job)}", TENANT, Lane.BATCH)
        done = partial(self._section_done, machine, job, section_s)
        visit = Visit(machine.engine, self.agenda, origin, partial(self._note_begin, job.sample), done)
        feed(visit, machine.hands, work_s, lengths_s)

    def _section_done(self, machine: _Machine, job: _Job, section_s: float) -> None:
        if not machine.alive:
            return
        machine.slots += 1
        machine.sections.remove((job, section_s))
        job.left -= 1
        if not job.left:
            self._finish(job.sample)
        self._share_out()

    # A machine dies.

    def _kill(self) -> None:
        """The busiest machine is gone: its callers' connections break, its sections come back after a while."""
        machine = max(self._alive(), key=lambda each: each.crowd)
        machine.alive = False
        for sample in list(machine.inside.values()):
            self._finish(sample, broken=True)
        machine.inside.clear()
        self.agenda.after(self.fleet.house.recovery_s, lambda: self._take_back(machine.sections))

    def _take_back(self, sections: Sequence[tuple[_Job, float]]) -> None:
        self.board.extendleft(sections)
        self._share_out()


def _preparation(profile: Profile, audio_s: float, n_windows: int) -> Sequence[float]:
    """Return the seconds of work before each window of a recording."""
    part_s = audio_s / n_windows
    return tuple(profile.door.seconds(part_s, first=index == 0) for index in range(n_windows))
