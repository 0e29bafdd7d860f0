"""Who spoke in a file: the networks fetched and loaded, the file decoded, its turns found."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tympan.audio.decode import Decoder
from tympan.config import Settings
from tympan.diarize.clustering import Crowd
from tympan.diarize.known import Known, unpacked
from tympan.diarize.networks import Networks
from tympan.diarize.recording import Recording
from tympan.domain import Turn
from tympan.engine.catalogue import DIARIZATION
from tympan.engine.models import Access, obtain
from tympan.engine.store import Report, silent
from tympan.pipeline import RequestContext
from tympan.pipeline.introductions import Introductions
from tympan.pipeline.voices import VoiceDesk
from tympan.turns import names, rttm

__all__ = ["Crowd", "Networks", "Turn", "introduced", "load_networks", "names", "rttm", "turns_of"]


def load_networks(settings: Settings, threads: int = 1, report: Report = silent) -> Networks:
    """Return the networks, which are fetched first when they are not there yet; each call runs on ``threads``.

    Raises ``ModelUnavailable``, ``ModelDigestMismatch`` or ``InsufficientStorage``.
    """
    found = obtain(DIARIZATION, settings.data_dir, Access(offline=settings.offline), report)
    return Networks.load(found.path, threads)


def introduced(samples: Mapping[str, Path], decoder: Decoder, networks: Networks) -> Mapping[str, str]:
    """Return the voices in files by the names of the files here. Raises as ``Introductions.heard``."""
    desk = VoiceDesk(lambda: networks)
    try:
        return Introductions(decoder, desk).heard(samples, RequestContext("introduced"))
    finally:
        desk.close()


def turns_of(
    path: Path,
    decoder: Decoder,
    networks: Networks,
    crowd: Crowd,
    max_audio_s: float,
    voices: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[Turn], float]:
    """Return who speaks when in a file of any format, and how long it is in seconds; channels are mixed.

    Who has one of the ``voices`` is called by its name.

    Raises ``MediaError`` and its kin, ``TooLong``.
    """
    recording = Recording(networks)
    for samples in decoder.stream(path, max_audio_s=max_audio_s):
        recording.push(samples)
    known = [Known(name, unpacked(voice)) for name, voice in voices.items()]
    return recording.finish(crowd, known=known), recording.audio_s
