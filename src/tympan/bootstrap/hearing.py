"""What hears voices for a process, from settings: nothing of it is loaded, nor imported, before somebody asks."""

from collections.abc import Iterator
from contextlib import contextmanager

from tympan.config import Settings
from tympan.diarize.base import Voices
from tympan.engine.store import Report
from tympan.pipeline.voices import VoiceDesk


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
