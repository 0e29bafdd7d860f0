"""Diarization of a recording, piece by piece: push its samples, then ask who spoke when."""

from collections.abc import Callable, Sequence

from tympan.diarize import assembly
from tympan.diarize.base import Voices
from tympan.diarize.clustering import Crowd, grouped
from tympan.diarize.known import Known, recognised
from tympan.diarize.tracks import Tracker
from tympan.domain import Samples, Turn


class Recording:
    """One recording. It keeps some 50 MB of what it found in ten hours and no audio; ``finish`` needs as much."""

    def __init__(self, voices: Voices) -> None:
        """Hear with ``voices``."""
        self._tracker = Tracker(voices)

    @property
    def audio_s(self) -> float:
        """How much has been pushed."""
        return self._tracker.audio_s

    def push(self, samples: Samples) -> None:
        """Take the next samples, 16 kHz, one channel; whole windows are heard at once."""
        self._tracker.push(samples)

    def finish(
        self,
        crowd: Crowd,
        cancelled: Callable[[], bool] = lambda: False,
        known: Sequence[Known] = (),
    ) -> list[Turn]:
        """Return who spoke when in all that was pushed, which ends here; turns of whoever is ``known`` have a name.

        Raises ``Cancelled`` once that is told.
        """
        heard = self._tracker.finish()
        groups = grouped(heard.tracks, crowd, cancelled)
        return assembly.turns(heard, groups, recognised(heard.tracks, groups, known))
