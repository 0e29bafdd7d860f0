"""Pipecat's realtime service for OpenAI, with its own turns and the server's. Arguments as for the others."""

import asyncio
import sys
import wave

from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.workers.runner import WorkerRunner

BLOCK_S = 0.05
SILENCE_S = 2.0
LIMIT_S = 45.0


class Listener(FrameProcessor):  # type: ignore[misc]
    """Waits for the first transcript, or for what went wrong."""

    def __init__(self) -> None:
        """Have heard nothing."""
        super().__init__()
        self.heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Look at what comes out of the service."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame | ErrorFrame) and not self.heard.done():
            self.heard.set_result(frame.text if isinstance(frame, TranscriptionFrame) else f"{frame}")
        await self.push_frame(frame, direction)


async def heard(url: str, path: str, model: str, *, own_turns: bool) -> str:
    """Return the first transcript of a file."""
    service = OpenAIRealtimeSTTService(
        api_key="none",
        base_url=f"{url.replace('http', 'ws', 1)}/v1/realtime",
        turn_detection=False if own_turns else {"type": "server_vad"},
        settings=OpenAIRealtimeSTTService.Settings(model=model),
    )
    with wave.open(path) as file:
        rate, data = file.getframerate(), file.readframes(file.getnframes())
    data += bytes(2 * int(SILENCE_S * rate))
    listener, size = Listener(), 2 * int(BLOCK_S * rate)
    worker = PipelineWorker(Pipeline([service, listener]), params=PipelineParams(audio_in_sample_rate=rate))
    runner = asyncio.create_task(WorkerRunner(handle_sigint=False).run(worker))
    turn = [
        VADUserStartedSpeakingFrame(),
        *(InputAudioRawFrame(data[at : at + size], rate, 1) for at in range(0, len(data), size)),
    ]
    turn.append(VADUserStoppedSpeakingFrame())
    await worker.queue_frames(turn if own_turns else turn[1:-1])
    try:
        async with asyncio.timeout(LIMIT_S):
            return await listener.heard
    finally:
        await worker.cancel()
        await runner


async def main(url: str, path: str, model: str) -> None:
    """Print what was heard in both ways."""
    for own_turns in (True, False):
        sys.stdout.write(await heard(url, path, model, own_turns=own_turns) + "\n")


asyncio.run(main(*sys.argv[1:]))
