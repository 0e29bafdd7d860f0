"""Where there is speech: Silero VAD over a stream of samples. Of the audio layer, the only importer of ``onnxruntime``.

Model: Silero VAD v6 (Silero Team, MIT), as shipped inside the ``faster-whisper`` package. It scores 32-ms frames, each
with 4 ms of the frame before, and carries an LSTM state from frame to frame, so audio of any length needs flat memory.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tympan.audio.spans import FRAME_SAMPLES, SpanFinder
from tympan.domain import Samples, Span, VadOptions

_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (1, 1, 128)
_MODEL_PACKAGE = "faster_whisper"
_MODEL_FILE = "assets/silero_vad_v6.onnx"


class SpeechDetector:
    """The loaded model; one serves all requests, from any thread."""

    def __init__(self) -> None:
        """Load the model. It runs on one thread per call: requests are the parallelism."""
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(_model_path()), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def stream(self, options: VadOptions | None, max_span_s: float) -> "SpeechStream":
        """Return a fresh stream for one request; ``options=None`` keeps all audio and only chooses where to cut."""
        return SpeechStream(self._session, SpanFinder(options, max_span_s))


def _model_path() -> Path:
    """Return where the package keeps the model. Importing it would load media libraries and runtimes, 40 MB of them."""
    package = find_spec(_MODEL_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(f"{_MODEL_PACKAGE}, which carries the speech detection model, is not installed")
    return Path(package.submodule_search_locations[0]) / _MODEL_FILE


@dataclass(slots=True)
class _State:
    h: NDArray[np.float32]
    c: NDArray[np.float32]
    context: NDArray[np.float32]


class SpeechStream:
    """One request's audio, pushed piece by piece; spans come out as soon as they are certain."""

    def __init__(self, session: onnxruntime.InferenceSession, finder: SpanFinder) -> None:
        """Start at sample 0 of a source."""
        self._session = session
        self._finder = finder
        self._state = _State(
            np.zeros(_STATE_SHAPE, np.float32),
            np.zeros(_STATE_SHAPE, np.float32),
            np.zeros(_CONTEXT_SAMPLES, np.float32),
        )
        self._rest = np.zeros(0, dtype=np.int16)
        self._n_samples = 0

    @property
    def settled_sample(self) -> int:
        """No span found later starts before this sample."""
        return self._finder.settled_sample

    @property
    def speech_samples(self) -> int:
        """Samples scored as speech so far, without padding."""
        return self._finder.speech_samples

    @property
    def open_span(self) -> Span | None:
        """The span of the speech that goes on, as it is if no more follows; its end may lie beyond what was pushed."""
        return self._finder.open_span

    def push(self, samples: Samples) -> list[Span]:
        """Take the next samples; return the spans that they complete."""
        self._n_samples += len(samples)
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = joined[whole:]
        return self._finder.push(self._score(joined[:whole])) if whole else []

    def settle(self) -> list[Span]:
        """Return the spans that are still open, cut at the last whole frame; what is pushed next starts others."""
        return self._finder.finish()

    def finish(self) -> list[Span]:
        """Return the spans that were still open, cut at the end of the audio."""
        spans = self.push(np.zeros(-len(self._rest) % FRAME_SAMPLES, dtype=np.int16)) if len(self._rest) else []
        # The padding is not audio: the true end is what was pushed before it.
        return [*spans, *self._finder.finish()]

    def _score(self, samples: Samples) -> NDArray[np.float32]:
        audio = samples.astype(np.float32) / 32768.0
        frames = audio.reshape(-1, FRAME_SAMPLES)
        before = np.empty((len(frames), _CONTEXT_SAMPLES), np.float32)
        before[0] = self._state.context
        before[1:] = frames[:-1, -_CONTEXT_SAMPLES:]
        feeds = {"input": np.concatenate([before, frames], axis=1), "h": self._state.h, "c": self._state.c}
        scores, h, c = self._session.run(None, feeds)
        self._state = _State(h, c, frames[-1, -_CONTEXT_SAMPLES:].copy())
        flat: NDArray[np.float32] = np.asarray(scores, dtype=np.float32).reshape(-1)
        return flat
