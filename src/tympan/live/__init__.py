"""Speech as it is spoken: samples in, partial and final words out, with nothing of HTTP in it."""

from tympan.live.events import Ended, Event, Final, Lost, Partial, SpeechStarted, SpeechStopped
from tympan.live.options import LiveLimits, LiveOptions, Turns
from tympan.live.session import LiveSession

__all__ = [
    "Ended",
    "Event",
    "Final",
    "LiveLimits",
    "LiveOptions",
    "LiveSession",
    "Lost",
    "Partial",
    "SpeechStarted",
    "SpeechStopped",
    "Turns",
]
