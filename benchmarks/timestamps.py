"""How far times of words are off, beside faster-whisper's: in speech of synthesisers, and in real speech.

*Word by word*: words that espeak-ng spoke one at a time, with gaps of 50 to 120 ms. *Sentences*: the same voice, whole
sentences, by its own account of where words begin. *Real*: clips of ``a_english_read`` with 2 to 3 s of silence between
them, by a forced alignment. *Hour*: the real clips again and again, first five minutes against the last.

The level of real clips is no ruler for their first words: breath and noise come up to half a second before them.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from benchmarks.contenders import BenchmarkError, Contender, Item, Job
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.spoken import Aligner, Marked, Said, Speaker, joined, word_by_word, write
from benchmarks.store import Check, write_result
from benchmarks.wer_eval import read_samples
from tympan.domain import SAMPLE_RATE_HZ
from tympan.quality.scoring import units

GOAL_MS, DRIFT_GOAL_MS = 80.0, 20.0
HOUR_S, EDGE_S = 3600.0, 300.0
SEED = 3
SIDES = {"tympan": "Tympan", "faster_whisper": "faster-whisper"}
TUNED = slice(40, 80)
"""Clips that constants of ``tympan.engine.pauses`` were chosen by; they are left out."""

_SENTENCES, _CLIPS, _QUICK = 24, 40, 3
_LONGEST = 14
_GONE_S = 1.5

Heard = Sequence[tuple[str, float, float]]
"""Words with start and end in seconds."""


def run(setup: Setup, *, hour: bool = False) -> Path:
    """Measure, with ``hour`` also the drift over one; write ``timestamps.json`` and return its path."""
    clips = [clip for clip in setup.clips("a_english_read") if clip.reference and clip.language == "en"]
    takes, real = _takes(clips, _QUICK if setup.quick else _SENTENCES, _QUICK if setup.quick else _CLIPS)
    steps = setup.steps("timestamps", f"{_SENTENCES} {_CLIPS}")
    payload: dict[str, Any] = {
        "model": setup.model_facts(),
        "licences": licences(clips),
        "goal_ms": GOAL_MS,
        "rows": [],
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, bare = stack.enter_context(setup.in_process("words")), stack.enter_context(setup.baseline())
        sides = {"tympan": (ours, ""), "faster_whisper": (bare, f"{setup.default_variant}-words")}
        for name, marked in takes.items():
            row = {"take": name, "audio_s": round(len(marked.samples) / SAMPLE_RATE_HZ, 1), "words": len(marked.words)}
            for side, (contender, variant) in sides.items():
                measure = partial(_heard, contender, folder, marked, variant)
                row[side] = figures(marked.words, steps.value(f"{name}, {side}", measure))
            payload["rows"].append(row)
        if hour:
            marked = joined(*_repeated(real, HOUR_S))
            payload["hour"] = drift(marked.words, steps.value("hour", partial(_heard, ours, folder, marked)))
    return write_result(setup.results, "timestamps", payload, checks(payload))


def _takes(clips: Sequence[Clip], sentences: int, most: int) -> tuple[dict[str, Marked], list[Marked]]:
    texts = [str(clip.reference).split()[:_LONGEST] for clip in clips[:sentences]]
    draw = np.random.default_rng(SEED)
    parts = [word_by_word(text, draw.uniform(0.05, 0.12, len(text) - 1).tolist()) for text in texts]
    speaker = Speaker()
    real = _real(clips, most)
    takes = {
        "word by word": joined(parts, [1.5] * len(parts)),
        "sentences": joined([speaker.say(text) for text in texts], draw.uniform(1.5, 3.0, len(texts)).tolist()),
        "real": joined(real, draw.uniform(2.0, 3.0, len(real)).tolist()),
    }
    return takes, real


def _real(clips: Sequence[Clip], most: int) -> list[Marked]:
    """Return clips with the times of their words, as many as can be aligned up to ``most``."""
    aligner, found = Aligner(), list[Marked]()
    for clip in (*clips[: TUNED.start], *clips[TUNED.stop :]):
        marked = aligner.aligned(read_samples(clip.path, dtype="int16"), str(clip.reference).lower().split())
        found += [marked] if marked else []
        if len(found) == most:
            break
    if not found:
        raise BenchmarkError("None of the clips could be aligned.")
    return found


def _repeated(parts: Sequence[Marked], seconds: float) -> tuple[list[Marked], list[float]]:
    draw, chosen, pauses, total_s = np.random.default_rng(SEED), list[Marked](), list[float](), 0.0
    for part in cycle(parts):
        if total_s >= seconds:
            break
        chosen.append(part)
        pauses.append(float(draw.uniform(2.0, 3.0)))
        total_s += len(part.samples) / SAMPLE_RATE_HZ + pauses[-1]
    return chosen, pauses


def _heard(contender: Contender, folder: Path, marked: Marked, variant: str = "") -> Heard:
    path = folder / "take.wav"
    write(path, marked.samples)
    outcome = contender.run(Job((Item("take", str(path), "en"),), variant=variant))
    found: Heard = json.loads(outcome.texts["take"])
    return found


def figures(words: Sequence[Said], heard: Heard) -> dict[str, Any]:
    """Return how far starts are off, of all words and of first ones, and ends of last ones: see ``spread``."""
    pairs = matched(words, heard)
    return {
        "starts": spread([start_s - word.start_s for word, start_s, _ in pairs]),
        "first_starts": spread([start_s - word.start_s for word, start_s, _ in pairs if word.first]),
        "last_ends": spread([end_s - word.end_s for word, _, end_s in pairs if word.last]),
    }


def drift(words: Sequence[Said], heard: Heard) -> dict[str, Any]:
    """Return the same for starts in the first five minutes and in the last, and in all."""
    pairs = matched(words, heard)
    end_s = words[-1].end_s
    return {
        "all": spread([start_s - word.start_s for word, start_s, _ in pairs]),
        "first": spread([start_s - word.start_s for word, start_s, _ in pairs if word.start_s < EDGE_S]),
        "last": spread([start_s - word.start_s for word, start_s, _ in pairs if word.start_s > end_s - EDGE_S]),
    }


def matched(words: Sequence[Said], heard: Heard) -> list[tuple[Said, float, float]]:
    """Return the words that were heard as they are spelled, in their order, with the start and end given to them.

    Left out is what was heard more than 1.5 s away: that is another word.
    """
    told = [unit for word in words for unit in units(word.text, "en")[:1]]
    known = [word for word in words if units(word.text, "en")]
    found = [(units(text, "en")[:1], start_s, end_s) for text, start_s, end_s in heard]
    spelled = [one for one in found if one[0]]
    if not told or not spelled:
        return []
    aligned = jiwer.process_words(" ".join(told), " ".join(unit[0] for unit, _, _ in spelled)).alignments[0]
    pairs = [
        (known[chunk.ref_start_idx + n], *spelled[chunk.hyp_start_idx + n][1:])
        for chunk in aligned
        if chunk.type == "equal"
        for n in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    return [pair for pair in pairs if abs(pair[1] - pair[0].start_s) <= _GONE_S]


def spread(errors_s: Sequence[float]) -> dict[str, Any]:
    """Return median and 90th percentile of the absolute errors and their bias, in ms, and the share within the goal."""
    if not errors_s:
        return {"words": 0}
    off = np.array(errors_s) * 1000.0
    return {
        "words": len(off),
        "median_abs_ms": round(float(np.median(np.abs(off))), 1),
        "p90_abs_ms": round(float(np.quantile(np.abs(off), 0.9)), 1),
        "bias_ms": round(float(np.median(off)), 1),
        "within_goal": round(float((np.abs(off) <= GOAL_MS).mean()), 3),
    }


def checks(payload: Mapping[str, Any]) -> list[Check]:
    """Compare medians with the goal, and the last minutes of an hour with the first."""
    out = [
        _check(f"times of words, {row['take']}: {what}", row["tympan"][key])
        for row in payload["rows"]
        for key, what in (("starts", "starts"), ("first_starts", "first words after a silence"))
    ]
    if "hour" in payload:
        first, last = (payload["hour"][key]["median_abs_ms"] for key in ("first", "last"))
        goal = f"<= +{DRIFT_GOAL_MS:g} ms"
        text = f"{last - first:+.0f} ms"
        out.append(Check("times of words: last minutes of an hour", goal, text, last - first <= DRIFT_GOAL_MS))
    return out


def _check(figure: str, found: Mapping[str, Any]) -> Check:
    median_ms = found.get("median_abs_ms", float("inf"))
    return Check(figure, f"median <= {GOAL_MS:g} ms", f"{median_ms:.0f} ms", median_ms <= GOAL_MS)


INTRO = (
    "Distance of a word's start from the truth, greedy; a positive bias is too late. The last columns are medians: "
    "starts of first words after a silence, and ends of last words before one. Real speech is held against a forced "
    "alignment by pocketsphinx, whose own errors count as ours."
)
"""What the page says before its tables."""


def body(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Return the page's tables: title, head, rows."""
    head = ["side", "words", "median ms", "p90 ms", "bias ms", "within 80 ms", "first words", "ends of last words"]
    tables = [
        (
            f"{row['take'].capitalize()}, {row['audio_s']:.0f} s",
            head,
            [_cells(SIDES[side], row[side]) for side in SIDES],
        )
        for row in result["rows"]
    ]
    if "hour" in result:
        names = {"first": "first five minutes", "last": "last five minutes", "all": "the whole hour"}
        rows = [[names[key], *_spread_cells(result["hour"][key])] for key in names]
        tables.append(("An hour of the real clips", ["where", *head[1:6]], rows))
    return tables


def _cells(name: str, found: Mapping[str, Any]) -> list[Any]:
    ends = [f"{found[key].get('median_abs_ms', float('nan')):.0f} ms" for key in ("first_starts", "last_ends")]
    return [name, *_spread_cells(found["starts"]), *ends]


def _spread_cells(found: Mapping[str, Any]) -> list[Any]:
    if not found["words"]:
        return [0, *["-"] * 4]
    return [
        found["words"], f"{found['median_abs_ms']:.0f}", f"{found['p90_abs_ms']:.0f}", f"{found['bias_ms']:+.0f}",
        f"{100 * found['within_goal']:.0f} %",
    ]  # fmt: skip
