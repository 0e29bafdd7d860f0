"""Live speech over a WebSocket: what the way through a server adds to a session, alone and beside other work."""

import itertools
import json
import math
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from benchmarks.live import (
    FINAL_GOAL_S,
    GAP_S,
    LATENCY_MODEL,
    PARTIAL_GOAL_S,
    spread_text,
    summary,
    track_of,
    within,
    written,
)
from benchmarks.live_streams import Delays, Seen, delays, studio
from benchmarks.scoring import Clip, licences
from benchmarks.server import Server
from benchmarks.setup import Setup
from benchmarks.store import Check, say, write_result
from tympan.domain import SAMPLE_RATE_HZ, Samples, Word
from tympan.live import Event, Final, Partial

ROUNDS = 3
TRACK_S = 30.0
LOADERS = 2
_BLOCK = SAMPLE_RATE_HZ // 10
_WAYS = ("in process", "over a WebSocket", "over a WebSocket, beside long files")
INTRO = (
    "Seconds (median / p95 / greatest) from the end of a word until it is first read, until it is stable, and from the "
    "end of an utterance's last word until its final text. One stream at the pace of speech, with "
    f"`{LATENCY_MODEL}`. The same audio is heard by a session in the measuring process and, in the same round, by a "
    f"server through `/v1/stream`: alone, and while {LOADERS} callers have long files transcribed one after the other."
)


def run(setup: Setup) -> Path:
    """Measure, write ``live_socket.json`` and return its path."""
    clips = [clip for clip in setup.clips("a_english_read") if clip.language == "en" and clip.reference]
    long = [clip for clip in setup.clips("b_longform") if clip.language == "en"]
    rounds, track_s = (1, 8.0) if setup.quick else (ROUNDS, TRACK_S)
    steps = setup.steps("live_socket", f"{rounds} {track_s}")
    found = [
        steps.value(f"round {number}", partial(_round, setup, clips, long, number, track_s)) for number in range(rounds)
    ]
    rows = [_row(way, [Delays(**one[way]) for one in found]) for way in _WAYS]
    payload = {
        "licences": licences([*clips, *long]),
        "rounds": rounds,
        "track_s": track_s,
        "gap_s": GAP_S,
        "rows": rows,
    }
    return write_result(setup.results, "live_socket", payload, checks(rows))


def checks(rows: Sequence[dict[str, Any]]) -> list[Check]:
    """Compare the delays over a socket with their goals, and with those in process."""
    direct, alone, beside = rows
    found = []
    for name, key, goal_s in (("a word is shown", "shown_s", PARTIAL_GOAL_S), ("final text", "final_s", FINAL_GOAL_S)):
        for row in (alone, beside):
            said = spread_text(row[key])
            found.append(Check(f"{row['way']}: {name}", f"p95 <= {goal_s:g} s", said, within(row[key], goal_s)))
        ratio = alone[key]["median"] / (direct[key]["median"] or math.inf)
        found.append(Check(f"{name}: median beside in process", "<= 1.2", f"{ratio:.2f}", ratio <= 1.2))
    return found


def body(result: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield the tables of the page."""

    def cell(values: dict[str, float]) -> str:
        return f"{values['median']:.2f} / {values['p95']:.2f} / {values['max']:.2f}" if values["n"] else "never"

    head = ["session", "shown", "stable", "final", "words"]
    rows = [
        [row["way"], cell(row["shown_s"]), cell(row["stable_s"]), cell(row["final_s"]), row["words"]]
        for row in result["rows"]
    ]
    yield "Delays", head, rows


def _row(way: str, found: Sequence[Delays]) -> dict[str, Any]:
    row = {"way": way, **summary(found)}
    say(f"{way}: shown {spread_text(row['shown_s'])}; final {spread_text(row['final_s'])}")
    return row


def _round(
    setup: Setup, clips: Sequence[Clip], long: Sequence[Clip], number: int, track_s: float
) -> dict[str, dict[str, Any]]:
    with studio(LATENCY_MODEL) as here, tempfile.TemporaryDirectory() as folder:
        track = track_of(here, clips, number, track_s)
        words = here.file_words(written(Path(folder) / "track.wav", track), "en")
        direct = here.at_pace(track, "en", time.monotonic())[0]
    environment = {"TYMPAN_MODEL": LATENCY_MODEL, "TYMPAN_REATTACH_S": "0"}
    with setup.server(f"live-socket-{number}", environment) as server:
        alone = _spoken(server, track)
        with _loaded(server, long):
            beside = _spoken(server, track)
    return dict(zip(_WAYS, (_kept(seen, words) for seen in (direct, alone, beside)), strict=True))


def _kept(seen: Sequence[Seen], words: Sequence[Word]) -> dict[str, Any]:
    found = delays(seen, words)
    return {name: getattr(found, name) for name in Delays.__slots__}


def _spoken(server: Server, track: Samples) -> list[Seen]:
    """Play ``track`` through the server at the pace of speech; return what came back, and when."""
    url = server.base_url.replace("http", "ws", 1) + "/v1/stream?language=en"
    seen: list[Seen] = []
    with connect(url, max_queue=None) as socket:
        json.loads(socket.recv())
        begin_s = time.monotonic()
        player = threading.Thread(target=_play, args=(socket, track, begin_s), daemon=True)
        player.start()
        for message in socket:
            event = _event(json.loads(message))
            if event is not None:
                seen.append(Seen(time.monotonic() - begin_s, event))
        player.join()
    return seen


def _play(socket: ClientConnection, track: Samples, begin_s: float) -> None:
    for at in range(0, len(track), _BLOCK):
        block = track[at : at + _BLOCK]
        time.sleep(max(0.0, begin_s + (at + len(block)) / SAMPLE_RATE_HZ - time.monotonic()))
        socket.send(block.tobytes())
    socket.send('{"type": "finish"}')


def _event(message: dict[str, Any]) -> Event | None:
    """Return the event that a message tells of, as far as delays need it."""
    if message["type"] == "partial":
        words = f"{message['stable']} {message['tail']}".split()
        shown = tuple(Word(f" {word}", 0.0, 0.0, 1.0) for word in words)
        return Partial(message["utterance"], shown, len(message["stable"].split()))
    if message["type"] == "final":
        return Final(message["utterance"], message["start"], message["end"], message["text"], (), message["language"])
    return None


@contextmanager
def _loaded(server: Server, long: Sequence[Clip]) -> Iterator[None]:
    """Have long files transcribed inside the block, by several callers."""
    over = threading.Event()
    callers = [threading.Thread(target=_call, args=(server, long[n::LOADERS], over)) for n in range(LOADERS)]
    for caller in callers:
        caller.start()
    time.sleep(2.0)
    try:
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join()


def _call(server: Server, clips: Sequence[Clip], over: threading.Event) -> None:
    with httpx.Client(base_url=server.base_url, timeout=600) as client:
        for clip in itertools.cycle(clips):
            if over.is_set():
                return
            with clip.path.open("rb") as file:
                client.post("/v1/audio/transcriptions", files={"file": file}).raise_for_status()
