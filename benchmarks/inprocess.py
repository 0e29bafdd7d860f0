"""Tympan without HTTP: the services a server starts, called from threads of the same process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from benchmarks.contenders import Item, Job
from benchmarks.worker import Transcribe
from tympan.bootstrap import running
from tympan.config import load
from tympan.domain import Options, Timestamps, VadOptions
from tympan.pipeline import RequestContext


@contextmanager
def engine_loop() -> Iterator[Transcribe]:
    """Start the services as ``TYMPAN_*`` says and yield a function that transcribes one item."""
    with running(load()) as services:

        def transcribe(item: Item, job: Job) -> str:
            options = Options(
                language=item.language,
                beam_size=job.beam,
                timestamps=Timestamps.NONE,
                vad=None if job.vad is False else VadOptions(),
            )
            context = RequestContext(request_id=f"bench-{os.getpid()}-{uuid4().hex[:8]}")
            return str(services.transcriber.transcribe(Path(item.path), options, context).text.strip())

        yield transcribe
