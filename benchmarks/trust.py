"""How well confidence and hallucination score tell what they should.

Every window of the speech sets (``a_english_read``, ``c_languages``, ``e_hard``) and, with detection off, of the sounds
without speech (``d_nonspeech`` and drawn ones) is decoded once, with nothing rejected. An *area* is the chance that one
of the first kind has the higher figure than one of the second: 0.5 says nothing, 1.0 all. Clips are told apart in two
halves by their names: the weights in ``tympan.confidence`` were fitted on half 0, so half 1 is what counts.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring import Clip, licences
from benchmarks.seam_counts import Alignment
from benchmarks.setup import Setup
from benchmarks.store import Check, Steps, write_result
from benchmarks.synth import write_clips
from tympan import fallback
from tympan.batching.queue import Origin
from tympan.bootstrap import running
from tympan.bootstrap.pipeline import Services
from tympan.confidence import Evidence, confidence, hallucination_score
from tympan.config import load
from tympan.domain import Lane, Options, Timestamps, VadOptions, Window, WindowResult, WindowTask
from tympan.pipeline import RequestContext
from tympan.quality.scoring import Pair, count, units

SPEECH = ("a_english_read", "c_languages", "e_hard")
SEED = 7
DRAWN, DRAWN_QUICK, QUICK_CLIPS = 84, 14, 6
MADE_UP_GOAL, WORDS_GOAL, CALIBRATION_GOAL = 0.95, 0.8, 0.1
MOSTLY_RIGHT = 0.9
_CHUNK = 40
_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0001)
_MAX_AUDIO_S = 3600.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One clip that got text.

    ``score`` is the highest over its windows, ``blind`` the same without the sign of speech detection, ``trust`` the
    mean confidence, ``right`` the share of words that are right of ``units``; ``words`` are the model's probabilities
    of words that are right, and of others.
    """

    name: str
    half: int
    score: float
    blind: float
    trust: float
    right: float
    units: int
    words: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())


def run(setup: Setup) -> Path:
    """Measure, write ``trust.json`` and return its path."""
    steps = setup.steps("trust")
    with running(load({"model": setup.model, "compute_type": "int8", "log_level": "warning"})) as services:
        clips = _measure(steps, setup, services)
    rows = [{"half": half, **summary([clip for clip in clips if clip.half == half])} for half in (0, 1)]
    sets = [setup.clips(name) for name in (*SPEECH, "d_nonspeech")]
    payload = {
        "model": setup.model_facts(),
        "licences": licences(clip for clips_of in sets for clip in clips_of),
        "rows": rows,
    }
    return write_result(setup.results, "trust", payload, checks(rows[1]))


