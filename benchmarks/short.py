"""Many short clips at once: HTTP against bare faster-whisper, and HTTP against the engine loop without it."""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, Job, Outcome
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup, throughput
from benchmarks.store import Check, Steps, say, write_result
from tympan.bench.facts import cores
from tympan.bench.stats import quantile

SHORTEST_S, LONGEST_S = 3.0, 15.0
PREFERRED_SOURCE = "ls"
CALIBRATION_CLIPS = 12
HTTP_SHARE_GOAL = 0.95


@dataclass(frozen=True, slots=True)
class Plan:
    """What the sub-benchmark runs: how many clips, users at a time, beam widths, timed pairs."""

    clips: int = 32
    concurrency: tuple[int, ...] = (1, 8, 32)
    beams: tuple[int, ...] = (1, 5)
    pairs: int = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """The contenders, the clips and the memory of what is done."""

    http: Contender
    loop: Contender
    baseline: Contender
    clips: list[Clip]
    steps: Steps
    pairs: int


def pick(clips: Sequence[Clip], n: int) -> list[Clip]:
    """Return ``n`` clips of 3 to 15 s in the set's order, LibriSpeech's first; fewer when the set has fewer."""
    fitting = [clip for clip in clips if SHORTEST_S <= clip.duration_s <= LONGEST_S and clip.language == "en"]
    return sorted(fitting, key=lambda clip: clip.source != PREFERRED_SOURCE)[:n]


def goal(concurrency: int) -> float:
    """Return the speed-up over faster-whisper that is asked for."""
    return 3.0 if concurrency == 1 else 4.0


def variants(concurrency: int) -> list[str]:
    """Return the shapes of faster-whisper worth trying: all threads for one worker, or a worker for each core."""
    return [f"{cores()}x1"] if concurrency == 1 or cores() == 1 else [f"{cores()}x1", f"1x{cores()}"]


def run(setup: Setup, plan: Plan) -> Path:
    """Measure, write ``short.json`` and return its path."""
    clips = pick(setup.clips("a_english_read"), plan.clips)
    steps = setup.steps("short", f"clips={len(clips)}")
    with ExitStack() as stack:
        http = stack.enter_context(setup.server("short"))
        loop, baseline = stack.enter_context(setup.in_process()), stack.enter_context(setup.baseline())
        stage = Stage(http, loop, baseline, clips, steps, plan.pairs)
        rows = [_measure(stage, beam, c) for beam in plan.beams for c in plan.concurrency]
        plain = _plain(stage, max(plan.concurrency, key=lambda c: (c == 8, c)))
    payload = {
        "model": setup.model_facts(),
        "clips": [clip.id for clip in clips],
        "licences": licences(clips),
        "audio_s": round(sum(clip.duration_s for clip in clips), 2),
        "pairs": plan.pairs,
        "rows": rows,
        "without_timestamps": plain,
    }
    return write_result(setup.results, "short", payload, checks(rows))


def checks(rows: Sequence[dict[str, Any]]) -> list[Check]:
    """Compare each row with its goals; beam 5 against faster-whisper is a stretch and marked so."""
    out = []
    for row in rows:
        c, beam, ratio, share = row["concurrency"], row["beam"], row["ratio"], row["http_share"]
        stretch = "" if beam == 1 else " (stretch)"
        name = f"short clips, c = {c}, beam {beam}"
        out.append(Check(name + stretch, f">= {goal(c):g}x faster-whisper", f"{ratio:.2f}x", ratio >= goal(c)))
        out.append(Check(f"{name}: HTTP", ">= 95 % of the loop", f"{100 * share:.1f} %", share >= HTTP_SHARE_GOAL))
    return out


def _job(clips: Sequence[Clip], beam: int, concurrency: int, variant: str = "") -> Job:
    return Job.of(clips, beam=beam, concurrency=concurrency, variant=variant)


