"""Whether golden sets find what is planted on real speech, and say nothing where nothing is.

A set of real clips is measured as an operator measures one: its clips are jobs of the product's own queue, decoder,
detection and engine. The first run is the baseline; then something is made worse, and the set is measured again. Audio
is made worse where it is stored, as if what takes it in had been broken.
"""

import shutil
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import BenchmarkError
from benchmarks.drift import WORSE_MODEL, cut_above, with_noise
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, write_result
from tympan.audio.decode import Decoder
from tympan.bootstrap import running
from tympan.bootstrap.jobs import WorkerPost, job_worker, open_desks, open_stores
from tympan.bootstrap.measuring import make_conductor, make_golden_desk
from tympan.config import Settings, load
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.engine.models import models_dir
from tympan.jobs.media import sha256_of
from tympan.quality.conductor import Conductor
from tympan.quality.golden import GoldenDesk
from tympan.quality.manifest import Item
from tympan.storage.blobs import BlobStore
from tympan.storage.golden import SetPlan, audio_key

NAME = "read"
MAX_S = 20.0
QUICK_CLIPS = 6
_RUN_LIMIT_S = 3_600.0
_POLL_S = 0.2
_MAX_AUDIO_S = 60.0
_ALARMS = {"wer_regression"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many clips the set has, at most."""

    clips: int = 150


@dataclass(frozen=True, slots=True)
class Plant:
    """What is changed before a run: the model, the audio or nothing; and whether that has to raise an alarm."""

    title: str
    model: str = ""
    treat: Callable[[Samples], Samples] = lambda samples: samples
    alarms: bool = True


BASELINE = Plant("the baseline", alarms=False)
PLANTS = (
    Plant(f"a worse model ({WORSE_MODEL} for the default)", model=WORSE_MODEL),
    Plant("noise at 10 dB SNR", treat=with_noise),
    Plant("band limited to 4 kHz (8 kHz samples)", treat=cut_above),
    Plant("nothing: the same once more", alarms=False),
    Plant("nothing that matters: 6 dB quieter", treat=lambda samples: samples // 2, alarms=False),
)


@dataclass(frozen=True, slots=True)
class Place:
    """An installation that is running, with what measures and what is asked of it."""

    blobs: BlobStore
    desk: GoldenDesk
    conductor: Conductor


def run(setup: Setup, plan: Plan) -> Path:
    """Measure, write ``golden.json`` and return its path."""
    clips = chosen(setup.clips("a_english_read"), QUICK_CLIPS if setup.quick else plan.clips)
    rows = measure(setup, clips, models_dir(load({}).data_dir))
    result = {
        "model": setup.model_facts(),
        "licences": licences(clips),
        "clips": len(clips),
        "audio_s": round(sum(clip.duration_s for clip in clips), 1),
        "rows": rows,
    }
    return write_result(setup.results, "golden", result, checks(rows))


def chosen(clips: Sequence[Clip], at_most: int) -> list[Clip]:
    """Return clips in which something is said and known, none longer than 20 s, evenly over the set."""
    fit = [clip for clip in clips if clip.reference and clip.duration_s <= MAX_S]
    return [fit[round(at)] for at in np.linspace(0, len(fit) - 1, min(at_most, len(fit)))] if fit else []


def measure(setup: Setup, clips: Sequence[Clip], models: Path) -> list[dict[str, Any]]:
    """Return what the baseline and each plant came to. Raises ``BenchmarkError`` for a run that did not succeed."""
    steps = setup.steps("golden", f"{len(clips)}")
    data = setup.work / "golden"
    if not steps.has(BASELINE.title):
        shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "models").exists():
        (data / "models").symlink_to(models)  # Weights that are there are not fetched again.
    return [steps.value(plant.title, partial(_measured, setup, data, clips, plant)) for plant in (BASELINE, *PLANTS)]


def checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Compare the figures with the goals."""
    wanted = {plant.title: plant.alarms for plant in PLANTS}
    return [
        Check(
            f"golden: {row['plant']}",
            " or ".join(sorted(_ALARMS)) if wanted[row["plant"]] else "no alarm",
            ", ".join(row["alarms"]) or "no alarm",
            bool(_ALARMS & set(row["alarms"])) if wanted[row["plant"]] else not row["alarms"],
        )
        for row in rows
        if row["plant"] in wanted
    ]


INTRO = (
    "A golden set of real English read speech, measured through the product's own jobs as `tympan quality run` does: "
    "once as it is, which is the baseline, and once for each thing that was planted. The difference is of the same "
    "clips, with the 99 % interval that an alarm goes by."
)
"""What the page says before its tables."""


def body(result: Mapping[str, Any]) -> Sequence[tuple[str, list[str], list[list[Any]]]]:
    """Return the page's tables: title, head, rows."""
    head = ["planted", "model", "WER", "sub / del / ins", "words", "difference, points (99 %)", "alarms"]
    rows = [
        [row["plant"], row["model"], f"{row['wer']:.2f} %", " / ".join(str(n) for n in row["errors"]), row["units"],
         _difference(row["comparison"]), ", ".join(row["alarms"])]
        for row in result["rows"]
    ]  # fmt: skip
    facts = [[result["clips"], result["audio_s"]]]
    return [("The set", ["clips", "seconds of audio"], facts), ("What was planted", head, rows)]


def _difference(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None:
        return ""
    low, high = comparison["low_points"], comparison["high_points"]
    return f"{comparison['difference_points']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _measured(setup: Setup, data: Path, clips: Sequence[Clip], plant: Plant) -> dict[str, Any]:
    given = {name.removeprefix("TYMPAN_").lower(): value for name, value in setup.environment.items()}
    changes = {"data_dir": data, "log_level": "warning", "quality_starter": False, "poll_s": 0.05}
    settings = load({**given, **changes, **({"model": plant.model} if plant.model else {})})
    with _place(settings) as place, Decoder() as decoder:
        if plant is BASELINE:
            place.desk.add(NAME, [_item(decoder, clip, data / "clips") for clip in clips], SetPlan())
        version = place.desk.store.get(NAME).version_id or ""
        for number, clip in enumerate(clips):
            made = data / "treated.wav"
            write_wav(made, plant.treat(_samples(decoder, clip.path)))
            place.blobs.adopt(audio_key(version, number), made)
        return _row(place, plant, _run(place))


def _run(place: Place) -> str:
    """Measure the set and return the run's id."""
    begun, ends_at = place.desk.run(NAME).id, time.monotonic() + _RUN_LIMIT_S
    while place.desk.runs.get(begun).state == "running":
        if time.monotonic() > ends_at:
            raise BenchmarkError(f"The run {begun} has not ended after {_RUN_LIMIT_S:g} s.")
        place.conductor.tick()
        time.sleep(_POLL_S)
    return begun


def _row(place: Place, plant: Plant, run_id: str) -> dict[str, Any]:
    found = place.desk.runs.get(run_id)
    if found.state != "succeeded" or found.totals is None:
        raise BenchmarkError(f"The run of {plant.title!r} {found.state}; {found.n_failed} clips failed.")
    words = found.totals["words"]
    errors = [words[name] for name in ("substitutions", "deletions", "insertions")]
    return {
        "plant": plant.title,
        "model": found.model,
        "failed": found.n_failed,
        "units": words["units"],
        "errors": errors,
        "wer": 100 * sum(errors) / words["units"],
        "comparison": found.comparison,
        "alarms": sorted({alarm.kind for alarm in place.desk.alarms.open()}),
    }


@contextmanager
def _place(settings: Settings) -> Iterator[Place]:
    """Yield an installation as ``tympan serve`` has it, but for HTTP; its conductor is ticked by hand."""
    with ExitStack() as started:
        stores = started.enter_context(open_stores(settings))
        post = WorkerPost(10.0)
        jobs = started.enter_context(open_desks(settings, stores, post)).jobs
        pipeline = started.enter_context(running(settings))
        scratch = settings.data_dir / "staging"
        scratch.mkdir(exist_ok=True)
        started.enter_context(job_worker(settings, stores, pipeline, scratch, post))
        pipeline.preload()
        # Whoever had the turn before has gone.
        stores.database.write(lambda tx: tx.exec_driver_sql("delete from chores"))
        desk = make_golden_desk(settings, stores.database, stores.blobs, jobs)
        yield Place(stores.blobs, desk, make_conductor(settings, stores.database, stores.blobs, jobs))


def _item(decoder: Decoder, clip: Clip, folder: Path) -> Item:
    """Return a clip as the set has it: bare samples, so that what is planted is as long in bytes."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{clip.id}.wav"
    write_wav(path, _samples(decoder, clip.path))
    return Item(clip.id, path, clip.reference or "", "speech", "en", None, (), sha256_of(path), path.stat().st_size)


def write_wav(path: Path, samples: Samples) -> None:
    """Write samples to a file."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        out.writeframes(samples.astype("<i2").tobytes())


def _samples(decoder: Decoder, path: Path) -> Samples:
    return np.concatenate(list(decoder.stream(path, max_audio_s=_MAX_AUDIO_S)))
