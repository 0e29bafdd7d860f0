"""Whether monitoring of live traffic finds what is planted, and finds nothing where nothing is.

Clips are transcribed by the product's own pipeline, once as they are and once for each way of making things worse; what
was observed is then drawn for simulated weeks: four make the baseline, then comes the week that is judged. Clean
weeks go on for twenty more. ``weeks`` says how days are drawn.
"""

import os
import tempfile
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from benchmarks.overload import cpu_s
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, Steps, write_result
from benchmarks.weeks import BASELINE_WEEKS, Pool, Watched, drawn_week, mixed
from tympan.audio.condition import ConditionMeter
from tympan.audio.decode import Decoder
from tympan.bootstrap import running
from tympan.bootstrap.pipeline import Services
from tympan.config import load
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, VadOptions
from tympan.observation import Observation
from tympan.pipeline import RequestContext
from tympan.quality.traffic import TrafficMeter
from tympan.storage.codec import dump

SEED = 20260105
CLEAN_WEEKS, TRIALS, CLIPS_A_DAY = 20, 20, 30
QUICK_CLIPS = 24
_CHUNK = 40
_MAX_AUDIO_S = 3600.0
_SEEN = TypeAdapter(Observation)
_MAX_S = 20.0
_SNR_DB, _CUT_HZ = 10.0, 4_000.0
"""The noise and the band that are planted; 4 kHz is what a telephone's 8,000 samples a second hold."""

WORSE_MODEL = "tiny.en"


@dataclass(frozen=True, slots=True)
class Plant:
    """A way to make things worse: the pools that the week draws from, and the alarms of which one has to be raised."""

    title: str
    pools: tuple[str, ...]
    alarms: tuple[str, ...]


PLANTS = (
    Plant(
        "a worse model (tiny.en for base)",
        ("worse", "silent"),
        ("confidence_drift", "hallucination_drift", "language_certainty_drift"),
    ),
    Plant("noise at 10 dB SNR", ("noisy", "silent"), ("audio_snr_drift",)),
    Plant("band limited to 4 kHz (8 kHz samples)", ("narrow", "silent"), ("audio_bandwidth_drift",)),
    Plant("speech detection off", ("undetected", "undetected_silent"), ("coverage_drift", "dropped_drift")),
    Plant("a fifth in other languages", ("english", "silent", "foreign"), ("language_drift",)),
)
CLEAN = ("english", "silent")