def _measure(stage: Stage, beam: int, c: int) -> dict[str, Any]:
    variant, calibration = _calibrate(stage, beam, c)
    key = f"beam {beam}, c {c}"
    names = [f"{key}, pair {n}, {who}" for n in range(stage.pairs) for who in ("http", "faster-whisper", "loop")]
    if not all(stage.steps.has(name) for name in names):
        _warm_up(stage, beam, c, variant)
    runs: dict[str, list[Outcome]] = {"http": [], "faster-whisper": [], "loop": []}
    for n in range(stage.pairs):
        for who, done in runs.items():
            done.append(_timed(stage, f"{key}, pair {n}, {who}", who, _job(stage.clips, beam, c, variant)))
    row = _row(stage.clips, runs["http"], runs["faster-whisper"], runs["loop"])
    say(f"{key}: {row['ratio']:.2f}x faster-whisper ({variant}), HTTP {100 * row['http_share']:.1f} % of the loop")
    return {"beam": beam, "concurrency": c, "variant": variant, "calibration": calibration, **row}


def _timed(stage: Stage, key: str, who: str, job: Job) -> Outcome:
    contender = {"http": stage.http, "loop": stage.loop, "faster-whisper": stage.baseline}[who]
    return stage.steps.outcome(key, lambda: contender.run(job))


def _calibrate(stage: Stage, beam: int, c: int) -> tuple[str, dict[str, float]]:
    """Find faster-whisper's better shape: the one with the higher throughput on a few of the clips."""
    clips, rates = stage.clips[:CALIBRATION_CLIPS], {}
    names = variants(c)
    if len(names) == 1:
        return names[0], {}
    for variant in names:
        key = f"calibration, beam {beam}, c {c}, {variant}"
        if not stage.steps.has(key):
            stage.baseline.run(_job(clips[:2], beam, 2, variant))
        done = stage.steps.outcome(key, partial(stage.baseline.run, _job(clips, beam, c, variant)), lasting=True)
        rates[variant] = round(throughput(clips, done.wall_s), 3)
    return max(rates, key=lambda name: rates[name]), rates


def _warm_up(stage: Stage, beam: int, c: int, variant: str) -> None:
    few = stage.clips[: max(2, min(c, 8))]
    for contender in (stage.http, stage.loop, stage.baseline):
        contender.run(_job(few, beam, c, variant))


def _plain(stage: Stage, c: int) -> dict[str, Any]:
    """Measure faster-whisper once without timestamp tokens: not its default, but what our text-only answer does."""
    variant = f"{_calibrate(stage, 1, c)[0]}-plain"
    job = _job(stage.clips, 1, c, variant)
    done = stage.steps.outcome(f"without timestamps, c {c}", lambda: stage.baseline.run(job), lasting=True)
    return {"concurrency": c, "beam": 1, "variant": variant, "rate": round(throughput(stage.clips, done.wall_s), 3)}


def _row(
    clips: Sequence[Clip], https: Sequence[Outcome], bares: Sequence[Outcome], loops: Sequence[Outcome]
) -> dict[str, Any]:
    ratios = [bare.wall_s / http.wall_s for http, bare in zip(https, bares, strict=True)]
    shares = [loop.wall_s / http.wall_s for http, loop in zip(https, loops, strict=True)]

    def rate(runs: Sequence[Outcome]) -> float:
        return round(throughput(clips, statistics.median(run.wall_s for run in runs)), 3)

    def latency(runs: Sequence[Outcome]) -> dict[str, float]:
        values = [value for run in runs for value in run.latency_s.values()]
        return {"p50": round(quantile(values, 0.5), 3), "p95": round(quantile(values, 0.95), 3)}

    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "http_share": round(statistics.median(shares), 4),
        "http_shares": [round(share, 4) for share in shares],
        "rate": {"http": rate(https), "faster_whisper": rate(bares), "loop": rate(loops)},
        "latency_s": {"http": latency(https), "faster_whisper": latency(bares)},
    }
