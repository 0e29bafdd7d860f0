"""What ``tympan doctor`` can only tell by trying: hardware, model, decoder, engine."""

import io
import math
import sys
import tempfile
import time
import uuid
import wave
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tympan.cli.checks import Check, Status
from tympan.domain import SAMPLE_RATE_HZ, Options, Timestamps
from tympan.errors import ModelNotFound, ModelUnavailable

if TYPE_CHECKING:
    from tympan.audio.sandbox import Measure
    from tympan.bootstrap import Services
    from tympan.bootstrap.registry import ConfiguredModel
    from tympan.config import Settings

_CLIP_S = 1.0
_TONE_HZ = 440
_TONE_HEIGHT = 8000


def check_hardware(settings: "Settings") -> list[Check]:
    """Tell what the machine has, and what is chosen for it and why."""
    from tympan.bootstrap import chosen_hardware  # noqa: PLC0415
    from tympan.engine.machine import probe_machine  # noqa: PLC0415

    machine = probe_machine()
    flags = ", ".join(machine.cpu_flags) or "none"
    cpu = f"{machine.cores} cores ({machine.cpu_name or 'unknown'}; for int8: {flags})"
    gpus = ", ".join(f"{gpu.name}, {gpu.memory_bytes / 1e9:.0f} GB" for gpu in machine.gpus)
    return [
        Check("Processor", Status.OK, cpu),
        Check("Memory", Status.OK, f"{machine.memory_bytes / 1e9:.1f} GB"),
        Check("GPU", Status.OK, gpus or "none; models run on the CPU"),
        Check("Choice", Status.OK, " ".join(chosen_hardware(settings).reasons)),
    ]


def check_model(settings: "Settings") -> Check:
    """Tell whether the model is here and every byte of it right; fetches nothing."""
    from tympan.bootstrap import chosen_hardware  # noqa: PLC0415
    from tympan.engine import catalogue, models  # noqa: PLC0415

    if settings.engine == "fake":
        remedy = "Unset TYMPAN_ENGINE to transcribe for real."
        return Check("Model", Status.WARN, "the fake engine makes up its text", remedy)
    name = chosen_hardware(settings).model
    entry = catalogue.find(name)
    if entry and not any(line.path for line in models.listing(settings.data_dir) if line.entry is entry):
        size = f"{entry.size_bytes / 1e6:,.0f} MB"
        remedy = f"Run `tympan models pull {entry.name}`; otherwise the first start does it."
        return Check("Model", Status.WARN, f"{entry.name} is not here yet ({size})", remedy)
    model = models.verify(name, settings.data_dir) if entry else models.resolve(name, settings.data_dir)
    return Check("Model", Status.OK, f"{model.name} in {model.path}, revision {model.revision}, digests are right")


def check_further_models(settings: "Settings") -> list[Check]:
    """Tell which further models are here, and what all may take together; fetches nothing."""
    from tympan.bootstrap.registry import budget_bytes, configured_models  # noqa: PLC0415

    found = configured_models(settings)
    if len(found) == 1:
        return []
    budgets = ", ".join(f"{device} {n_bytes / 1e9:.1f} GB" for device, n_bytes in budget_bytes(settings).items())
    return [*(_further(each) for each in found[1:]), Check("Memory for models", Status.OK, budgets or "no limit")]


def _further(model: "ConfiguredModel") -> Check:
    from tympan.engine import models  # noqa: PLC0415

    name = f"Model {model.card.id}"
    manner = ", ".join(word for word in ("pinned", "preload") if getattr(model.entry, word)) or "loaded when asked for"
    if model.is_fake:
        return Check(name, Status.WARN, f"the fake engine makes up its text; {manner}")
    try:
        path = models.path_of(model.entry.name, model.settings.data_dir)
    except ModelUnavailable as error:
        return Check(name, Status.WARN, error.message, error.remedy or "")
    except ModelNotFound as error:
        return Check(name, Status.FAIL, error.message, error.remedy or "")
    return Check(name, Status.OK, f"in {path}; {manner}")


def check_decoder(services: "Services") -> list[Check]:
    """Tell what guards the decoder on this machine, and decode a clip made on the spot."""
    report = services.decoder.sandbox
    lines = [_sandbox_line(measure) for measure in report.measures]
    started = time.monotonic()
    with _clip() as path:
        decoded_s = sum(len(block) for block in services.decoder.stream(path, max_audio_s=60.0)) / SAMPLE_RATE_HZ
    took_ms = (time.monotonic() - started) * 1000
    detail = f"{decoded_s:.2f} s of audio decoded in {took_ms:.0f} ms"
    is_right = math.isclose(decoded_s, _CLIP_S, abs_tol=0.05)
    lines.append(_libraries_line(report.media_libraries))
    return [*lines, Check("Decoder", Status.OK, detail) if is_right else _wrong_length(detail)]


def _libraries_line(libraries: str) -> Check:
    from tympan.audio.versions import is_old  # noqa: PLC0415

    if not is_old(libraries):
        return Check("Media libraries", Status.OK, libraries)
    remedy = "Install the locked versions of the packages: older ones have known faults."
    return Check("Media libraries", Status.WARN, f"{libraries or 'unknown'}: too old for files from strangers", remedy)


def _sandbox_line(measure: "Measure") -> Check:
    name = f"Sandbox: {measure.name}"
    if measure.enforced:
        return Check(name, Status.OK, measure.detail)
    remedy = "Use Linux 5.13 or later, in a container that does not forbid it."
    return Check(name, Status.WARN, f"not enforced: {measure.detail}", remedy)


def check_engine(services: "Services") -> list[Check]:
    """Tell what the engine runs on, and transcribe a clip made on the spot."""
    from tympan.pipeline import RequestContext  # noqa: PLC0415

    started = time.monotonic()
    options = Options(language="en", beam_size=1, vad=None, temperature_fallback=False, timestamps=Timestamps.NONE)
    with _clip() as path:
        services.transcriber.transcribe(path, options, RequestContext(request_id=uuid.uuid4().hex))
    took_ms = (time.monotonic() - started) * 1000
    info = services.transcriber.info
    place = (
        f"{info.engine}: {info.model} on {info.device}, {info.compute_type}, threads: {info.threads}" if info else "?"
    )
    return [
        Check("Engine", Status.OK, place),
        Check("Transcription", Status.OK, f"{_CLIP_S:.0f} s of audio transcribed in {took_ms:.0f} ms"),
    ]


def _wrong_length(detail: str) -> Check:
    return Check("Decoder", Status.FAIL, detail, "Reinstall Tympan; the media library does not work as it should.")


def clip_bytes() -> bytes:
    """Return a WAV file with one second of a tone."""
    height = (
        _TONE_HEIGHT * math.sin(math.tau * _TONE_HZ * n / SAMPLE_RATE_HZ) for n in range(int(_CLIP_S * SAMPLE_RATE_HZ))
    )
    samples = array("h", (round(value) for value in height))
    if sys.byteorder == "big":
        samples.byteswap()
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())
    return target.getvalue()


@contextmanager
def _clip() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tympan-") as folder:
        path = Path(folder) / "tone.wav"
        path.write_bytes(clip_bytes())
        yield path
