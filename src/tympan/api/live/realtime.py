"""``/v1/realtime``: OpenAI's realtime protocol for transcription, over a WebSocket."""

import base64
import binascii
import time
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from tympan.api.live import door as live_door
from tympan.api.live.dialect import Act, Commit, Hear, JsonObject, Reopen, Say, Wish, parsed
from tympan.api.live.realtime_items import CommitEmpty, Items, Mark, error_of
from tympan.api.live.realtime_session import RealtimeSettings, from_old, shown, shown_as_old, updated
from tympan.errors import InvalidRequest, TympanError, UnsupportedOption
from tympan.live import Event

PATH = "/v1/realtime"

_LEAST_COMMIT_S = 0.1
_MAX_EVENT_ID_CHARS = 512

CheckWish = Callable[[Wish], str]
"""Returns the id of the model that a wish is for; raises ``TympanError`` when it cannot be fulfilled."""

_Message = Mapping[str, Any]


class RealtimeTalk:
    """One conversation in OpenAI's realtime protocol, as far as it is about transcription."""

    def __init__(self, model: str | None, check: CheckWish, session_s: float, *, old: bool = False) -> None:
        """Begin with our defaults and the ``model`` of the address, if it names one.

        ``old`` speaks the protocol as it was in its beta, as far as its names differ. Raises what ``check`` raises.
        """
        self._check = check
        self._old = old
        self._settings = RealtimeSettings(model=model)
        self.model = check(self._settings.wish)
        self._items = Items(_new_id, manual=False, old=old)
        self._unmarked_s = 0.0
        self._heard = False
        self._id = _new_id("sess")
        self._expires_at = int(time.time() + session_s)

    @property
    def wish(self) -> Wish:
        """What the client wants now."""
        return self._settings.wish

    def greet(self) -> list[JsonObject]:
        """Return the event that tells the settings."""
        return [self._session_event("created")]

    def take_text(self, text: str) -> list[Act]:
        """Return what an event of the client asks for; its mistakes are answered by an ``error`` event."""
        event_id: str | None = None
        try:
            message = parsed(text)
            event_id = _event_id(message)
            kind = message.get("type")
            handle = _HANDLERS.get(kind) if isinstance(kind, str) else None
            if handle is None:
                raise UnsupportedOption(
                    f"Events of the type {str(kind)[:64]!r} are not accepted in a transcription session.", param="type"
                )
            return handle(self, message, event_id)
        except TympanError as error:
            return [Say(self._whole(error_of(error, event_id)))]

    def take_bytes(self, data: bytes) -> list[Act]:
        """Return the answer to a binary message: this protocol has none."""
        error = InvalidRequest("Binary messages are not accepted.", remedy="Send input_audio_buffer.append events.")
        return [Say(self._whole(error_of(error, None)))]

    def tell(self, event: Event) -> list[JsonObject]:
        """Return how an event of the session is told."""
        return [self._whole(message) for message in self._items.tell(event)]

    def tell_error(self, error: TympanError) -> JsonObject:
        """Return how it is told that the conversation ends."""
        return self._whole(error_of(error, None))

    def reopened(self, after_s: float) -> None:
        """Take note that the settings are in force."""
        self._items.reopened(after_s, manual=self._settings.turns is None)

    def update(self, message: _Message, _event_id: str | None) -> list[Act]:
        """Change settings, all that are named or none."""
        return self._update(message.get("session"))

    def update_old(self, message: _Message, _event_id: str | None) -> list[Act]:
        """Change settings as the older protocol names them; from now on it is spoken."""
        self._old = self._items.old = True
        return self._update(from_old(message.get("session")))

    def append(self, message: _Message, _event_id: str | None) -> list[Act]:
        """Take audio."""
        audio = message.get("audio")
        try:
            data = base64.b64decode(audio if isinstance(audio, str) else "!", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("The audio is not base64.", param="audio") from None
        if not data:
            return []
        self._unmarked_s += self.wish.seconds_of(len(data))
        self._heard = True
        return [Hear(data)]

    def commit(self, _message: _Message, event_id: str | None) -> list[Act]:
        """Make an item of the audio so far."""
        if self._unmarked_s < _LEAST_COMMIT_S:
            raise CommitEmpty(f"The audio buffer holds {self._unmarked_s * 1000:.0f} ms of audio, and needs 100 ms.")
        return self._mark(Mark.COMMIT, event_id)

    def clear(self, _message: _Message, event_id: str | None) -> list[Act]:
        """Forget the audio so far."""
        if not self._heard:
            return [Say(self._whole({"type": "input_audio_buffer.cleared"}))]
        return self._mark(Mark.CLEAR, event_id)

    def _mark(self, mark: Mark, event_id: str | None) -> list[Act]:
        self._unmarked_s = 0.0
        self._items.mark(mark, event_id)
        return [Commit()]

    def _update(self, session: object) -> list[Act]:
        settings = updated(self._settings, session)
        model = self._check(settings.wish)
        has_changed = settings != self._settings
        self._settings, self.model = settings, model
        answer = Say(self._session_event("updated"))
        return [Reopen(), answer] if has_changed else [answer]

    def _session_event(self, what: str) -> JsonObject:
        facts = {"id": self._id, "object": "realtime.transcription_session", "expires_at": self._expires_at}
        if self._old:
            name, settings = "transcription_session", shown_as_old(self._settings, self.model)
        else:
            name, settings = "session", {"type": "transcription", **shown(self._settings, self.model)}
        return self._whole({"type": f"{name}.{what}", "session": {**facts, **settings}})

    def _whole(self, message: JsonObject) -> JsonObject:
        return {"event_id": _new_id("event"), **message}


_HANDLERS: Mapping[str, Callable[[RealtimeTalk, _Message, str | None], list[Act]]] = MappingProxyType(
    {
        "session.update": RealtimeTalk.update,
        "transcription_session.update": RealtimeTalk.update_old,
        "input_audio_buffer.append": RealtimeTalk.append,
        "input_audio_buffer.commit": RealtimeTalk.commit,
        "input_audio_buffer.clear": RealtimeTalk.clear,
    }
)


async def realtime(socket: WebSocket) -> None:
    """Transcribe while somebody speaks, in OpenAI's realtime protocol."""
    await live_door.serve(socket, _greeted, PATH)


def _greeted(visit: live_door.Visit) -> RealtimeTalk:
    query = visit.query("intent", "model")
    query.choice("intent", ("transcription",), "transcription")
    model = query.text("model", max_chars=live_door.MAX_NAME_CHARS)
    old = visit.socket.headers.get("openai-beta", "").strip() == "realtime=v1"
    return RealtimeTalk(model, visit.check, visit.session_s, old=old)


def _event_id(message: _Message) -> str | None:
    given = message.get("event_id")
    if given is not None and (not isinstance(given, str) or len(given) > _MAX_EVENT_ID_CHARS):
        raise InvalidRequest(f"event_id is not a text of at most {_MAX_EVENT_ID_CHARS} characters.", param="event_id")
    return given


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"


route = WebSocketRoute(PATH, realtime)