def area(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the chance that one of ``first`` is higher than one of ``second``, ties counting half; ``None`` for none.

    It is the statistic of Mann and Whitney over the number of pairs (Hanley and McNeil 1982).
    """
    if not first or not second:
        return None
    lower = np.sort(np.array(second))
    below = np.searchsorted(lower, first, "left") + np.searchsorted(lower, first, "right")
    return round(float(below.mean()) / 2 / len(lower), 4)


def calibration(clips: Sequence[Heard]) -> list[dict[str, Any]]:
    """Return, for each range of confidence, how many clips fall in it, their mean confidence and words right."""
    rows = []
    for low, high in pairwise(_EDGES):
        chosen = [clip for clip in clips if low <= clip.trust < high]
        if chosen:
            weights = [clip.units for clip in chosen]
            trust = float(np.average([clip.trust for clip in chosen], weights=weights))
            right = float(np.average([clip.right for clip in chosen], weights=weights))
            rows.append({"from": low, "clips": len(chosen), "units": sum(weights), "confidence": round(trust, 3),
                         "right": round(right, 3)})  # fmt: skip
    return rows


def summary(clips: Sequence[Heard]) -> dict[str, Any]:
    """Return the figures of one half."""
    spoken = [clip for clip in clips if clip.name in SPEECH]
    made_up = [clip for clip in clips if clip.name not in SPEECH]
    rows = calibration(spoken)
    right, wrong = ([one for clip in spoken for one in clip.words[side]] for side in (0, 1))
    gap = sum(abs(row["confidence"] - row["right"]) * row["units"] for row in rows) / sum(row["units"] for row in rows)
    return {
        "spoken": len(spoken),
        "made_up": len(made_up),
        "area": area([clip.score for clip in made_up], [clip.score for clip in spoken]),
        "area_blind": area([clip.blind for clip in made_up], [clip.blind for clip in spoken]),
        "spoken_over_half": sum(clip.score > 0.5 for clip in spoken),
        "made_up_over_half": sum(clip.score > 0.5 for clip in made_up),
        "highest_spoken": round(max(clip.score for clip in spoken), 3),
        "words_right": len(right),
        "words_wrong": len(wrong),
        "area_words": area(right, wrong),
        "area_clips": area(*(
            [clip.trust for clip in spoken if (clip.right >= MOSTLY_RIGHT) is good] for good in (True, False)
        )),
        "calibration": rows,
        "calibration_gap": round(gap, 4),
    }  # fmt: skip


def checks(row: Mapping[str, Any]) -> list[Check]:
    """Compare the half that was not fitted with the goals."""
    return [
        Check("trust: made-up text scores higher than spoken (area)", f">= {MADE_UP_GOAL}", str(row["area"]),
              (row["area"] or 0.0) >= MADE_UP_GOAL),
        Check("trust: right words are likelier than wrong ones (area)", f">= {WORDS_GOAL}", str(row["area_words"]),
              (row["area_words"] or 0.0) >= WORDS_GOAL),
        Check("trust: confidence and share of right words differ by", f"<= {CALIBRATION_GOAL}",
              str(row["calibration_gap"]), row["calibration_gap"] <= CALIBRATION_GOAL),
    ]  # fmt: skip


INTRO = (
    "Windows decoded once, greedily, with nothing rejected. An area is the chance that one of the first kind has the "
    "higher figure than one of the second: 0.5 says nothing, 1.0 all. The weights of the score were fitted on half 0; "
    "half 1 is what counts."
)
"""What the page says before its tables."""


def body(result: Mapping[str, Any]) -> Sequence[tuple[str, list[str], list[list[Any]]]]:
    """Return the page's tables: title, head, rows."""
    labels = {
        "spoken": "spoken clips with text",
        "made_up": "sounds with text",
        "area": "area: made-up above spoken, by hallucination score",
        "area_blind": "the same without the sign of speech detection",
        "spoken_over_half": "spoken clips with a score over 0.5",
        "highest_spoken": "highest score of a spoken clip",
        "made_up_over_half": "sounds with a score over 0.5",
        "words_right": "words that are right",
        "words_wrong": "words that are wrong or that nobody said",
        "area_words": "area: right above wrong, by the probability of words",
        "area_clips": f"area: clips with at least {MOSTLY_RIGHT:.0%} of words right above others, by confidence",
        "calibration_gap": "mean difference of confidence and share of right words",
    }
    halves = result["rows"]
    figures = [[label, *(half[key] for half in halves)] for key, label in labels.items()]
    ranges = [
        [half["half"], f"from {row['from']:g}", row["clips"], row["units"], row["confidence"], row["right"]]
        for half in halves
        for row in half["calibration"]
    ]
    return [
        ("What the figures tell apart", ["figure", "half 0 (fitted)", "half 1"], figures),
        ("Confidence of clips and their words", ["half", "confidence", "clips", "words", "mean", "right"], ranges),
    ]


def _measure(steps: Steps, setup: Setup, services: Services) -> list[Heard]:
    """Return every clip that got any text."""
    found: list[Heard] = []
    for name in SPEECH:
        found += _hear_all(steps, services, name, _some(setup, [clip for clip in setup.clips(name) if clip.reference]))
    silent = [clip for clip in setup.clips("d_nonspeech") if clip.reference == ""]
    found += _hear_all(steps, services, "d_nonspeech", _some(setup, silent))
    drawn = write_clips(setup.work / "trust", DRAWN_QUICK if setup.quick else DRAWN, SEED)
    return found + _hear_all(steps, services, "drawn", drawn)


def _some(setup: Setup, clips: Sequence[Clip]) -> Sequence[Clip]:
    return clips[:: max(1, len(clips) // QUICK_CLIPS)] if setup.quick else clips


def _hear_all(steps: Steps, services: Services, name: str, clips: Sequence[Clip]) -> list[Heard]:
    def chunk(some: Sequence[Clip]) -> Callable[[], list[dict[str, Any]]]:
        return lambda: [asdict(one) for one in map(lambda clip: _hear(services, name, clip), some) if one]  # noqa: C417

    found: list[Heard] = []
    for start in range(0, len(clips), _CHUNK):
        some = clips[start : start + _CHUNK]
        rows = steps.value(f"{name}, {start} to {start + len(some)}", chunk(some))
        found += [Heard(**row) for row in rows]
    return found


def _hear(services: Services, name: str, clip: Clip) -> Heard | None:
    options = Options(beam_size=1, timestamps=Timestamps.WORD, vad=VadOptions() if name in SPEECH else None)
    context = RequestContext(f"trust-{name}-{clip.id}", max_audio_s=_MAX_AUDIO_S)
    results = _decoded(services, clip, options, context)
    signs = [Evidence.of(window, result) for window, result in results if result.text.strip()]
    if not signs:
        return None
    errors = count(Pair(clip.reference or "", "".join(one.text for one in signs), clip.language or "en"))
    return Heard(
        name=name,
        half=zlib.crc32(clip.id.encode()) % 2,
        score=max(map(hallucination_score, signs)),
        blind=max(hallucination_score(replace(one, speech_peak=1.0)) for one in signs),
        trust=float(np.mean([confidence(one) for one in signs])),
        right=max(0.0, 1.0 - errors.errors / max(1, errors.units)),
        units=errors.units,
        words=judged(clip, [result for _, result in results]) if name in SPEECH else ((), ()),
    )


def _decoded(
    services: Services, clip: Clip, options: Options, context: RequestContext
) -> list[tuple[Window, WindowResult]]:
    """Return each window with its first result: the pipeline itself would decode some again, and reject some."""
    origin = Origin(context.request_id, context.tenant, Lane.BATCH)
    params = fallback.first_attempt(options, clip.language)
    with services.transcriber.held(context) as transcriber:
        with closing(transcriber.listen(options).windows(clip.path, context)) as windows:
            waiting = [(window, transcriber.service.submit(WindowTask(window, params), origin)) for window in windows]
        return [(window, reply.result()) for window, reply in waiting]


def judged(clip: Clip, results: Iterable[WindowResult]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the probabilities of the words that stand in the reference too, and those of the others.

    Words are normalised one by one, so a number that is written in another way counts as wrong.
    """
    language = clip.language or "en"
    said = [
        (one, word.probability) for result in results for word in result.words for one in units(word.text, language)
    ]
    alignment = Alignment(units(clip.reference or "", language), [one for one, _ in said])
    right = alignment.equal_words
    sides = ([p for place, (_, p) in enumerate(said) if (place in right) is good] for good in (True, False))
    first, second = (tuple(round(p, 4) for p in side) for side in sides)
    return first, second
