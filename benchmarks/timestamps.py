"""How far word times are off: ``python -m benchmarks.timestamps CORPUS [--hour]``. Settings come from ``TYMPAN_*``.

*Synthesised*: words spoken one by one by espeak-ng (which has to be installed), joined at known times. *Joined*: real
clips of ``a_english_read`` with silences of known length between them; the first word of each clip is looked at, whose
start is where the clip's level first comes within 30 dB of its loudest. ``--hour`` repeats the joined clips for an hour
and compares the first five minutes with the last.
"""

import argparse
import json
import math
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring import load_set
from benchmarks.wer_eval import read_samples
from tympan.bench.scoring import units
from tympan.bootstrap import running
from tympan.config import load
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Timestamps, Transcript
from tympan.pipeline import RequestContext

GOAL_MS = 80.0
HOUR_S, EDGE_S = 3600.0, 300.0
SEED = 3
_FRAME = 160
_AUDIBLE_DB = -30.0
_NEAR_S = 1.5
_SENTENCES, _CLIPS = 24, 40


@dataclass(frozen=True, slots=True)
class Marked:
    """Samples with words and the seconds at which they start; ``None`` where nobody knows."""

    samples: Samples
    words: tuple[tuple[str, float | None], ...]


def onset_s(samples: Samples) -> float:
    """Return where the level of 10-ms frames first comes within 30 dB of the loudest."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float64)
    level = np.sqrt((frames**2).mean(axis=1))
    audible = level > level.max() * 10 ** (_AUDIBLE_DB / 20)
    return int(audible.argmax()) * _FRAME / SAMPLE_RATE_HZ


def synthesised(sentences: Sequence[Sequence[str]]) -> Marked:
    """Return the words of ``sentences`` one by one, with short gaps, and a second and a half between sentences."""
    draw = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        spoken = {word: _say(word, Path(folder)) for sentence in sentences for word in sentence}
    parts: list[tuple[Samples, tuple[str, ...], float]] = []
    for sentence in sentences:
        parts += [(spoken[word], (word,), float(draw.uniform(0.05, 0.12))) for word in sentence]
        parts[-1] = (parts[-1][0], parts[-1][1], 1.5)
    return joined(parts)


def _say(word: str, folder: Path) -> Samples:
    path = folder / "word.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(path), word], check=True)
    samples: Samples = read_samples(path, dtype="int16")
    first = round(onset_s(samples) * SAMPLE_RATE_HZ)
    last = len(samples) - round(onset_s(samples[::-1]) * SAMPLE_RATE_HZ)
    return samples[first:last]


def joined(parts: Sequence[tuple[Samples, tuple[str, ...], float]]) -> Marked:
    """Return recordings with their words, each followed by so many seconds of silence; first words have their time."""
    pieces, words, at = list[Samples](), list[tuple[str, float | None]](), 0
    for samples, said, pause_s in parts:
        start_s = at / SAMPLE_RATE_HZ + onset_s(samples)
        words += [(word, start_s if n == 0 else None) for n, word in enumerate(said)]
        silence = np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.int16)
        pieces += [samples, silence]
        at += len(samples) + len(silence)
    return Marked(np.concatenate(pieces), tuple(words))


def errors_of(marked: Marked, transcript: Transcript) -> list[tuple[float, float]]:
    """Return true start and error, both in seconds, of every word with a known time that was heard near it.

    The nearest word that is spelled the same counts, within 1.5 s: clips are repeated, so their order tells nothing.
    """
    places: dict[str, list[float]] = {}
    for heard in transcript.words:
        for unit in units(heard.text, "en")[:1]:
            places.setdefault(unit, []).append(heard.start_s)
    found = []
    for word, true_s in ((word, start_s) for word, start_s in marked.words if start_s is not None):
        for unit in units(word, "en")[:1]:
            error_s = min((at_s - true_s for at_s in places.get(unit, [])), key=abs, default=math.inf)
            found += [(true_s, error_s)] if abs(error_s) <= _NEAR_S else []
    return found


def summary(errors: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return median of the absolute errors, bias and spread in milliseconds."""
    off = np.array([error for _, error in errors]) * 1000.0
    return {
        "words": len(off),
        "median_abs_ms": round(float(np.median(np.abs(off))), 1),
        "p90_abs_ms": round(float(np.quantile(np.abs(off), 0.9)), 1),
        "median_ms": round(float(np.median(off)), 1),
        "within_goal": round(float((np.abs(off) <= GOAL_MS).mean()), 3),
    }


def real(corpus: Path, seconds: float | None = None) -> Marked:
    """Return clips with 2 to 3 s of silence between them: some, or as many as it takes for so many ``seconds``."""
    clips = [clip for clip in load_set(corpus, "a_english_read") if clip.reference][:_CLIPS]
    loaded = [(read_samples(clip.path, dtype="int16"), tuple(str(clip.reference).split())) for clip in clips]
    draw, parts, total_s = np.random.default_rng(SEED), list[tuple[Samples, tuple[str, ...], float]](), 0.0
    for number, (samples, said) in enumerate(cycle(loaded)):
        if (number >= len(loaded)) if seconds is None else (total_s >= seconds):
            break
        pause_s = float(draw.uniform(2.0, 3.0))
        parts.append((samples, said, pause_s))
        total_s += len(samples) / SAMPLE_RATE_HZ + pause_s
    return joined(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timestamps", description=(__doc__ or "").split(":")[0])
    parser.add_argument("corpus", type=Path, help="folder with the reference sets")
    parser.add_argument("--hour", action="store_true", help="also look for drift over an hour")
    asked = parser.parse_args(arguments)
    texts = [str(clip.reference).split()[:12] for clip in load_set(asked.corpus, "a_english_read") if clip.reference]
    takes = {"synthesised": synthesised(texts[:_SENTENCES]), "joined": real(asked.corpus)}
    if asked.hour:
        takes["hour"] = real(asked.corpus, HOUR_S)
    with running(load()) as services, tempfile.TemporaryDirectory() as folder:
        for name, marked in takes.items():
            path = Path(folder) / f"{name}.wav"
            _write(path, marked.samples)
            options = Options(language="en", beam_size=1, timestamps=Timestamps.WORD)
            context = RequestContext(f"timestamps-{name}", max_audio_s=2 * HOUR_S)
            errors = errors_of(marked, services.transcriber.transcribe(path, options, context))
            found = {name: summary(errors)}
            if name == "hour":
                end_s = len(marked.samples) / SAMPLE_RATE_HZ - EDGE_S
                found["first five minutes"] = summary([one for one in errors if one[0] < EDGE_S])
                found["last five minutes"] = summary([one for one in errors if one[0] > end_s])
            print(json.dumps(found, indent=2), flush=True)


def _write(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())


if __name__ == "__main__":
    main()
