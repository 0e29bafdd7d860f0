"""How well confidence and hallucination score tell what they should: ``python -m benchmarks.trust CORPUS``.

Every window of the speech sets (``a_english_read``, ``c_languages``, ``e_hard``) and, with detection off, of the sounds
without speech (``d_nonspeech`` and drawn ones) is decoded once, with nothing rejected. The *area* is the chance that
made-up text scores higher than spoken text. Clips are told apart in two halves by their names: the weights in
``tympan.confidence`` were fitted on half 0, so half 1 is what counts. Settings come from ``TYMPAN_*``.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring import Clip, load_set
from benchmarks.synth import write_clips
from tympan import fallback
from tympan.batching.queue import Origin
from tympan.bench.scoring import Pair, count
from tympan.bootstrap import running
from tympan.bootstrap.pipeline import Services
from tympan.confidence import Evidence, confidence, hallucination_score
from tympan.config import load
from tympan.domain import Lane, Options, Timestamps, Window, WindowResult, WindowTask
from tympan.pipeline import RequestContext

SPEECH = ("a_english_read", "c_languages", "e_hard")
SEED = 7
_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0001)
_MAX_AUDIO_S = 3600.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One clip: its set, half, highest score over its windows, mean confidence, and share of words that are right."""

    name: str
    half: int
    score: float
    trust: float
    right: float
    units: int


def area(made_up: Sequence[float], spoken: Sequence[float]) -> float:
    """Return the chance that one of ``made_up`` is higher than one of ``spoken``, ties counting half; NaN for none."""
    if not made_up or not spoken:
        return float("nan")
    above = np.subtract.outer(np.array(made_up), np.array(spoken))
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def calibration(clips: Sequence[Heard]) -> list[dict[str, Any]]:
    """Return, for each range of confidence, how many clips fall in it, their mean confidence and words right."""
    rows = []
    for low, high in pairwise(_EDGES):
        chosen = [clip for clip in clips if low <= clip.trust < high]
        if chosen:
            weights = [clip.units for clip in chosen]
            trust = float(np.average([clip.trust for clip in chosen], weights=weights))
            right = float(np.average([clip.right for clip in chosen], weights=weights))
            rows.append({"from": low, "clips": len(chosen), "confidence": round(trust, 3), "right": round(right, 3)})
    return rows


def measure(services: Services, corpus: Path, drawn: Path, n_drawn: int) -> list[Heard]:
    """Return every clip that got any text."""
    found: list[Heard] = []
    for name in SPEECH:
        clips = [clip for clip in load_set(corpus, name) if clip.reference]
        found += _hear_all(services, name, clips, Options(beam_size=1, timestamps=Timestamps.NONE))
    silent = [clip for clip in load_set(corpus, "d_nonspeech") if clip.reference == ""]
    quiet = Options(beam_size=1, timestamps=Timestamps.NONE, vad=None)
    found += _hear_all(services, "d_nonspeech", silent, quiet)
    return found + _hear_all(services, "drawn", write_clips(drawn, n_drawn, SEED), quiet)


def _hear_all(services: Services, name: str, clips: Sequence[Clip], options: Options) -> list[Heard]:
    found = []
    for number, clip in enumerate(clips, 1):
        heard = _hear(services, name, clip, options)
        found += [heard] if heard else []
        print(f"\r{name} {number}/{len(clips)}", end="", file=sys.stderr)
    return found


def _hear(services: Services, name: str, clip: Clip, options: Options) -> Heard | None:
    context = RequestContext(f"trust-{name}-{clip.id}", max_audio_s=_MAX_AUDIO_S)
    params = fallback.first_attempt(options, clip.language)
    service = services.transcriber._service  # noqa: SLF001 - The pipeline itself would decode again, and reject.
    waiting: list[tuple[Window, Future[WindowResult]]] = []
    with closing(services.transcriber.listen(options).windows(clip.path, context)) as windows:
        for window in windows:
            origin = Origin(context.request_id, context.tenant, Lane.BATCH)
            waiting.append((window, service.submit(WindowTask(window, params), origin)))
    results = [(window, reply.result()) for window, reply in waiting]
    signs = [Evidence.of(window, result) for window, result in results if result.text.strip()]
    if not signs:
        return None
    errors = count(Pair(clip.reference or "", "".join(one.text for one in signs), clip.language or "en"))
    return Heard(
        name=name,
        half=zlib.crc32(clip.id.encode()) % 2,
        score=max(map(hallucination_score, signs)),
        trust=float(np.mean([confidence(one) for one in signs])),
        right=max(0.0, 1.0 - errors.errors / max(1, errors.units)),
        units=errors.units,
    )


def summary(clips: Sequence[Heard]) -> dict[str, Any]:
    """Return the figures of one half."""
    spoken = [clip for clip in clips if clip.name in SPEECH]
    made_up = [clip for clip in clips if clip.name not in SPEECH]
    return {
        "spoken": len(spoken),
        "made_up": len(made_up),
        "area": round(area([clip.score for clip in made_up], [clip.score for clip in spoken]), 4),
        "spoken_over_half": sum(clip.score > 0.5 for clip in spoken),
        "made_up_over_half": sum(clip.score > 0.5 for clip in made_up),
        "calibration": calibration(spoken),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder with the reference sets")
    parser.add_argument("--drawn", type=int, default=84, help="sounds drawn (default: 84)")
    parser.add_argument("--work", type=Path, default=Path("build/bench/trust"), help="where they are written")
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    with running(load()) as services:
        clips = measure(services, asked.corpus, asked.work, asked.drawn)
    halves = {f"half {half}": summary([clip for clip in clips if clip.half == half]) for half in (0, 1)}
    print(json.dumps(halves, indent=2))


if __name__ == "__main__":
    main()
