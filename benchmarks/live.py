"""Live speech: how late words come at the pace of speech, how many streams fit, and the text against a file's.

All of it in process, without HTTP: the sessions that a server would open.
"""

import itertools
import statistics
import tempfile
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import counts_of
from benchmarks.live_streams import Delays, Studio, delays, studio, together
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, Steps, say, write_result
from tympan.bench.stats import quantile
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.quality.scoring import paired_bootstrap

PARTIAL_GOAL_S = 1.0
FINAL_GOAL_S = 1.5
ERROR_GOAL_POINTS = 0.5
MEMORY_GOAL_MIB = 1.0
GAP_S = 1.2
AT_ONCE = 6
LATENCY_MODEL = "tiny.en"


@dataclass(frozen=True)
class Plan:
    """What to measure: streams at a time, their length, the models whose text is compared, and minutes of memory."""

    streams: Sequence[int] = (1, 2, 4, 6, 8)
    track_s: float = 45.0
    models: Sequence[str] = ("tiny.en", "base")
    every: int = 1
    memory_min: int = 20
    parts: Sequence[str] = ("latency", "text", "memory")


def run(setup: Setup, plan: Plan) -> Path:
    """Measure what ``plan`` says, write ``live.json`` and return its path."""
    steps = setup.steps("live", f"{plan.track_s} {plan.every} {plan.memory_min}")
    clips = [clip for clip in setup.clips("a_english_read") if clip.language == "en" and clip.reference]
    payload: dict[str, Any] = {"licences": licences(clips), "track_s": plan.track_s, "gap_s": GAP_S}
    checks: list[Check] = []
    if "latency" in plan.parts:
        payload["latency"] = [_latency(steps, clips, n, plan.track_s) for n in plan.streams]
        checks += latency_checks(payload["latency"])
    if "text" in plan.parts:
        sets = _sets(setup, clips, plan.every)
        payload["text"] = [_text(steps, model, name, some) for model in plan.models for name, some in sets.items()]
        checks += [_text_check(row) for row in payload["text"]]
    if "memory" in plan.parts:
        payload["memory"] = steps.value("memory", partial(_memory, setup, plan.memory_min))
        checks.append(_memory_check(payload["memory"]))
    return write_result(setup.results, "live", payload, checks)


def latency_checks(rows: Sequence[dict[str, Any]]) -> list[Check]:
    """Compare the delays of one stream with their goals, and say how many streams keep to them."""
    one = rows[0]
    held = [row["streams"] for row in rows if _keeps(row)]
    name = f"live, {LATENCY_MODEL}, {one['streams']} stream"
    most, tried = max(held, default=0), ", ".join(str(row["streams"]) for row in rows)
    return [
        Check(f"{name}: a word is shown", f"p95 <= {PARTIAL_GOAL_S:g} s", spread_text(one["shown_s"]),
              one["shown_s"]["p95"] <= PARTIAL_GOAL_S),
        Check(f"{name}: final text", f"p95 <= {FINAL_GOAL_S:g} s", spread_text(one["final_s"]),
              one["final_s"]["p95"] <= FINAL_GOAL_S),
        Check(f"live, {LATENCY_MODEL}: streams within both", ">= 1", f"{most} (tried {tried})", most >= 1),
    ]  # fmt: skip


def _keeps(row: dict[str, Any]) -> bool:
    return within(row["shown_s"], PARTIAL_GOAL_S) and within(row["final_s"], FINAL_GOAL_S)


def spread_text(values: dict[str, float]) -> str:
    """Return the median and the 95th percentile in words."""
    return f"median {values['median']:.2f} s, p95 {values['p95']:.2f} s" if values["n"] else "never"


def within(values: dict[str, float], goal_s: float) -> bool:
    """Return whether there was something, and 95 % of it in time."""
    return values["n"] > 0 and values["p95"] <= goal_s


def _latency(steps: Steps, clips: Sequence[Clip], streams: int, track_s: float) -> dict[str, Any]:
    row: dict[str, Any] = steps.value(f"{streams} streams", partial(_measure, clips, streams, track_s))
    say(f"{streams} streams: shown {spread_text(row['shown_s'])}; final {spread_text(row['final_s'])}")
    return row


def _measure(clips: Sequence[Clip], streams: int, track_s: float) -> dict[str, Any]:
    with studio(LATENCY_MODEL) as here, tempfile.TemporaryDirectory() as folder:
        tracks = [track_of(here, clips, n, track_s) for n in range(streams)]
        words = [here.file_words(written(Path(folder) / f"{n}.wav", track), "en") for n, track in enumerate(tracks)]
        played = together(here, tracks, "en")
    found = [delays(seen, said) for (seen, _), said in zip(played, words, strict=True)]
    counts = {name: sum(stats[name] for _, stats in played) for name in played[0][1]}
    return {"streams": streams, **summary(found), "counts": counts}


