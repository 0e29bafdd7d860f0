"""Samples of voices, heard before what they are for: decoded like any upload, bounded, and nothing of them is kept."""

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from tympan.diarize.base import Heard, Voices
from tympan.diarize.known import packed, sampled
from tympan.diarize.tracks import Tracker
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import InvalidRequest, MediaError, TooLong
from tympan.pipeline.request import RequestContext
from tympan.pipeline.voices import VoiceDesk, patient

SHORTEST_S, LONGEST_S = 2.0, 30.0
"""How long a sample is. Of less a voice is not known well; more tells nothing new."""

LEAST_SPEECH_S = 1.0
"""So much speech has to be in it."""

LEAST_SHARE = 0.75
"""So large a part of the speech has to be of one voice."""

PARAM: Final = "known_speaker_references"
_REMEDY = f"Send {SHORTEST_S:g} to {LONGEST_S:g} s in which nobody else speaks, in any format that is taken as audio."


class SampleSource(Protocol):
    """Where the audio of a sample comes from: the sandboxed decoder."""

    def stream(self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool]) -> "Blocks":
        """Yield the file's samples. Raises ``MediaError`` and its kin, ``TooLong``."""
        ...


class Blocks(Protocol):
    """Audio on its way out of a decoder."""

    def __iter__(self) -> "Blocks":
        """Return this."""
        ...

    def __next__(self) -> Samples:
        """Return the next samples."""
        ...

    def close(self) -> None:
        """End the decoder."""
        ...


class Introductions:
    """Hears samples; safe to share between threads."""

    def __init__(self, source: SampleSource, desk: VoiceDesk) -> None:
        """Decode with ``source``, and hear at ``desk`` what it gives."""
        self._source, self._desk = source, desk

    def heard(self, samples: Mapping[str, Path], context: RequestContext) -> dict[str, str]:
        """Return the voices in these files by what the files are called here; blocks.

        Raises ``InvalidRequest`` and ``MediaError`` and its kin for one that is no sample of a voice,
        ``ModelUnavailable`` and its kin, ``Cancelled`` and ``RequestTimeout``.
        """
        return {name: self._voice(place, path, context) for place, (name, path) in enumerate(samples.items(), 1)}

    def _voice(self, place: int, path: Path, context: RequestContext) -> str:
        audio = self._decoded(place, path, context)
        networks = self._desk.networks(context)
        found = sampled(patient(self._desk.begin(lambda: _tracked(networks, audio)), context))
        if found.voice is None or found.speech_s < LEAST_SPEECH_S:
            raise _bad(place, f"holds less than {LEAST_SPEECH_S:g} s of speech")
        if found.share < LEAST_SHARE:
            raise _bad(place, "holds more than one voice")
        return packed(found.voice)

    def _decoded(self, place: int, path: Path, context: RequestContext) -> Samples:
        stream = self._source.stream(path, max_audio_s=LONGEST_S, cancelled=context.cancel.is_set)
        blocks = []
        try:
            with closing(stream):
                for block in stream:
                    context.check()
                    blocks.append(block)
        except TooLong as error:
            raise _bad(place, f"is longer than {LONGEST_S:g} s") from error
        except MediaError as error:
            raise type(error)(f"Sample {place}: {error.message}", param=PARAM, remedy=_REMEDY) from error
        audio = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
        if len(audio) < SHORTEST_S * SAMPLE_RATE_HZ:
            raise _bad(place, f"is shorter than {SHORTEST_S:g} s")
        return audio


def _tracked(networks: Voices, audio: Samples) -> Heard:
    tracker = Tracker(networks)
    tracker.push(audio)
    return tracker.finish()


def _bad(place: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"Sample {place} of a voice {what}.", param=PARAM, remedy=_REMEDY)
