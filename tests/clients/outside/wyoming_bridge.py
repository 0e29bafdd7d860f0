"""Home Assistant's way: a Wyoming client, the bridge wyoming-openai, this server. Arguments as for the others."""

import asyncio
import socket
import sys
import wave

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

LIMIT_S = 30.0
CHUNK_FRAMES = 1024
WAYS = ("--stt-models", "--stt-streaming-models", "--stt-realtime-models")
"""A file at once, the same with its text as it comes, and over the realtime protocol."""


async def main(url: str, path: str, model: str) -> None:
    """Print the text that comes over the bridge, in every way that it has."""
    for way in WAYS:
        sys.stdout.write(await bridged(url, path, model, way) + "\n")


async def bridged(url: str, path: str, model: str, way: str) -> str:
    """Start the bridge, speak Wyoming to it, and return the text."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bridge = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wyoming_openai", "--uri", f"tcp://127.0.0.1:{port}", "--languages", "en"),
        *("--stt-openai-url", f"{url}/v1", "--stt-openai-key", "none", way, model),
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            return await heard(port, path, model)
    finally:
        bridge.terminate()
        await bridge.wait()


async def heard(port: int, path: str, model: str) -> str:
    """Return what the bridge says that was said."""
    while True:
        try:
            client = AsyncTcpClient("127.0.0.1", port)
            await client.connect()
            break
        except OSError:
            await asyncio.sleep(0.2)
    await client.write_event(Describe().event())
    event = await client.read_event()
    assert event is not None
    assert Info.from_event(event).asr, "the bridge found no model"
    with wave.open(path) as file:
        shape = {"rate": file.getframerate(), "width": file.getsampwidth(), "channels": file.getnchannels()}
        await client.write_event(Transcribe(name=model, language="en").event())
        await client.write_event(AudioStart(**shape).event())
        while data := file.readframes(CHUNK_FRAMES):
            await client.write_event(AudioChunk(audio=data, **shape).event())
    await client.write_event(AudioStop().event())
    while event := await client.read_event():
        if Transcript.is_type(event.type):
            return str(Transcript.from_event(event).text)
    return ""


asyncio.run(main(*sys.argv[1:]))