def summary(found: Sequence[Delays]) -> dict[str, Any]:
    """Return the spread of each kind of delay, and the counts, over several streams."""
    kinds: dict[str, Callable[[Delays], list[float]]] = {
        "shown_s": lambda one: one.shown,
        "stable_s": lambda one: one.stable,
        "final_s": lambda one: one.final,
    }
    spreads = {name: _quantiles([value for one in found for value in pick(one)]) for name, pick in kinds.items()}
    names = ("words", "only_final", "never_shown", "stable_words", "stable_changed")
    return {**spreads, **{name: sum(getattr(one, name) for one in found) for name in names}}


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"median": 0.0, "p95": 0.0, "max": 0.0, "n": 0}
    return {
        "median": round(statistics.median(values), 3),
        "p95": round(quantile(values, 0.95), 3),
        "max": round(max(values), 3),
        "n": len(values),
    }


def track_of(here: Studio, clips: Sequence[Clip], number: int, track_s: float) -> Samples:
    """Return clips with silence between them, other ones for every stream, and a little silence at the end."""
    first = number * 11 % len(clips)
    gap = np.zeros(round(GAP_S * SAMPLE_RATE_HZ), dtype=np.int16)
    parts: list[Samples] = []
    for clip in itertools.islice(itertools.cycle(clips), first, None):
        parts += [here.pcm(clip.path), gap]
        if sum(map(len, parts)) >= track_s * SAMPLE_RATE_HZ:
            return np.concatenate(parts)
    raise AssertionError("a cycle does not end")


def written(path: Path, samples: Samples) -> Path:
    """Write ``samples`` as WAV and return ``path``."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())
    return path


def _sets(setup: Setup, read: Sequence[Clip], every: int) -> dict[str, list[Clip]]:
    """Return the sets whose text is compared: read speech, long files, and telephone prompts."""
    long = [clip for clip in setup.clips("b_longform") if clip.language == "en" and clip.reference]
    phone = [clip for clip in setup.clips("e_hard") if clip.source == "ast" and clip.reference]
    named = {"a_english_read": list(read), "b_longform": long, "e_hard, 8 kHz prompts": phone}
    return {name: clips[::every] for name, clips in named.items()}


def _text(steps: Steps, model: str, name: str, clips: Sequence[Clip]) -> dict[str, Any]:
    texts = steps.value(f"text, {model}, {name}", partial(_texts, model, clips))
    live, file = counts_of(clips, texts["live"]), counts_of(clips, texts["file"])
    refs = [str(clip.reference) for clip in clips]
    bootstrap = paired_bootstrap(
        refs, [texts["live"][clip.id] for clip in clips], [texts["file"][clip.id] for clip in clips]
    )
    row = {
        "model": model,
        "set": name,
        "live": sum(live[1:], live[0]).as_dict(),
        "file": sum(file[1:], file[0]).as_dict(),
        "difference_points": round(bootstrap.difference_points, 3),
        "low_points": round(bootstrap.low_points, 3),
        "high_points": round(bootstrap.high_points, 3),
        "utterances": texts["utterances"],
    }
    say(f"{model}, {name}: {row['difference_points']:+.2f} points against the file pipeline")
    return row


def _texts(model: str, clips: Sequence[Clip]) -> dict[str, Any]:
    with studio(model) as here, ThreadPoolExecutor(AT_ONCE) as pool:
        file = dict(zip((clip.id for clip in clips), pool.map(here.file_text, clips), strict=True))
        live = list(pool.map(here.live_text, clips))
    return {
        "file": file,
        "live": {clip.id: text for clip, (text, _) in zip(clips, live, strict=True)},
        "utterances": sum(counts["utterances"] for _, counts in live),
    }


def _text_check(row: dict[str, Any]) -> Check:
    points = row["difference_points"]
    measured = f"{points:+.2f} points [{row['low_points']:+.2f}, {row['high_points']:+.2f}]"
    goal = f"<= +{ERROR_GOAL_POINTS} points"
    name = f"live text against the file's, {row['model']}, {row['set']}"
    return Check(name, goal, measured, points <= ERROR_GOAL_POINTS)


def _memory(setup: Setup, minutes: int) -> dict[str, Any]:
    """Feed one session for ``minutes`` of audio as fast as it goes; return its memory after each quarter of them."""
    clips = [clip for clip in setup.clips("b_longform") if clip.language == "en"]
    every_s = minutes * 60.0 / 4
    with studio(LATENCY_MODEL) as here:
        audio = (here.pcm(clip.path) for clip in itertools.cycle(clips))
        sizes = [round(size, 2) for size in here.memory(audio, minutes * 60.0, every_s)]
    # The first value holds what is loaded once.
    slope = float(np.polyfit(range(len(sizes) - 1), sizes[1:], 1)[0])
    return {"minutes": minutes, "resident_mib": sizes, "mib_per_10_min": round(slope * 600.0 / every_s, 3)}


def _memory_check(row: dict[str, Any]) -> Check:
    slope = row["mib_per_10_min"]
    name = f"live, memory of one session over {row['minutes']} min"
    return Check(name, f"< {MEMORY_GOAL_MIB:g} MiB in 10 min", f"{slope:+.2f} MiB in 10 min", slope < MEMORY_GOAL_MIB)
