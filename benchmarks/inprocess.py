"""Tympan without HTTP: the services a server starts, called from threads of the same process."""

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple
from pathlib import Path
from uuid import uuid4

from benchmarks.contenders import Item, Job, Transcribe
from benchmarks.seam_counts import parts_of
from tympan.bootstrap import running
from tympan.config import load
from tympan.domain import Options, Timestamps, VadOptions
from tympan.pipeline import RequestContext


@contextmanager
def engine_loop() -> Iterator[Transcribe]:
    """Start the services as ``TYMPAN_*`` says and yield a function that transcribes one item."""
    with running(load()) as services:

        def transcribe(item: Item, job: Job) -> str:
            options = _options(item, job, Timestamps.NONE)
            return str(services.transcriber.transcribe(Path(item.path), options, _context()).text.strip())

        yield transcribe


@contextmanager
def pieces() -> Iterator[Transcribe]:
    """Start the same and yield a function that returns a list in JSON: kind of seam and the text that follows it."""
    with running(load()) as services:

        def transcribe(item: Item, job: Job) -> str:
            transcriber, options, context = services.transcriber, _options(item, job, Timestamps.WORD), _context()
            with closing(transcriber.listen(options).windows(Path(item.path), context)) as windows:
                decoded = transcriber.decode(windows, options, context)
            return json.dumps([astuple(part) for part in parts_of(decoded.parts)])

        yield transcribe


@contextmanager
def words() -> Iterator[Transcribe]:
    """Start the same and yield a function that returns a list in JSON: words, each with start and end in seconds."""
    with running(load()) as services:

        def transcribe(item: Item, job: Job) -> str:
            options = _options(item, job, Timestamps.WORD)
            transcript = services.transcriber.transcribe(Path(item.path), options, _context())
            return json.dumps([(word.text, word.start_s, word.end_s) for word in transcript.words])

        yield transcribe


def _options(item: Item, job: Job, timestamps: Timestamps) -> Options:
    vad = None if job.vad is False else VadOptions()
    return Options(language=item.language, beam_size=job.beam, timestamps=timestamps, vad=vad)


def _context() -> RequestContext:
    return RequestContext(request_id=f"bench-{os.getpid()}-{uuid4().hex[:8]}")
