"""LiveKit's plugin for OpenAI, live: what it hears while a file is played. Arguments as for the others."""

import asyncio
import sys
import wave

from livekit import rtc
from livekit.agents import stt, utils
from livekit.plugins import openai

BLOCK_S = 0.05
SILENCE_S = 2.0
LIMIT_S = 90.0


async def main(url: str, path: str, model: str) -> None:
    """Print the finals, each on a line, until one has come for all that is said."""
    async with utils.http_context.open(), asyncio.timeout(LIMIT_S):
        service = openai.STT(model=model, base_url=f"{url}/v1", api_key="none", use_realtime=True, language="en")
        async with service.stream() as stream:
            for frame in frames(path):
                stream.push_frame(frame)
            stopped = False
            async for event in stream:
                stopped = stopped or event.type == stt.SpeechEventType.END_OF_SPEECH
                if event.type == stt.SpeechEventType.FINAL_TRANSCRIPT:
                    sys.stdout.write(f"{event.alternatives[0].text} ")
                    if stopped:
                        break
        await service.aclose()


def frames(path: str) -> list[rtc.AudioFrame]:
    """Return the file in blocks, with silence behind it."""
    with wave.open(path) as file:
        rate, data = file.getframerate(), file.readframes(file.getnframes())
    data += bytes(2 * int(SILENCE_S * rate))
    size = 2 * int(BLOCK_S * rate)
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    return [rtc.AudioFrame(block, rate, 1, len(block) // 2) for block in blocks]


asyncio.run(main(*sys.argv[1:]))
