"""``/v1/stream``: live speech with as little protocol as possible. Samples in as binary messages, JSON out."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from tympan.api.fields.forms import Form
from tympan.api.live import door as live_door
from tympan.api.live.dialect import Act, Commit, Finish, Hear, JsonObject, Reopen, Say, Wish, parsed
from tympan.api.live.realtime import CheckWish
from tympan.api.live.stream_messages import message_of
from tympan.domain import Options, Timestamps
from tympan.errors import Conflict, InvalidRequest, TympanError
from tympan.languages import language_code
from tympan.live import Encoding, Event, LiveOptions, Turns, check_rate

PATH = "/v1/stream"
RATE_HZ = 16_000
_PHONE_RATE_HZ = 8_000
_MAX_TEXT_CHARS = 10_000

OPTIONS: Mapping[str, str] = {
    "model": "The model, by any of its names. Left out: the default.",
    "language": "Language spoken, as `en` or `German`. Left out: detected.",
    "prompt": "Text that the speech follows, or that is written as yours is to be.",
    "hotwords": "Words to expect.",
    "encoding": "`pcm_s16le` (16 bits, little-endian), `mulaw` or `alaw` (G.711); always one channel.",
    "sample_rate": "Samples per second: a multiple of 25 from 8000 to 48000. 16000, and 8000 for G.711.",
    "partials": "Whether to tell what was said before an utterance has ended: `true`.",
    "words": "Whether segments of finals list their words with times: `false`.",
    "turn_detection": "Whether a pause ends an utterance: `true`. Without it only `commit` does, or 20 s.",
    "threshold": "How sure speech has to be, 0.05 to 0.95: 0.5.",
    "prefix_padding_ms": "Audio before the first sound that belongs to an utterance, 0 to 2000: 300.",
    "silence_ms": "Silence that ends an utterance, 100 to 10000; with less than 800 words suffer: 800.",
}
"""What the address or a ``start`` message may set, with the defaults."""

_TURN_KNOBS = ("threshold", "prefix_padding_ms", "silence_ms")


class StreamTalk:
    """One conversation in the simple protocol."""

    def __init__(self, form: Form, check: CheckWish, session_id: str) -> None:
        """Begin with the options in the address. Raises ``InvalidRequest``, and what ``check`` raises."""
        self._check, self._id = check, session_id
        self._wish = wish_of(form)
        self.model = check(self._wish)
        self._has_heard = self._has_finished = False

    @property
    def wish(self) -> Wish:
        """What the client wants."""
        return self._wish

    def greet(self) -> list[JsonObject]:
        """Return the message that says what is expected."""
        return [self._ready()]

    def take_text(self, text: str) -> list[Act]:
        """Return what a message asks for; what is wrong with it is answered, and changes nothing."""
        try:
            message = parsed(text)
            kind = message.get("type")
            if kind == "start":
                return self._start({name: value for name, value in message.items() if name != "type"})
            if len(message) != 1 or kind not in ("commit", "finish"):
                raise InvalidRequest(
                    f"A message of the type {str(kind)[:64]!r} with these fields is not known.",
                    remedy='Send {"type": "start", ...}, {"type": "commit"} or {"type": "finish"}.',
                )
            self._check_open()
        except TympanError as error:
            return [Say(self.tell_error(error))]
        self._has_heard = True
        self._has_finished = kind == "finish"
        return [Finish() if self._has_finished else Commit()]

    def take_bytes(self, data: bytes) -> list[Act]:
        """Return that audio is to be heard."""
        try:
            self._check_open()
        except TympanError as error:
            return [Say(self.tell_error(error))]
        self._has_heard = True
        return [Hear(data)]

    def tell(self, event: Event) -> list[JsonObject]:
        """Return how an event of the session is told."""
        return [message_of(event, words=self._wish.options.timestamps is Timestamps.WORD)]

    def tell_error(self, error: TympanError) -> JsonObject:
        """Return how it is told that something is wrong."""
        described = {"message": str(error), "param": error.param, "code": error.code}
        return {"type": "error", "error": described}

    def reopened(self, after_s: float) -> None:
        """Take note that options are in force: they change only before any audio."""

    def _start(self, given: Mapping[str, Any]) -> list[Act]:
        if self._has_heard:
            raise Conflict("The options cannot change once audio was sent.", remedy="Open another connection.")
        wish = wish_of(_form(given))
        self.model = self._check(wish)
        self._wish = wish
        return [Reopen(), Say(self._ready())]

    def _check_open(self) -> None:
        if self._has_finished:
            raise Conflict("Nothing is accepted after `finish`.", remedy="Open another connection.")

    def _ready(self) -> JsonObject:
        wish = self._wish
        return {
            "type": "ready",
            "id": self._id,
            "model": self.model,
            "language": wish.options.language,
            "encoding": wish.encoding.value,
            "sample_rate": wish.rate_hz,
        }


def wish_of(form: Form) -> Wish:
    """Return what the options in an address or a ``start`` message ask for. Raises ``InvalidRequest``."""
    encoding = Encoding(form.choice("encoding", [each.value for each in Encoding], Encoding.PCM_S16LE.value))
    usual = RATE_HZ if encoding is Encoding.PCM_S16LE else _PHONE_RATE_HZ
    language = form.text("language", max_chars=live_door.MAX_NAME_CHARS)
    options = Options(
        language=language_code(language) if language else None,
        prompt=form.text("prompt", max_chars=_MAX_TEXT_CHARS),
        hotwords=form.text("hotwords", max_chars=_MAX_TEXT_CHARS),
        timestamps=Timestamps.WORD if form.flag("words", default=False) else Timestamps.SEGMENT,
    )
    return Wish(
        model=form.text("model", max_chars=live_door.MAX_NAME_CHARS),
        options=options,
        live=LiveOptions(_turns(form), form.flag("partials", default=True)),
        encoding=encoding,
        rate_hz=check_rate(form.integer("sample_rate", 1, 1_000_000) or usual),
    )


def _turns(form: Form) -> Turns | None:
    if not form.flag("turn_detection", default=True):
        for name in _TURN_KNOBS:
            if form.all(name):
                raise InvalidRequest(f"{name} needs turn_detection.", param=name, remedy="Leave one of them out.")
        return None
    given = {name: form.number(name, 0, 60_000) for name in _TURN_KNOBS}
    knobs = {name: value for name, value in given.items() if value is not None}
    default = Turns()
    return Turns(
        threshold=knobs.get("threshold", default.threshold),
        prefix_padding_ms=round(knobs.get("prefix_padding_ms", default.prefix_padding_ms)),
        silence_ms=round(knobs.get("silence_ms", default.silence_ms)),
    )


def _form(given: Mapping[str, Any]) -> Form:
    """Return the fields of a JSON message as those of an address, so that both are read in one way."""
    raw: dict[str, list[str]] = {}
    for name, value in given.items():
        if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
            raise InvalidRequest(f"{name[:64]} is not a single value.", param=name[:64])
        raw[name] = [] if value is None else [str(value).lower() if isinstance(value, bool) else str(value)]
    form = Form(raw, frozenset(OPTIONS))
    form.refuse_unknown()
    return form


async def stream(socket: WebSocket) -> None:
    """Transcribe while somebody speaks, in the simple protocol."""
    await live_door.serve(socket, _greeted, PATH)


def _greeted(visit: live_door.Visit) -> StreamTalk:
    return StreamTalk(visit.query(*OPTIONS), visit.check, visit.socket.state.request_id)


route = WebSocketRoute(PATH, stream)
"""The route, for the application."""
