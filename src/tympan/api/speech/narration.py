"""A transcript that is sent while it is made: OpenAI's server-sent events, a delta for every stretch that is done.

All deltas together are the text of the last event, and that is the text of the same request without ``stream``.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from starlette.responses import Response

from tympan import telemetry
from tympan.api.errors import envelope
from tympan.api.fields.transcription import TranscriptionRequest
from tympan.api.wire.mailbox import Mailbox
from tympan.api.wire.streaming import Departure, StreamResponse, Streams
from tympan.domain import Segment, TokenChance, Transcript
from tympan.errors import Cancelled, TympanError
from tympan.formats import Trim, diarized_segment, heard_languages, logprobs, token_usage
from tympan.pipeline import RequestContext

MEDIA_TYPE = "text/event-stream"

KEEP_ALIVE_S = 15.0
"""Longest silence: proxies end connections that say nothing for 30 s or 60 s."""

MAX_UNREAD = 64
"""Stretches of text that may wait for a caller who reads slowly; then the work for this caller waits too."""

_END = b"data: [DONE]\n\n"
_STILL_HERE = b": still here\n\n"

Work: TypeAlias = Callable[[RequestContext], Awaitable[Transcript]]


async def narrated_answer(
    asked: TranscriptionRequest, context: RequestContext, work: Work, streams: Streams
) -> Response:
    """Return an answer that tells of the transcript that ``work`` makes, while it does so.

    ``work`` is given the context in which to tell of segments. Whatever it raises before the first of them is raised.
    """
    narration = Narration(asked, context, work)
    try:
        await narration.begin()
        answer = StreamResponse(streams, narration.pieces, MEDIA_TYPE, narration.close)
    except BaseException:
        narration.close()
        raise
    answer.headers["x-accel-buffering"] = "no"  # A proxy that collected events would make a live stream a late one.
    return answer


class Narration:
    """The events of one transcription for one caller."""

    def __init__(self, asked: TranscriptionRequest, context: RequestContext, work: Work) -> None:
        """Start ``work``."""
        self._story = Story(asked)
        self._mailbox: Mailbox[Sequence[Segment]] = Mailbox(MAX_UNREAD, context.check)
        self._work = asyncio.ensure_future(work(replace(context, on_segments=self._mailbox.put)))
        self._work.add_done_callback(self._ended)

    async def begin(self) -> None:
        """Return when there is something to tell, or after ``KEEP_ALIVE_S``. Raises what the work raises by then."""
        await self._mailbox.wait(KEEP_ALIVE_S)
        if self._work.done():
            self._work.result()

    async def pieces(self, _departure: Departure) -> AsyncGenerator[bytes, None]:
        """Yield events until the transcript is told, or the work has failed, which is the last event then."""
        done = False
        while not done:
            done = self._work.done()  # First: what was put in before the end is taken below.
            told = b"".join(event for news in self._mailbox.take() for event in self._story.told(news))
            if told:
                yield told
            elif not done and not await self._mailbox.wait(KEEP_ALIVE_S):
                yield _STILL_HERE
        try:
            ending = self._story.ended(self._work.result())
        except Cancelled:
            return
        except TympanError as error:
            yield _failed(error)
            return
        except Exception:
            yield _failed(TympanError("Something went wrong inside Tympan."))
            raise
        for event in ending:
            yield event

    def close(self) -> None:
        """Tell no more; work that has not ended is cancelled."""
        self._work.cancel()

    def _ended(self, work: "asyncio.Future[Transcript]") -> None:
        if not work.cancelled():
            work.exception()  # Taken, so that the loop does not report it as lost where nobody listens any more.
        self._mailbox.ring()


class Story:
    """The events of a transcript in the making, and what was said in them. Pure."""

    def __init__(self, asked: TranscriptionRequest) -> None:
        """Have said nothing."""
        self._asked = asked
        self._count = 0
        self._has_begun = False
        self._tokens, self._chances = Trim(), list[TokenChance]()
        self._blank = ""

    def told(self, segments: Iterable[Segment]) -> Iterator[bytes]:
        """Yield the events for segments that come next."""
        group = list(segments)
        self._count += len(group)
        if self._asked.response_format == "diarized_json":
            for segment in group:
                spoken = diarized_segment(segment, self._asked.speakers)
                yield from self._deltas([segment], {"segment_id": spoken["id"]})
                yield _event(spoken)
        else:
            yield from self._deltas(group, {})

    def ended(self, transcript: Transcript) -> Iterator[bytes]:
        """Yield the rest of the events: for what was not told on the way, and the last."""
        yield from self.told(transcript.segments[self._count :])
        done = {"text": transcript.text, **heard_languages(transcript), "usage": token_usage(transcript)}
        yield _event({"type": "transcript.text.done", **done, **self._logprobs(self._chances)})
        yield _END

    def _deltas(self, segments: Sequence[Segment], more: Mapping[str, Any]) -> Iterator[bytes]:
        tokens = self._tokens.some(token for segment in segments for token in segment.token_chances)
        self._chances += tokens
        if delta := self._delta("".join(segment.text for segment in segments)):
            yield _event({"type": "transcript.text.delta", "delta": delta, **more, **self._logprobs(tokens)})

    def _logprobs(self, tokens: Sequence[TokenChance]) -> dict[str, Any]:
        return {"logprobs": logprobs(tokens)} if self._asked.options.token_chances else {}

    def _delta(self, text: str) -> str:
        """Return what is new in ``text``; a space at the end is said once something follows, one at the start never."""
        text = self._blank + text if self._has_begun else text.lstrip()
        delta = text.rstrip()
        self._blank = text[len(delta) :]
        self._has_begun = self._has_begun or bool(delta)
        return delta


def _event(data: dict[str, Any]) -> bytes:
    content = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return f"event: {data['type']}\ndata: {content}\n\n".encode("utf-8", "replace")


def _failed(error: TympanError) -> bytes:
    telemetry.ERROR_CODES.labels(error.code).inc()
    return _event({"type": "error", **envelope(error)})
