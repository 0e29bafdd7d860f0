"""A machine's profile: batches timed in the engine, requests timed through a server, the simulation fitted to both."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tympan.batching.host import HostOptions
from tympan.bench.arrivals import End
from tympan.bench.client import Item, Target
from tympan.bench.stats import quantile
from tympan.capacity import serving
from tympan.capacity.demand import Demand, Lengths
from tympan.capacity.fitting import Timed, fitted, line, ratios
from tympan.capacity.measuring import Grid, measure_batches, middle_ms
from tympan.capacity.profile import BatchCost, Door, Profile
from tympan.capacity.replica import House
from tympan.capacity.simulation import Fleet, Span, simulate
from tympan.domain import Samples
from tympan.engine.base import EngineInfo, EngineSpec

ALONE, CROWD = 1, 8
"""Callers at once while requests are timed: one by one, and as many as keep an engine busy."""

_CONTENTIONS = (0.0, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0)
_LEAST_REQUESTS, _MOST_REQUESTS = 6, 60


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording that is sent, and the lengths in seconds of the windows that it becomes."""

    item: Item
    windows_s: tuple[float, ...]

    @property
    def speech_share(self) -> float:
        """How much of it reaches the engine."""
        return min(1.0, sum(self.windows_s) / self.item.duration_s)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: an engine, a server with it, and speech. ``cores`` is how many processors there are.

    ``clips`` are two of different lengths, each a single window; ``share_s`` are seconds of speech and of audio of
    recordings as they really are.
    """

    name: str
    spec: EngineSpec
    host: HostOptions
    environment: Mapping[str, str]
    folder: Path
    speech: Samples
    clips: tuple[Clip, ...]
    speech_share: float
    cores: int
    fields: tuple[tuple[str, str], ...] = ()
    origin: Mapping[str, Any] | None = None


def measure(
    subject: Subject, grid: Grid, say: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> Profile:
    """Return the profile of this machine. Raises what loading, serving and transcribing raise, and ``Cancelled``."""
    say("timing batches in the engine")
    info, batches = measure_batches(subject.spec, subject.host, subject.speech, grid, stop)
    cost = fitted(batches)
    say("timing requests through a server")
    with serving.server(subject.environment, subject.folder, stop) as url:
        loads = _Loads(subject, cost, Target(url, fields=subject.fields), grid.limit_s, stop)
        door = loads.door()
        crowds = [
            loads.crowd(clip, users) for clip, users in ((subject.clips[0], CROWD), (subject.clips[1], CROWD // 2))
        ]
    say("fitting the simulation to them")
    profile = _profile(subject, info, batches, door)
    contention = calibrated(profile, crowds, subject.clips)
    profile = replace(profile, door=replace(door, contention=contention))
    seen = tuple(_compared(profile, crowd, clip) for crowd, clip in zip(crowds, subject.clips, strict=True))
    return replace(profile, measured=(*middle_ms(batches), *seen))


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a server did for so many callers at once, each with one recording: seconds of audio a second, p50."""

    users: int
    audio_s: float
    audio_s_per_s: float
    p50_s: float


@dataclass(frozen=True, slots=True)
class _Loads:
    subject: Subject
    cost: BatchCost
    target: Target
    limit_s: float
    stop: Callable[[], bool]

    def door(self) -> Door:
        """Return what a request costs beside the engine: what is left of its latency when it comes alone."""
        points = []
        for clip in self.subject.clips:
            found = serving.put_load(self.target, ALONE, clip.item, self._end(clip, 0.12, 3), self.stop)
            latency_s = quantile([sample.latency_s or 0.0 for sample in found.samples], 0.5)
            points.append((clip.item.duration_s, 1000.0 * latency_s - self._alone_ms(clip)))
        request_ms, audio_ms = line(points)
        return Door(round(request_ms, 3), round(audio_ms, 4), self.subject.cores)

    def crowd(self, clip: Clip, users: int) -> Crowd:
        """Return what the server does for so many callers at once."""
        found = serving.put_load(self.target, users, clip.item, self._end(clip, 0.3, 3 * users), self.stop)
        latency_s = quantile([sample.latency_s or 0.0 for sample in found.samples], 0.5)
        # The last answers come from a crowd that is already going: the middle of the run is what counts.
        rate = steady_rate([(sample.due_s + (sample.latency_s or 0.0)) for sample in found.samples], users)
        return Crowd(users, clip.item.duration_s, rate * clip.item.duration_s, latency_s)

    def _alone_ms(self, clip: Clip) -> float:
        return sum(self.cost.ms([length_s]) for length_s in clip.windows_s)

    def _end(self, clip: Clip, share: float, least: int) -> End:
        """Return when it is enough: after so many requests, on a busy machine after twice the time meant for them."""
        each_s = self._alone_ms(clip) / 1000.0 + 0.02
        requests = int(min(_MOST_REQUESTS, max(_LEAST_REQUESTS, least, share * self.limit_s / each_s)))
        return End(requests, max(2.0 * share * self.limit_s, 2.0 * least * each_s))


def steady_rate(ends_s: Sequence[float], users: int) -> float:
    """Return answers a second, between the first ``users`` answers and the last ones."""
    ordered = sorted(ends_s)
    first, last = min(users, len(ordered) // 3), max(len(ordered) - users, 2 * len(ordered) // 3)
    return (last - first) / max(1e-6, ordered[last] - ordered[first])


def _profile(subject: Subject, info: EngineInfo, batches: Sequence[Timed], door: Door) -> Profile:
    cost = fitted(batches)
    return Profile(
        name=subject.name,
        cost=cost,
        door=door,
        ratios=ratios(cost, batches),
        speech_share=subject.speech_share,
        model=info.model,
        engine=info.engine,
        device=info.device,
        compute_type=info.compute_type,
        threads=info.threads,
        origin=dict(subject.origin or {}),
    )


def simulated(profile: Profile, users: int, clip: Clip) -> tuple[float, float]:
    """Return seconds of audio a second and the median turnaround in the simulation, for one recording."""
    own = replace(profile, speech_share=clip.speech_share)
    demand = Demand(Lengths((clip.item.duration_s,)), callers=users)
    run = simulate(Fleet(own, 1, House()), demand, Span(requests=80, warm_up=3 * users))
    return run.audio_s_per_s, quantile(run.times(lambda sample: sample.turnaround_s, jobs=False), 0.5)


def calibrated(profile: Profile, crowds: Sequence["Crowd"], clips: Sequence[Clip]) -> float:
    """Return the contention with which the simulation does about as much as the server did for each crowd."""

    def miss(contention: float) -> float:
        door = replace(profile.door, contention=contention)
        rates = [
            simulated(replace(profile, door=door), c.users, clip)[0] for c, clip in zip(crowds, clips, strict=True)
        ]
        return sum(math.log(rate / crowd.audio_s_per_s) ** 2 for rate, crowd in zip(rates, crowds, strict=True))

    return min(_CONTENTIONS, key=miss)


def _compared(profile: Profile, crowd: Crowd, clip: Clip) -> dict[str, float]:
    """Return a measured load beside the simulated one, for people."""
    rate, p50_s = simulated(profile, crowd.users, clip)
    return {
        "concurrency": crowd.users,
        "length_s": crowd.audio_s,
        "audio_s_per_s": round(crowd.audio_s_per_s, 3),
        "p50_s": round(crowd.p50_s, 4),
        "simulated_audio_s_per_s": round(rate, 3),
        "simulated_p50_s": round(p50_s, 4),
    }
