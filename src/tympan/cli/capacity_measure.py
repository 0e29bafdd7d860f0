"""``tympan capacity`` measures this machine: speech, an engine, a server of its own in a folder of its own."""

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from tympan.audio.decode import Decoder
from tympan.audio.vad import SpeechDetector
from tympan.batching.host import HostOptions
from tympan.bench import recordings
from tympan.bench.client import Item
from tympan.bench.facts import cores, provenance
from tympan.bench.recordings import Recording
from tympan.bootstrap import chosen_hardware
from tympan.capacity.calibrating import Clip, Subject, measure
from tympan.capacity.measuring import LOAD_LIMIT_S, Grid
from tympan.capacity.profile import WINDOW_S, Profile
from tympan.cli.console import say
from tympan.cli.services import fetch_model, quieten_log
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Options, Samples, Window
from tympan.engine import models
from tympan.engine.base import EngineSpec
from tympan.engine.environment import engine_environment
from tympan.engine.specs import spec_for
from tympan.errors import InvalidRequest
from tympan.pipeline import RequestContext
from tympan.pipeline.speech import Speech

if TYPE_CHECKING:
    from tympan.config import Settings

_CLIPS_S = (5.0, 20.0)
_TALK_S = 60.0
_MOST_SPEECH_S = 600.0


def measured(settings: "Settings", paths: Sequence[Path], grid: Grid, stop: Event, *, quiet: bool) -> Profile:
    """Return the profile of this machine under ``settings``. Raises ``InvalidRequest`` without speech to measure with.

    Else it raises what loading the model and serving raise, and ``Cancelled``.
    """
    quieten_log(settings)
    fetch_model(settings, quiet=quiet)
    tell: Callable[[str], None] = (lambda _: None) if quiet else (lambda what: say(f"{what} ..."))
    with tempfile.TemporaryDirectory(prefix="tympan-capacity-") as name, Decoder() as decoder:
        folder = Path(name)
        speech = _heard(decoder, paths, folder)
        language = speech.language if speech.language is not None else "en"
        grid = replace(grid, params=replace(grid.params, language=language))
        fields = (("beam_size", str(grid.params.beam_size)), ("temperature_fallback", "true"))
        subject = Subject(
            name=settings.model if settings.model != "auto" else "this machine",
            spec=_spec(settings),
            host=HostOptions(load_timeout_s=LOAD_LIMIT_S, environment=engine_environment()),
            environment=environment_of(settings, folder),
            folder=folder,
            speech=speech.samples,
            clips=speech.clips,
            speech_share=speech.share,
            cores=cores(),
            fields=fields,
            origin=provenance(),
        )
        return measure(subject, grid, tell, stop.is_set)


class _Heard:
    """Speech to measure with: samples to cut windows from, two clips to send, how much of the audio is speech."""

    def __init__(
        self, windows: Sequence[Window], audio_s: float, clips: tuple[Clip, ...], language: str | None
    ) -> None:
        self.samples: Samples = np.concatenate([window.samples for window in windows])
        self.share = min(1.0, len(self.samples) / SAMPLE_RATE_HZ / audio_s)
        self.clips, self.language = clips, language


def _heard(decoder: Decoder, paths: Sequence[Path], folder: Path) -> _Heard:
    """Return the speech of the recordings at ``paths``, or of what Tympan brings."""
    decode = recordings.Decode(decoder.stream, recordings.MAX_LENGTH_S)
    if paths:
        sets = recordings.given(paths, decode)
        clip_sets = recordings.resized(sets, _CLIPS_S, folder, decode)
    else:
        sets = recordings.made([_TALK_S], folder, decode)
        clip_sets = recordings.made(_CLIPS_S, folder, decode)
    found, audio_s, windows = [each for group in sets for each in group.recordings], 0.0, list[Window]()
    for recording in found:
        if audio_s < _MOST_SPEECH_S:
            windows += _windows(decoder, recording)
            audio_s += recording.duration_s
    if not windows:
        raise InvalidRequest(
            "Nobody speaks in these recordings.", remedy="Give recordings of speech, as you serve them."
        )
    clips = tuple(clip_of(decoder, group.recordings[0]) for group in clip_sets)
    return _Heard(windows, audio_s, clips, found[0].language)


def _windows(decoder: Decoder, recording: Recording) -> list[Window]:
    """Return the windows that the server makes of a recording."""
    speech = Speech(decoder, SpeechDetector(), Options(), WINDOW_S)
    context = RequestContext("capacity", max_audio_s=recordings.MAX_LENGTH_S)
    with closing(speech.windows(recording.path, context)) as windows:
        return list(windows)


def clip_of(decoder: Decoder, recording: Recording) -> Clip:
    """Return a recording with the windows that the server makes of it. Raises ``InvalidRequest`` without speech."""
    windows = _windows(decoder, recording)
    if not windows:
        raise InvalidRequest(
            "Nobody speaks in these recordings.", remedy="Give recordings of speech, as you serve them."
        )
    item = Item(recording.path.name, recording.path.read_bytes(), recording.duration_s, recording.language or "en")
    return Clip(item, tuple(window.duration_s for window in windows))


def _spec(settings: "Settings") -> EngineSpec:
    if settings.engine == "fake":
        return EngineSpec("fake", settings.model, options=tuple(sorted(settings.engine_options.items())))
    choice = chosen_hardware(settings)
    access = models.Access(offline=settings.offline, trust_first_use=settings.trust_first_use)
    found = models.resolve(choice.model, settings.data_dir, access)
    return spec_for(found, choice, settings.engine, settings.device, settings.engine_options)


def environment_of(settings: "Settings", folder: Path) -> dict[str, str]:
    """Return the settings of the server that is measured: these, with data of its own, and one GPU.

    Nothing of the installation is touched: database, staging and secrets lie in ``folder``.
    """
    data = folder / "data"
    data.mkdir()
    kept = models.models_dir(settings.data_dir)
    kept.mkdir(parents=True, exist_ok=True)
    models.models_dir(data).symlink_to(kept, target_is_directory=True)
    said = {
        "MODEL": settings.model,
        "ENGINE": settings.engine,
        "ENGINE_OPTIONS": json.dumps(dict(settings.engine_options)),
        "DEVICE": settings.device,
        "COMPUTE_TYPE": settings.compute_type,
        "THREADS": str(settings.threads or "auto"),
        "MAX_BATCH_MS": str(settings.max_batch_ms),
        "GPUS": settings.gpus.partition(",")[0],
        "OFFLINE": str(settings.offline).lower(),
        "TRUST_FIRST_USE": str(settings.trust_first_use).lower(),
        "ALLOW_OLD_FFMPEG": str(settings.allow_old_ffmpeg).lower(),
        "DATA_DIR": str(data),
        "MODE": "embedded",
        "API_KEYS": "open",
        "RESULT_CACHE_MB": "0",
    }
    return {f"TYMPAN_{name}": value for name, value in said.items()}


def params(beam_size: int) -> DecodeParams:
    """Return how windows are decoded while they are measured: as for an answer without times."""
    return DecodeParams(language="en", beam_size=beam_size)
