"""The events of a live session as OpenAI's realtime protocol tells them: items with deltas and a transcript. Pure.

With turn detection an utterance is an item. Without it an item is what lies between two commits, in as many utterances
as it has; their texts are joined. A delta cannot be taken back, so it holds only words that later partials keep.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from tympan.api.live.dialect import JsonObject
from tympan.domain import TokenChance
from tympan.errors import InvalidRequest, TympanError
from tympan.formats import Trim, logprobs
from tympan.live import Committed, Ended, Event, Final, Lost, Partial, SpeechStarted, SpeechStopped
from tympan.live.events import Cause

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class Mark(Enum):
    """What a client said about the audio before: it is an item, or it is to be forgotten."""

    COMMIT = auto()
    CLEAR = auto()


class CommitEmpty(InvalidRequest):
    """The audio buffer holds less than 100 ms of audio, or no speech."""

    code = "input_audio_buffer_commit_empty"


@dataclass(slots=True)
class _Item:
    """An item: its utterances by number, each with the count of words that were told; ``None`` when it is final."""

    id: str
    told_words: dict[int, int | None] = field(default_factory=dict)
    committed: bool = False
    seconds: float = 0.0
    text: str = ""
    said: str = ""
    language: str | None = None
    tokens: list[TokenChance] = field(default_factory=list)
    failure: TympanError | None = None

    @property
    def done(self) -> bool:
        return self.committed and all(count is None for count in self.told_words.values())

    def first_open(self) -> int | None:
        """Return the first utterance without its final text: only its deltas follow what was said so far."""
        return next((number for number, count in self.told_words.items() if count is not None), None)

    def more(self, text: str) -> str:
        """Return the delta that ``text`` is after what was said, and take note of it."""
        delta = text if self.said else text.lstrip()
        self.said += delta
        return delta


class Items:
    """What one conversation has said about its items."""

    def __init__(self, new_id: Callable[[str], str], *, manual: bool, old: bool) -> None:
        """Start without items. ``new_id`` makes ids of a kind, ``old`` chooses the older protocol's names of events."""
        self._new_id = new_id
        self.manual, self.old = manual, old
        self._marks: deque[tuple[Mark, str | None]] = deque()
        self._items: dict[int, _Item] = {}
        self._open: _Item | None = None
        self._previous: str | None = None
        self._base_s = self._marked_s = 0.0

    def mark(self, mark: Mark, event_id: str | None) -> None:
        """Take note that a commit was sent to the session, and what the client meant by it."""
        self._marks.append((mark, event_id))

    def reopened(self, after_s: float, *, manual: bool) -> None:
        """Go on with the next session, ``after_s`` behind the start of the last; what is not committed yet stays so."""
        self._base_s += after_s
        self._marked_s -= after_s
        self._items.clear()
        if self._open is not None:
            self._open.told_words.clear()
        if manual != self.manual:
            self.manual, self._open = manual, None

    def tell(self, event: Event) -> Iterator[JsonObject]:
        """Yield the messages for one event; ``error`` messages lack what is put around them."""
        if isinstance(event, SpeechStarted):
            yield from self._started(event)
        elif isinstance(event, Partial):
            yield from self._delta(event)
        elif isinstance(event, SpeechStopped):
            yield from self._stopped(event)
        elif isinstance(event, Committed):
            yield from self._committed(event)
        elif not isinstance(event, Ended):
            yield from self._settled(event)

    def _started(self, event: SpeechStarted) -> Iterator[JsonObject]:
        if self.manual:
            self._open = self._open or _Item(self._new_id("item"))
            self._open.told_words[event.utterance] = 0
            self._items[event.utterance] = self._open
            return
        item = self._items[event.utterance] = _Item(self._new_id("item"), {event.utterance: 0})
        yield {
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": self._ms(event.at_s),
            "item_id": item.id,
        }

    def _delta(self, event: Partial) -> Iterator[JsonObject]:
        item = self._items.get(event.utterance)
        if item is None or item.first_open() != event.utterance:
            return
        told = item.told_words[event.utterance] or 0
        delta = item.more("".join(word.text for word in event.words[told : event.n_stable]))
        item.told_words[event.utterance] = max(told, event.n_stable)
        if delta:
            yield self._message("delta", item, delta=delta)

    def _stopped(self, event: SpeechStopped) -> Iterator[JsonObject]:
        item = self._items.get(event.utterance)
        if item is None or self.manual:
            return
        if event.cause is Cause.COMMIT and self._marks and self._marks[0][0] is Mark.CLEAR:
            del self._items[event.utterance]
            return
        yield {
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": self._ms(event.at_s),
            "item_id": item.id,
        }
        yield from self._commit(item)

    def _committed(self, event: Committed) -> Iterator[JsonObject]:
        mark, event_id = self._marks.popleft()
        item, self._open = self._open, None
        since_s, self._marked_s = event.at_s - self._marked_s, event.at_s
        if mark is Mark.CLEAR:
            for number in item.told_words if item else ():
                self._items.pop(number, None)
            yield {"type": "input_audio_buffer.cleared"}
        elif self.manual:
            item = item or _Item(self._new_id("item"))
            item.seconds = since_s
            yield from self._commit(item)
            yield from self._complete(item)
        elif event.utterance is None:
            yield error_of(CommitEmpty("There is no speech to commit."), event_id)

    def _commit(self, item: _Item) -> Iterator[JsonObject]:
        item.committed = True
        previous, self._previous = self._previous, item.id
        yield {"type": "input_audio_buffer.committed", "item_id": item.id, "previous_item_id": previous}
        names = ("created",) if self.old else ("added", "done")
        for name in names:
            content = [{"type": "input_audio", "transcript": None}]
            shown = {"id": item.id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
            yield {
                "type": f"conversation.item.{name}",
                "previous_item_id": previous,
                "item": {**shown, "content": content},
            }

    def _settled(self, event: Final | Lost) -> Iterator[JsonObject]:
        item = self._items.pop(event.utterance, None)
        if item is None:
            return
        item.told_words[event.utterance] = None
        if not self.manual:
            item.seconds = event.end_s - event.start_s
        if isinstance(event, Lost):
            item.failure = event.error
        else:
            item.language = item.language or event.language
            item.text += "".join(segment.text for segment in event.segments)
            item.tokens += [token for segment in event.segments for token in segment.token_chances]
            text = item.text.strip()
            # Where the final text goes on as the deltas began, they end with it as well.
            if text.startswith(item.said) and (delta := item.more(text[len(item.said) :])):
                yield self._message("delta", item, delta=delta)
        yield from self._complete(item)

    def _complete(self, item: _Item) -> Iterator[JsonObject]:
        if not item.done:
            return
        if item.failure is not None:
            yield self._message("failed", item, error=_described(item.failure))
            return
        languages = {"languages": [{"code": item.language}]} if item.language else {}
        usage = {"type": "duration", "seconds": round(item.seconds, 3)}
        chances = {"logprobs": logprobs(Trim().some(item.tokens))} if item.tokens else {}
        yield self._message("completed", item, transcript=item.text.strip(), usage=usage, **languages, **chances)

    def _message(self, kind: str, item: _Item, **values: object) -> JsonObject:
        return {"type": f"{_TRANSCRIPTION}.{kind}", "item_id": item.id, "content_index": 0, **values}

    def _ms(self, at_s: float) -> int:
        return round((self._base_s + at_s) * 1000)


def error_of(error: TympanError, event_id: str | None) -> JsonObject:
    """Return OpenAI's ``error`` event; ``event_id`` is that of the client's event that it is about."""
    return {"type": "error", "error": {**_described(error), "event_id": event_id}}


def _described(error: TympanError) -> JsonObject:
    kind = "invalid_request_error" if isinstance(error, InvalidRequest) else "server_error"
    return {"type": kind, "code": error.code, "message": str(error), "param": error.param}
