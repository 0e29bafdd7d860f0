"""What hears voices for a process, from settings: nothing of it is loaded, nor imported, before somebody asks."""

from collections.abc import Iterator
from contextlib import contextmanager

from tympan.audio.decode import Decoder
from tympan.config import Settings
from tympan.diarize.base import Voices
from tympan.engine.store import Report
from tympan.pipeline.introductions import Introductions
from tympan.pipeline.voices import VoiceDesk

_SAMPLES_AT_ONCE = 4


@contextmanager
def hearing(settings: Settings, report: Report) -> Iterator[VoiceDesk]:
    """Yield what hears voices for all requests; ``report`` is told when the networks have to be fetched."""

    def load() -> Voices:
        from tympan.bootstrap.diarization import load_networks  # noqa: PLC0415

        return load_networks(settings, report=report)

    desk = VoiceDesk(load, settings.diarize_threads)
    try:
        yield desk
    finally:
        desk.close()


@contextmanager
def introducing(desk: VoiceDesk) -> Iterator[Introductions]:
    """Yield what hears samples of voices at ``desk``; its decoder starts when somebody first sends one."""
    decoder = Decoder(max_children=_SAMPLES_AT_ONCE)
    try:
        yield Introductions(decoder, desk)
    finally:
        decoder.close()
