"""Runs graphs. The engine's only importer of ``onnxruntime``."""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as vendor

from tympan.engine.failures import translated
from tympan.engine.onnx.memory import KINDS, Heard, Past
from tympan.engine.onnx.search import Ids, Values

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")

_ERRORS_ONLY = 3
_AS_REQUESTED = 1
_NAME = "ONNX Runtime"
ERRORS = (
    RuntimeError, vendor.Fail, vendor.RuntimeException, vendor.InvalidArgument, vendor.InvalidGraph,
    vendor.InvalidProtobuf, vendor.NotImplemented, vendor.NoSuchFile, vendor.NoModel, vendor.EPFail,
)  # fmt: skip
"""What the runtime raises: they have no common base of their own."""


def trim() -> None:
    """Give freed memory back to the system where the C library can: making graphs takes a lot for a moment."""
    with suppress(OSError, AttributeError):  # Only glibc has it.
        ctypes.CDLL(None).malloc_trim(0)


@cache
def _register_arena() -> None:
    """Have the runtime make the one arena of this process, which grows by no more than it is asked for.

    Arenas of their own, doubled as they grow, took 130 MB more for long windows.
    """
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(0, _AS_REQUESTED, -1, -1))


class Session:
    """A graph that is ready to run, from any thread."""

    def __init__(self, graph: bytes, threads: int, *, arena: bool = False) -> None:
        """Load ``graph`` to run on ``threads`` threads per call, the caller's among them.

        ``arena``: keep the memory of intermediate results for the next call, of whichever such session. Large ones
        would cost page faults: 50,000 in the encoder for 30 s.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        # For small results the system's allocator is as fast, and takes memory back between sessions and batches.
        options.enable_cpu_mem_arena = arena
        options.enable_mem_pattern = False
        if arena:
            _register_arena()
            options.add_session_config_entry("session.use_env_allocators", "1")
        # Idle threads spin while a step runs, which saves a wake-up per layer, and sleep between calls.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        with translated(_NAME, *ERRORS):
            self._session = onnxruntime.InferenceSession(
                graph,
                options,
                providers=["CPUExecutionProvider"],
                # The first takes several times as long as its parts, the second a little longer (1.31 on AVX-512).
                disabled_optimizers=["SkipLayerNormFusion", "BiasGeluFusion"],
            )
        # Kept by the runtime's wrapper for providers to fall back on, of which there is one: as much memory as the
        # weights take.
        self._session._model_bytes = None  # noqa: SLF001

    def outputs(self, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Return all outputs, in the graph's order."""
        with translated(_NAME, *ERRORS):
            found: list[NDArray[Any]] = self._session.run(None, inputs)
        return found

    def give_back(self, **inputs: NDArray[Any]) -> None:
        """Give unused memory back to the system; the arena's goes with the end of a run on ``inputs``, best small."""
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with translated(_NAME, *ERRORS):
            self._session.run(None, inputs, options)
        trim()

    def binding(self) -> Any:
        """Return an empty binding of arrays to names."""
        return self._session.io_binding()

    def run(self, binding: Any) -> None:
        """Run on bound arrays."""
        with translated(_NAME, *ERRORS):
            self._session.run_with_iobinding(binding)


class Crew:
    """A graph that is run for several inputs: side by side with a thread each, or with all threads for one.

    Side by side no thread waits for another between two operators: with two threads 3 to 9 % faster in the encoder, and
    up to twice as fast while other programs keep a core busy. It takes a second copy of the weights.
    """

    def __init__(self, graph: bytes, threads: int) -> None:
        """Load ``graph`` to keep up to ``threads`` threads busy."""
        self._threads = threads
        self._together = Session(graph, threads, arena=True)
        self._alone = Session(graph, 1, arena=True) if threads > 1 else self._together
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="crew")

    def map(
        self, work: Callable[[Session, _Given], _Found], given: Sequence[_Given], *, large: bool = False
    ) -> list[_Found]:
        """Return what ``work`` makes of each of ``given``, with the session that it is to run; put long ones first.

        ``large`` inputs are run one after the other: they keep all threads busy, and take memory only once.
        """
        if large or len(given) < self._threads or self._threads == 1:
            return [work(self._together, one) for one in given]
        return list(self._pool.map(partial(work, self._alone), given))

    def give_back(self, **inputs: NDArray[Any]) -> None:
        """See ``Session``."""
        self._together.give_back(**inputs)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


