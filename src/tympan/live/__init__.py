"""Speech as it is spoken: samples in, partial and final words out, with nothing of HTTP in it."""

from tympan.live.encodings import AudioStream, Encoding
from tympan.live.events import Committed, Ended, Event, Final, Lost, Partial, SpeechStarted, SpeechStopped
from tympan.live.options import LiveLimits, LiveOptions, Turns
from tympan.live.resampling import check_rate
from tympan.live.session import LiveSession

__all__ = [
    "AudioStream",
    "Committed",
    "Encoding",
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
    "check_rate",
]