def run(setup: Setup) -> Path:
    """Measure, write ``drift.json`` and return its path."""
    steps = setup.steps("drift")
    english = [clip for clip in setup.clips("a_english_read") if clip.duration_s <= _MAX_S]
    silent = [clip for clip in setup.clips("d_nonspeech") if clip.reference == "" and clip.duration_s <= _MAX_S]
    foreign = [clip for clip in setup.clips("c_languages") if clip.duration_s <= _MAX_S]
    if setup.quick:
        english, silent, foreign = (clips[:: max(1, len(clips) // QUICK_CLIPS)] for clips in (english, silent, foreign))
    pools, cost = _observe(steps, setup, english, silent, foreign)
    rows = [planted(plant, pools, trial) for plant in PLANTS for trial in range(TRIALS)]
    calm = [clean(pools, trial) for trial in range(TRIALS)]
    result = {
        "model": setup.model_facts(),
        "licences": licences([*english, *silent, *foreign]),
        "clips": {name: sum(map(len, pool.values())) for name, pool in pools.items()},
        "clips_a_day": CLIPS_A_DAY,
        "trials": TRIALS,
        "plants": summary(rows),
        "clean_weeks": CLEAN_WEEKS,
        "clean": calm,
        "cost": cost,
    }
    return write_result(setup.results, "drift", result, checks(result))


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each plant, how often it was caught, on which days, and by what."""
    found = []
    for plant in PLANTS:
        mine = [row for row in rows if row["plant"] == plant.title]
        days = sorted(row["day"] for row in mine if row["day"] is not None)
        raised = sorted({alarm for row in mine for alarm in row["raised"]})
        found.append({
            "plant": plant.title, "wanted": list(plant.alarms), "trials": len(mine), "caught": len(days),
            "median_day": days[len(days) // 2] if days else None, "last_day": days[-1] if days else None,
            "raised": {alarm: sum(alarm in row["raised"] for row in mine) for alarm in raised},
        })  # fmt: skip
    return found


def checks(result: Mapping[str, Any]) -> list[Check]:
    """Compare the figures with the goals."""
    found = [
        Check(f"drift: {row['plant']}: weeks that raise {' or '.join(row['wanted'])}", "all",
              f"{row['caught']} of {row['trials']}", row["caught"] == row["trials"])
        for row in result["plants"]
    ]  # fmt: skip
    false = sum(bool(row) for row in result["clean"])
    share = result["cost"]["percent"]
    return [
        *found,
        Check(f"drift: runs of {CLEAN_WEEKS} clean weeks with an alarm", "none", f"{false} of {result['trials']}",
              not false),
        Check("drift: processor time of monitoring", "<= 1 %", f"{share:.2f} %", share <= 1.0),
    ]  # fmt: skip


INTRO = (
    "Clips were transcribed by the product's own pipeline; what it observed was drawn for simulated weeks, in bursts "
    "of one source. Four clean weeks are the baseline; the next one is judged at the end of each of its days."
)
"""What the page says before its tables."""


def body(result: Mapping[str, Any]) -> Sequence[tuple[str, list[str], list[list[Any]]]]:
    """Return the page's tables: title, head, rows."""
    plants = [
        [row["plant"], f"{row['caught']} of {row['trials']}", row["median_day"], row["last_day"],
         ", ".join(f"{name} {n}" for name, n in row["raised"].items())]
        for row in result["plants"]
    ]  # fmt: skip
    clean = [[
        f"{result['clean_weeks']} weeks, {result['clips_a_day']} clips a day", result["trials"],
        sum(bool(row) for row in result["clean"]), ", ".join(sorted({name for row in result["clean"] for name in row})),
    ]]  # fmt: skip
    cost = result["cost"]
    return [
        ("What was planted", ["planted", "weeks caught", "median day", "last day", "alarms raised (weeks)"], plants),
        ("Clean weeks, each drawing anew", ["run", "runs", "runs with an alarm", "alarms"], clean),
        ("Processor time", ["transcribing, s", "looking at audio and counting, s", "share"],
         [[cost["transcribing_s"], cost["monitoring_s"], f"{cost['percent']:.2f} %"]]),
    ]  # fmt: skip


def planted(plant: Plant, pools: Mapping[str, Pool], trial: int) -> dict[str, Any]:
    """Return the first day on which one of the wanted alarms was open, and all that were raised."""
    rng = np.random.default_rng([SEED, trial])
    with tempfile.TemporaryDirectory() as folder:
        watched = Watched(Path(folder))
        for _ in range(BASELINE_WEEKS):
            watched.live_through(drawn_week(rng, _pool(pools, CLEAN), CLIPS_A_DAY))
        days = watched.live_through(drawn_week(rng, _pool(pools, plant.pools), CLIPS_A_DAY))
        watched.close()
    hit = [number for number, opened in enumerate(days, 1) if opened & set(plant.alarms)]
    return {"plant": plant.title, "day": hit[0] if hit else None, "raised": sorted(set().union(*days))}


def clean(pools: Mapping[str, Pool], trial: int) -> list[str]:
    """Return the alarms that clean weeks raise."""
    rng = np.random.default_rng([SEED, 1000 + trial])
    with tempfile.TemporaryDirectory() as folder:
        watched = Watched(Path(folder))
        raised: set[str] = set()
        for _ in range(BASELINE_WEEKS + CLEAN_WEEKS):
            raised.update(*watched.live_through(drawn_week(rng, _pool(pools, CLEAN), CLIPS_A_DAY)))
        watched.close()
    return sorted(raised)


def _pool(pools: Mapping[str, Pool], names: Sequence[str]) -> Pool:
    found: Pool = {}
    for name in names:
        found = mixed(found, pools[name])
    return found


def _observe(
    steps: Steps, setup: Setup, english: Sequence[Clip], silent: Sequence[Clip], foreign: Sequence[Clip]
) -> tuple[dict[str, Pool], dict[str, float]]:
    """Return what is observed of clips, by treatment and source, and what that cost."""
    found: dict[str, Pool] = {}
    spent = {"transcribing_s": 0.0, "monitoring_s": 0.0}
    treated = treatments(setup.work / "drift", setup.model, english, silent, foreign)
    for name, (model, options, clips) in treated.items():
        rows = [
            row
            for start in range(0, len(clips), _CHUNK)
            for row in steps.value(f"{name} {start}", _chunk(model, options, clips[start : start + _CHUNK]))
        ]
        found[name] = by_source(clips, [_SEEN.validate_json(row["seen"]) for row in rows])
        spent = {key: round(so_far + sum(row[key] for row in rows), 3) for key, so_far in spent.items()}
    return found, {**spent, "percent": 100 * spent["monitoring_s"] / spent["transcribing_s"]}


def treatments(
    folder: Path, model: str, english: Sequence[Clip], silent: Sequence[Clip], foreign: Sequence[Clip]
) -> dict[str, tuple[str, Options, Sequence[Clip]]]:
    """Return, for each pool, by which model and options which clips are heard; clips that are made go to ``folder``."""
    deaf = Options(beam_size=1, vad=None)
    heard = Options(beam_size=1, vad=VadOptions())
    with Decoder() as decoder:
        noisy = [replace(clip, path=_treated(decoder, clip, folder, "noisy", with_noise)) for clip in english]
        narrow = [replace(clip, path=_treated(decoder, clip, folder, "narrow", cut_above)) for clip in english]
    return {
        "english": (model, heard, english),
        "silent": (model, heard, silent),
        "foreign": (model, heard, foreign),
        "noisy": (model, heard, noisy),
        "narrow": (model, heard, narrow),
        "undetected": (model, deaf, english),
        "undetected_silent": (model, deaf, silent),
        "worse": (WORSE_MODEL, heard, english),
    }


def _chunk(model: str, options: Options, clips: Sequence[Clip]) -> Callable[[], list[dict[str, Any]]]:
    def measure() -> list[dict[str, Any]]:
        seen: list[Observation] = []
        settings = load({"model": model, "compute_type": "int8", "log_level": "warning"})
        with running(settings, seen.append) as services:
            return [_observed(services, clip, options, seen) for clip in clips]

    return measure


def _observed(services: Services, clip: Clip, options: Options, seen: list[Observation]) -> dict[str, Any]:
    """Transcribe one clip; return what was noted and the processor time of it all, and of noting by itself."""
    before = cpu_s(os.getpid())
    services.transcriber.transcribe(clip.path, options, RequestContext(f"drift-{clip.id}", max_audio_s=_MAX_AUDIO_S))
    spent_s = cpu_s(os.getpid()) - before
    samples = _samples(services.decoder, clip.path)
    meter = TrafficMeter(_NoBooks())
    before = time.thread_time()
    condition = ConditionMeter()
    # As many windows as there can be of one clip that is no longer than a window.
    condition.hear(samples)
    meter.add(replace(seen[-1], condition=condition.condition(seen[-1].condition.media)))
    own_s = time.thread_time() - before
    return {"seen": dump(seen[-1]), "transcribing_s": spent_s, "monitoring_s": own_s}


class _NoBooks:
    """Keeps nothing."""

    def add(self, rows: object) -> None:
        """Forget."""


def by_source(clips: Sequence[Clip], seen: Sequence[Observation]) -> Pool:
    """Return what was observed of clips by speaker, where their ids tell, else by corpus: as one caller would send."""
    found: dict[str, list[Observation]] = {}
    for clip, each in zip(clips, seen, strict=True):
        found.setdefault("-".join(clip.id.split("-")[:2]) if clip.source == "ls" else clip.source, []).append(each)
    return found


def with_noise(samples: Samples) -> Samples:
    """Return samples with white noise of a tenth of their power."""
    rng = np.random.default_rng(len(samples))
    signal = samples.astype(np.float64)
    size = np.sqrt(np.mean(signal**2) / 10 ** (_SNR_DB / 10))
    return _whole(signal + rng.standard_normal(len(samples)) * size)


def cut_above(samples: Samples) -> Samples:
    """Return samples without what lies above 4 kHz, as a telephone leaves it out."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    spectrum[np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ) > _CUT_HZ] = 0
    return _whole(np.fft.irfft(spectrum, len(samples)))


def _whole(values: NDArray[np.float64]) -> Samples:
    return np.clip(np.round(values), -32_768, 32_767).astype(np.int16)


def _treated(decoder: Decoder, clip: Clip, folder: Path, name: str, treat: Callable[[Samples], Samples]) -> Path:
    path = folder / f"{name}-{clip.id}.wav"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(SAMPLE_RATE_HZ)
            out.writeframes(treat(_samples(decoder, clip.path)).tobytes())
    return path


def _samples(decoder: Decoder, path: Path) -> Samples:
    return np.concatenate(list(decoder.stream(path, max_audio_s=_MAX_AUDIO_S)))
