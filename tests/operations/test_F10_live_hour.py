"""F10: an hour of speech on one WebSocket, at twenty times its pace; the server's memory is measured from outside."""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.conftest import SpokenClip
from tests.operations.support import serving

PATH = "/v1/stream?language=en"
MINUTES = 60
TIMES_THE_PACE = 20
BLOCK_S = 0.5
MOST_MIB_PER_10_MIN = 1.0


def resident_mib(pid: int) -> float:
    """Return a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def speech(clips: Sequence[SpokenClip]) -> Iterator[bytes]:
    """Yield real voices for ever, in blocks of half a second, with a pause behind each clip."""
    held = b""
    for clip in cycle(clips):
        # Floating point numbers at 16 kHz, behind the name of their chunk and its length.
        data = clip.path.read_bytes()
        samples = np.frombuffer(data[data.index(b"data") + 8 :], "<f4")
        held += (samples * 32_767).astype("<i2").tobytes() + bytes(2 * 16_000)
        while len(held) >= 32_000 * BLOCK_S:
            yield held[: int(32_000 * BLOCK_S)]
            held = held[int(32_000 * BLOCK_S) :]


def speak(socket: ClientConnection, clips: Sequence[SpokenClip], sizes: list[float], pid: int) -> None:
    """Send the hour; note the server's memory after every minute of audio."""
    began = time.monotonic()
    for number, block in enumerate(speech(clips)):
        sent_s = number * BLOCK_S
        if sent_s % 60 == 0:
            sizes.append(resident_mib(pid))
        if sent_s >= MINUTES * 60:
            break
        time.sleep(max(0.0, began + sent_s / TIMES_THE_PACE - time.monotonic()))
        socket.send(block)
    socket.send('{"type": "finish"}')


@pytest.mark.long
@pytest.mark.timeout(900)
def test_F10_an_hour_on_one_connection_takes_no_more_memory_than_its_beginning(
    tmp_path: Path, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """Less than 1 MiB in ten minutes, by the median of the slopes after the first ten; all of it is heard."""
    sizes: list[float] = []
    with serving(tmp_path / "data") as server, connect(server.url.replace("http", "ws", 1) + PATH) as socket:
        speaker = threading.Thread(target=speak, args=(socket, spoken_clips, sizes, server.child.pid))
        speaker.start()
        finals = 0
        for text in socket:
            message = json.loads(text)
            finals += message["type"] == "final"
            if message["type"] in ("ended", "error"):
                break
        speaker.join()
    assert message["type"] == "ended", message
    assert message["audio_duration"] == pytest.approx(MINUTES * 60)
    assert finals > MINUTES
    later = np.asarray(sizes[10:])
    slopes = [(b - a) / (j - i) for i, a in enumerate(later) for j, b in enumerate(later) if j - i >= len(later) // 2]
    assert float(np.median(slopes)) * 10 < MOST_MIB_PER_10_MIN, sizes