class Rows:
    """Rows of tokens on their way through the step graph, their past, and what they hear.

    Arrays are bound once and then written in place, since a step takes only a few milliseconds.
    """

    def __init__(
        self, session: Session, heard: Heard, past: Past, vocabulary: int, watched: Sequence[int] = ()
    ) -> None:
        """Start with the rows of ``past``, the same number for every window of ``heard``.

        The attention of ``watched`` layers is kept; see ``attention``.
        """
        self._session = session
        self.heard = heard
        self._vocabulary = vocabulary
        self._watched = tuple(watched)
        self._bound: _Bound | None = None
        self.past = past
        self.mask: Values = np.zeros((1, vocabulary), np.float32)
        """What their owner adds to the logits of every step; kept here because it has to outlive the steps."""

    def spread(self, times: int, capacity: int) -> None:
        """Let every row become ``times`` rows with room for ``capacity`` tokens."""
        self.past = self.past.spread(times, capacity)
        self._bound = None

    def keep(self, windows: Sequence[int], width: int) -> None:
        """Drop all other windows and their ``width`` rows each."""
        self.heard.keep(windows)
        self.past.keep([window * width + row for window in windows for row in range(width)])
        self._bound = None

    def feed(self, x: Values, pick: Sequence[int], mask: Values, top: int) -> tuple[Values, Ids]:
        """Take embedded tokens ``[rows, new, width]``; return the ``top`` likeliest tokens that may follow.

        The caller adds the tokens to ``past`` afterwards.

        Answers are given after each token in ``pick``, as log-probabilities and token numbers ``[rows, picked, top]``;
        ``mask`` ``[picked or 1, tokens]`` is added to the logits. ``top`` 0 asks for all tokens, by number.
        """
        kind = (x.shape, tuple(pick), top, id(mask))
        if self._bound is None or self._bound.kind != kind:
            self._bound = self._bind(kind, mask)
        bound = self._bound
        bound.arrays["x"][:] = x
        bound.arrays["last"].fill(self.past.length + x.shape[1] - 1)
        bound.arrays["total"].fill(self.past.length + x.shape[1])
        self._session.run(bound.binding)
        if top:
            return bound.arrays["best"], bound.arrays["ids"]
        logprobs: Values = bound.arrays["logprobs"]
        return logprobs, np.broadcast_to(np.arange(self._vocabulary), logprobs.shape)

    def attention(self, layer: int) -> Values:
        """Return what the last tokens fed heard in a watched layer, ``[windows, heads, queries, positions]``."""
        if self._bound is None:
            raise RuntimeError("Nothing has been fed yet.")
        heard: Values = self._bound.arrays[f"attention{layer}"]
        return heard

    def _bind(self, kind: "_Kind", mask: Values) -> "_Bound":
        (rows, new, width), pick, top, _ = kind
        windows, heads = len(self.heard), self.past.store.shape[2]
        inputs: dict[str, NDArray[Any]] = {
            "x": np.empty((rows, new, width), np.float32),
            "bias": self.heard.bias,
            "mask": mask,
            "last": np.empty(rows, np.int32),
            "total": np.empty(1, np.int32),
            "split": np.array([windows, rows // windows * new, heads, width // heads]),
            "joined": np.array([rows, new, width]),
            "scored": np.array([windows, heads, rows // windows * new, self.heard.bias.shape[-1]]),
            "pick": np.array(pick),
            "top": np.array([max(1, top)]),
        }
        answers = self._answers((rows, len(pick)), top)
        for layer in self._watched:
            answers[f"attention{layer}"] = np.empty(inputs["scored"], np.float32)
        for place, (numbers, scales) in enumerate(zip(self.heard.numbers, self.heard.scales, strict=True)):
            layer, name = place // 2, KINDS[place % 2]
            inputs |= {f"{name}{layer}": numbers, f"{name}_scale{layer}": scales}
            inputs[f"past_{name}{layer}"] = answers[f"present_{name}{layer}"] = self.past.layer(place)
        inputs |= {f"value_peak{layer}": peaks for layer, peaks in enumerate(self.heard.peaks)}
        return _Bound(kind, self._session.binding(), inputs, answers)

    def _answers(self, shape: tuple[int, int], top: int) -> dict[str, NDArray[Any]]:
        if top:
            return {"best": np.empty((*shape, top), np.float32), "ids": np.empty((*shape, top), np.int64)}
        return {"logprobs": np.empty((*shape, self._vocabulary), np.float32)}


_Kind = tuple[tuple[int, ...], tuple[int, ...], int, int]


class _Bound:
    """Arrays bound to a graph's names; it keeps them alive."""

    def __init__(
        self, kind: _Kind, binding: Any, inputs: dict[str, NDArray[Any]], answers: dict[str, NDArray[Any]]
    ) -> None:
        self.kind = kind
        self.binding = binding
        self.arrays = inputs | answers
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in answers.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
