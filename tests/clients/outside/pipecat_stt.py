"""Pipecat's OpenAI service: what it hears in a file, with its metrics of probability. Arguments as for the others."""

import asyncio
import sys
from pathlib import Path

from pipecat.frames.frames import TranscriptionFrame
from pipecat.services.openai.stt import OpenAISTTService


async def main(url: str, audio: bytes, model: str) -> None:
    """Print the text, or fail with what the service says."""
    service = OpenAISTTService(
        api_key="none",
        base_url=f"{url}/v1",
        include_prob_metrics=model == "whisper-1",
        settings=OpenAISTTService.Settings(model=model),
    )
    async for frame in service.run_stt(audio):
        if not isinstance(frame, TranscriptionFrame):
            sys.exit(f"{frame}")
        sys.stdout.write(frame.text)


asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), sys.argv[3]))
