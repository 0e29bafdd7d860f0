"""Servers for the tests of live speech: every word can be read off the samples, as in `tests/live_support.py`."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from tests.api.support import Site, wait_for
from tests.live_support import HearsLoudness, desk
from tests.pipeline_support import ArraySource, WindowDesk
from tympan.domain import Samples
from tympan.pipeline import Transcriber

MakeSite = Callable[..., Site]
Message = dict[str, Any]


def readable(service: WindowDesk | None = None) -> Transcriber:
    """Return a pipeline that reads words off samples."""
    return Transcriber(ArraySource([]), HearsLoudness(), service or desk())


@contextmanager
def dialled(site: Site, path: str, **options: Any) -> Iterator[ClientConnection]:
    """Yield a WebSocket to ``path``; at the end the server has let go of it."""
    with connect(site.url.replace("http", "ws", 1) + path, **options) as socket:
        yield socket
    wait_for(lambda: site.services.live.count == 0)


def said(socket: ClientConnection, until: str, limit_s: float = 30.0) -> list[Message]:
    """Return the messages up to the first of type ``until``."""
    messages: list[Message] = []
    while not messages or messages[-1]["type"] != until:
        messages.append(json.loads(socket.recv(timeout=limit_s)))
    return messages


def tell(socket: ClientConnection, kind: str, **values: object) -> None:
    """Send a message."""
    socket.send(json.dumps({"type": kind, **values}))


def at_24k(samples: Samples) -> Samples:
    """Return samples at OpenAI's rate; every second is doubled, so that words are as loud as they were."""
    return samples[np.arange(len(samples) * 3 // 2) * 2 // 3]


def append(socket: ClientConnection, samples: Samples, block: int = 4800) -> None:
    """Send audio as OpenAI's clients do."""
    for at in range(0, len(samples), block):
        audio = base64.b64encode(samples[at : at + block].astype("<i2").tobytes()).decode()
        tell(socket, "input_audio_buffer.append", audio=audio)
