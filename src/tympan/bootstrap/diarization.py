"""Who spoke in a file: the networks fetched and loaded, the file decoded, its turns found."""

from pathlib import Path

from tympan.audio.decode import Decoder
from tympan.config import Settings
from tympan.diarize.clustering import Crowd
from tympan.diarize.networks import Networks
from tympan.diarize.recording import Recording
from tympan.domain import Turn
from tympan.engine.catalogue import DIARIZATION
from tympan.engine.models import Access, obtain
from tympan.engine.store import Report, silent
from tympan.turns import names, rttm

__all__ = ["Crowd", "Networks", "Turn", "load_networks", "names", "rttm", "turns_of"]


def load_networks(settings: Settings, threads: int = 1, report: Report = silent) -> Networks:
    """Return the networks, which are fetched first when they are not there yet; each call runs on ``threads``.

    Raises ``ModelUnavailable``, ``ModelDigestMismatch`` or ``InsufficientStorage``.
    """
    found = obtain(DIARIZATION, settings.data_dir, Access(offline=settings.offline), report)
    return Networks.load(found.path, threads)


def turns_of(
    path: Path, decoder: Decoder, networks: Networks, crowd: Crowd, max_audio_s: float
) -> tuple[list[Turn], float]:
    """Return who speaks when in a file of any format, and how long it is in seconds; channels are mixed.

    Raises ``MediaError`` and its kin, ``TooLong``.
    """
    recording = Recording(networks)
    for samples in decoder.stream(path, max_audio_s=max_audio_s):
        recording.push(samples)
    return recording.finish(crowd), recording.audio_s
