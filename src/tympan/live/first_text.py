"""How soon the first words of an utterance are there, for operators."""

from collections.abc import Callable

from tympan import telemetry
from tympan.live.events import Event, Final, Lost, Partial, SpeechStarted


class FirstText:
    """Passes events on, and takes note of how long after an utterance was noticed its first words follow."""

    def __init__(self, put: Callable[[Event], None], clock: Callable[[], float]) -> None:
        """Pass events to ``put``; ``clock`` tells seconds."""
        self._put, self._clock = put, clock
        self._begun: dict[int, float] = {}

    def __call__(self, event: Event) -> None:
        """Pass one event on."""
        if isinstance(event, SpeechStarted):
            self._begun[event.utterance] = self._clock()
        elif isinstance(event, Partial | Final) and event.text and event.utterance in self._begun:
            telemetry.record_first_text("live", self._clock() - self._begun.pop(event.utterance))
        elif isinstance(event, Final | Lost):
            self._begun.pop(event.utterance, None)
        self._put(event)
