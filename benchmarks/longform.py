"""Long files, one at a time: HTTP against faster-whisper's batched pipeline, file by file in turns."""

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.accuracy import compare, counts_of
from benchmarks.contenders import Contender, Job, Outcome
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, Steps, say, write_result
from tympan.bench.facts import cores

BATCH = 8
SPEED_GOAL = 2.0
ERROR_GOAL_POINTS = 0.2
QUICK_FILES = 2

Runs = dict[str, list[Outcome]]


def run(setup: Setup, *, beams: Sequence[int] = (1, 5), pairs: int = 3) -> Path:
    """Measure at each beam width, write ``longform.json`` and return its path."""
    clips = setup.clips("b_longform")
    if setup.quick:
        clips = sorted(clips, key=lambda clip: clip.duration_s)[:QUICK_FILES]
    steps = setup.steps("longform", f"clips={len(clips)}")
    with setup.server("longform") as http, setup.baseline() as baseline:
        contenders = (http, baseline)
        rows = [_row(clips, *_measure(steps, contenders, clips, beam, pairs), beam) for beam in beams]
    payload = {
        "model": setup.model_facts(),
        "set": "b_longform",
        "licences": licences(clips),
        "audio_s": round(sum(clip.duration_s for clip in clips), 1),
        "baseline": f"BatchedInferencePipeline, batch_size={BATCH}, {cores()} threads",
        "pairs": pairs,
        "rows": rows,
    }
    return write_result(setup.results, "longform", payload, checks(rows))


def checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Compare speed and errors with their goals."""
    out = []
    for row in rows:
        name, ratio = f"long files, beam {row['beam']}", row["ratio"]
        points = row["errors"]["difference"]["difference_points"]
        out.append(Check(f"{name}: speed", f">= {SPEED_GOAL:g}x batched", f"{ratio:.2f}x", ratio >= SPEED_GOAL))
        text, met = f"{points:+.2f} points", points <= ERROR_GOAL_POINTS
        out.append(Check(f"{name}: word errors", f"<= +{ERROR_GOAL_POINTS} points", text, met))
    return out


def _measure(
    steps: Steps, contenders: tuple[Contender, Contender], clips: Sequence[Clip], beam: int, pairs: int
) -> tuple[Runs, Runs]:
    (http, baseline), variant = contenders, f"{cores()}x1-batched{BATCH}"
    ours: Runs = {clip.id: [] for clip in clips}
    bare: Runs = {clip.id: [] for clip in clips}
    shortest = min(clips, key=lambda clip: clip.duration_s)
    for contender in contenders:
        contender.run(Job.of([shortest], beam=beam, variant=variant))
    for n in range(pairs):
        for clip in clips:
            job = Job.of([clip], beam=beam, variant=variant)
            key = f"beam {beam}, pass {n}, {clip.id}"
            ours[clip.id].append(steps.outcome(f"{key}, http", partial(http.run, job)))
            bare[clip.id].append(steps.outcome(f"{key}, batched", partial(baseline.run, job)))
    return ours, bare


def _row(clips: Sequence[Clip], ours: Runs, bare: Runs, beam: int) -> dict[str, Any]:
    passes = range(len(ours[clips[0].id]))
    ratios = [_total(bare, n) / _total(ours, n) for n in passes]
    texts = {key: runs[0].texts[key] for key, runs in ours.items()}
    others = {key: runs[0].texts[key] for key, runs in bare.items()}
    audio_s = sum(clip.duration_s for clip in clips)
    row = {
        "beam": beam,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "rate": {
            "http": round(audio_s / statistics.median(_total(ours, n) for n in passes), 3),
            "batched": round(audio_s / statistics.median(_total(bare, n) for n in passes), 3),
        },
        "errors": compare(clips, texts, others),
        "files": _files(clips, ours, bare, texts, others),
    }
    say(f"beam {beam}: {row['ratio']:.2f}x the batched pipeline")
    return row


def _files(
    clips: Sequence[Clip], ours: Runs, bare: Runs, texts: dict[str, str], others: dict[str, str]
) -> list[dict[str, Any]]:
    mine, theirs = counts_of(clips, texts), counts_of(clips, others)
    return [
        {
            "id": clip.id,
            "duration_s": clip.duration_s,
            "language": clip.language,
            "ratio": round(_median_ratio(bare[clip.id], ours[clip.id]), 3),
            "tympan": a.as_dict(),
            "batched": b.as_dict(),
        }
        for clip, a, b in zip(clips, mine, theirs, strict=True)
    ]


def _total(runs: Runs, n: int) -> float:
    return sum(outcomes[n].wall_s for outcomes in runs.values())


def _median_ratio(bare: Sequence[Outcome], ours: Sequence[Outcome]) -> float:
    return statistics.median(b.wall_s / a.wall_s for a, b in zip(ours, bare, strict=True))
