"""The events of a live session as the simple protocol tells them, in JSON. Times are in seconds. Pure."""

from functools import singledispatch

from tympan.api.live.dialect import JsonObject
from tympan.domain import Segment, Word
from tympan.live import Committed, Ended, Event, Final, Lost, Partial, SpeechStarted, SpeechStopped


def message_of(event: Event, *, words: bool) -> JsonObject:
    """Return the message that tells of an event; ``words`` lists those of a final's segments."""
    message = _told(event)
    if words and isinstance(event, Final):
        for told, segment in zip(message["segments"], event.segments, strict=True):
            told["words"] = [_word(word) for word in segment.words]
    return message


@singledispatch
def _told(event: object) -> JsonObject:
    raise TypeError(f"There is no message for {type(event).__name__}.")


@_told.register
def _(event: SpeechStarted) -> JsonObject:
    return {"type": "speech_started", "utterance": event.utterance, "at": _s(event.at_s)}


@_told.register
def _(event: Partial) -> JsonObject:
    return {"type": "partial", "utterance": event.utterance, "stable": event.stable, "tail": event.tail}


@_told.register
def _(event: SpeechStopped) -> JsonObject:
    return {
        "type": "speech_stopped",
        "utterance": event.utterance,
        "at": _s(event.at_s),
        "cause": event.cause.value,
    }


@_told.register
def _(event: Committed) -> JsonObject:
    return {"type": "committed", "utterance": event.utterance, "at": _s(event.at_s)}


@_told.register
def _(event: Final) -> JsonObject:
    return {
        "type": "final",
        "utterance": event.utterance,
        "start": _s(event.start_s),
        "end": _s(event.end_s),
        "text": event.text,
        "language": event.language,
        "segments": [_segment(segment) for segment in event.segments],
    }


@_told.register
def _(event: Lost) -> JsonObject:
    return {
        "type": "lost",
        "utterance": event.utterance,
        "start": _s(event.start_s),
        "end": _s(event.end_s),
        "error": {"message": str(event.error), "code": event.error.code},
    }


@_told.register
def _(event: Ended) -> JsonObject:
    whole = event.transcript
    return {
        "type": "ended",
        "text": whole.text,
        "language": whole.language,
        "model": whole.model,
        "audio_duration": _s(whole.accounting.audio_s),
        "speech_duration": _s(whole.accounting.speech_s),
    }


def _segment(segment: Segment) -> JsonObject:
    return {
        "id": segment.id,
        "start": _s(segment.start_s),
        "end": _s(segment.end_s),
        "text": segment.text.strip(),
        "avg_logprob": round(segment.avg_logprob, 4),
        "no_speech_prob": round(segment.no_speech_prob, 4),
    }


def _word(word: Word) -> JsonObject:
    return {
        "word": word.text.strip(),
        "start": _s(word.start_s),
        "end": _s(word.end_s),
        "probability": round(word.probability, 4),
    }


def _s(seconds: float) -> float:
    return round(seconds, 3)
