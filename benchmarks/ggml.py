"""Word errors of a model in ggml on whisper.cpp, against the same weights on CTranslate2, through the same server."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy import CONCURRENCY, QUICK_CLIPS, Texts, bootstrap_of, counts_of, texts_of
from benchmarks.contenders import REPOSITORY, BenchmarkError, child_environment
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, Steps, write_result
from tympan.quality.scoring import Counts

GOAL_POINTS = 0.3
WITHOUT_GOAL = frozenset({"q4_0"})
"""Reported, but too coarse to be held to anything."""

_BEFORE = {"TYMPAN_ENGINE": "ct2"}


@dataclass(frozen=True, slots=True)
class Plan:
    """Which number formats are heard, with which beams, and whether speech detection is on, off or both."""

    forms: tuple[str, ...] = ("f16", "q8_0", "q5_0", "q4_0")
    beams: tuple[int, ...] = (1,)
    vad: tuple[bool, ...] = (True,)


def run(setup: Setup, plan: Plan) -> Path:
    """Export the model to each format, hear every English clip with it, write ``ggml.json`` and return its path."""
    clips = [clip for clip in setup.clips("a_english_read") if clip.reference is not None]
    if setup.quick:
        clips = clips[:: max(1, len(clips) // QUICK_CLIPS)][:QUICK_CLIPS]
    steps = setup.steps("ggml", f"clips={len(clips)}")
    ways = [(beam, vad) for beam in plan.beams for vad in plan.vad]
    with setup.server("ggml-before", _BEFORE) as http:
        before = {way: _texts(steps, "CTranslate2", http, clips, way) for way in ways}
    rows = []
    for form in plan.forms:
        name = exported(setup, form)
        with setup.server(f"ggml-{form}", {"TYMPAN_MODEL": name.name, "TYMPAN_COMPUTE_TYPE": "auto"}) as http:
            after = {way: _texts(steps, form, http, clips, way) for way in ways}
        size_mb = round(sum(path.stat().st_size for path in name.glob("*.bin")) / 1e6, 1)
        rows += [{"form": form, "size_mb": size_mb, **_row(clips, way, before[way], after[way])} for way in ways]
    payload = {"model": setup.model_facts(), "set": "a_english_read", "licences": licences(clips), "rows": rows}
    return write_result(setup.results, "ggml", payload, [check for row in rows for check in _checks(row)])


def _texts(steps: Steps, who: str, http: Any, clips: Sequence[Clip], way: tuple[int, bool]) -> Texts:
    beam, vad = way
    key = f"{who}, beam {beam}, {'with' if vad else 'without'} speech detection"
    return texts_of(steps, key, http, clips, beam=beam, vad=None if vad else False, concurrency=CONCURRENCY)


def exported(setup: Setup, form: str) -> Path:
    """Export the run's model to ggml with numbers of ``form``; return the folder. Raises ``BenchmarkError``."""
    command = [sys.executable, "-m", "tympan", "models", "export", setup.model, "--to", "ggml", "--quantize", form]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=child_environment(dict(setup.extra)),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
    return Path(done.stdout.strip().splitlines()[-1])


def _row(clips: Sequence[Clip], way: tuple[int, bool], before: Texts, after: Texts) -> dict[str, Any]:
    return {
        "beam": way[0],
        "vad": way[1],
        "before": sum(counts_of(clips, before), Counts()).as_dict(),
        "after": sum(counts_of(clips, after), Counts()).as_dict(),
        "difference": asdict(bootstrap_of(clips, after, before)),
        "texts_equal": sum(before[clip.id] == after[clip.id] for clip in clips),
    }


def _checks(row: Mapping[str, Any]) -> list[Check]:
    if row["form"] in WITHOUT_GOAL:
        return []
    difference = row["difference"]
    points = difference["difference_points"]
    detection = "with" if row["vad"] else "without"
    return [
        Check(
            f"{row['form']} against CTranslate2, beam {row['beam']}, {detection} speech detection",
            f"<= +{GOAL_POINTS} points",
            f"{points:+.2f} points [{difference['low_points']:+.2f}, {difference['high_points']:+.2f}]",
            points <= GOAL_POINTS,
        )
    ]
