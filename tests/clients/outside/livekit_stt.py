"""LiveKit's plugin for OpenAI: what it hears in a file. Arguments: the server's address, a WAV file, a model's name."""

import asyncio
import sys
import wave

from livekit import rtc
from livekit.plugins import openai


async def main(url: str, path: str, model: str) -> None:
    """Print the text."""
    with wave.open(path) as file:
        frame = rtc.AudioFrame(file.readframes(file.getnframes()), file.getframerate(), 1, file.getnframes())
    heard = await openai.STT(model=model, base_url=f"{url}/v1", api_key="none").recognize(frame)
    sys.stdout.write(heard.alternatives[0].text)


asyncio.run(main(*sys.argv[1:]))
