"""Bare faster-whisper: the library as its own documentation shows it, given the same encoded bytes.

Everything the caller does not name keeps faster-whisper's default: temperature fallback, conditioning on the previous
text, timestamp tokens, no VAD. Variants say how the processor cores are used:

- ``2x1``: two threads, one worker (threads x workers, any numbers);
- ``2x1-plain``: the same without timestamp tokens, which a default call has;
- ``2x1-words``: what is returned is a list in JSON: words, each with start and end in seconds;
- ``2x1-batched8``: ``BatchedInferencePipeline`` with ``batch_size=8``.
"""

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faster_whisper import BatchedInferencePipeline, WhisperModel

from benchmarks.contenders import Item, Job, Transcribe

_VARIANT = re.compile(
    r"(?P<threads>\d+)x(?P<workers>\d+)(?:-(?:(?P<plain>plain)|(?P<words>words)|batched(?P<batch>\d+)))?"
)


class _Models:
    """Models by threads and workers, each loaded at its first use (which a warm-up job makes)."""

    def __init__(self, model_dir: str) -> None:
        self._model_dir = model_dir
        self._lock = threading.Lock()
        self._loaded: dict[tuple[int, int], WhisperModel] = {}

    def get(self, threads: int, workers: int) -> WhisperModel:
        with self._lock:
            if (threads, workers) not in self._loaded:
                self._loaded[threads, workers] = WhisperModel(
                    self._model_dir, device="cpu", compute_type="int8", cpu_threads=threads, num_workers=workers
                )
            return self._loaded[threads, workers]


@contextmanager
def faster_whisper(model_dir: str) -> Iterator[Transcribe]:
    """Yield a function that transcribes one item the way its job says."""
    models = _Models(model_dir)

    def transcribe(item: Item, job: Job) -> str:
        match = _VARIANT.fullmatch(job.variant)
        if match is None:
            raise ValueError(f"{job.variant!r} is not a variant such as 2x1, 2x1-plain, 2x1-words or 2x1-batched8.")
        model: Any = models.get(int(match["threads"]), int(match["workers"]))
        options: dict[str, Any] = {"beam_size": job.beam, "language": item.language}
        if match["batch"]:
            model = BatchedInferencePipeline(model)
            options["batch_size"] = int(match["batch"])
        if match["plain"]:
            options["without_timestamps"] = True
        if job.vad is not None:
            options["vad_filter"] = job.vad
        if match["words"]:
            options["word_timestamps"] = True
        segments, _ = model.transcribe(io.BytesIO(Path(item.path).read_bytes()), **options)
        if match["words"]:
            return json.dumps([(word.word, word.start, word.end) for segment in segments for word in segment.words])
        return "".join(segment.text for segment in segments).strip()

    yield transcribe
