"""The door to whisper.cpp: a loaded model, and one stretch of audio after the other through it.

Every call has a state of its own, made for it and freed after it. The library keeps random numbers and caches in its
states, so that nothing less makes a text independent of what was heard before. States share the weights, and several
may be at work at a time.
"""

import ctypes
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_float, c_int, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import _pywhispercpp
import numpy as np
from numpy.typing import NDArray

from tympan.engine.whispercpp.beams import NO_NUMBERS, Dictation, Past, Rules
from tympan.engine.whispercpp.filters import Guard, Sums, Token, Written
from tympan.engine.whispercpp.structures import (
    BEAM_SEARCH,
    GREEDY,
    ContextParams,
    FullParams,
    Head,
    TokenData,
    agree,
)
from tympan.errors import EngineError, EngineOutOfMemory

MAX_DECODERS: Final = 8
"""Most beams, or samples, that the library follows at a time."""

_ERROR_LEVEL = 4
_LINES = 4
_NEVER = 1e9
_ABORT = 6
"""Place of the function that may end a computation among the callbacks."""

_OUT_OF_MEMORY = ("failed to allocate", "out of memory", "alloc_buffer", "unable to allocate")

_Log = CFUNCTYPE(None, c_int, c_char_p, c_void_p)

_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "whisper_log_set": (None, [_Log, c_void_p]),
    "ggml_log_set": (None, [_Log, c_void_p]),
    "whisper_version": (c_char_p, []),
    "whisper_context_default_params": (ContextParams, []),
    "whisper_full_default_params": (FullParams, [c_int]),
    "whisper_init_from_file_with_params_no_state": (c_void_p, [c_char_p, ContextParams]),
    "whisper_free": (None, [c_void_p]),
    "whisper_init_state": (c_void_p, [c_void_p]),
    "whisper_free_state": (None, [c_void_p]),
    "whisper_full_with_state": (c_int, [c_void_p, c_void_p, FullParams, c_void_p, c_int]),
    "whisper_full_n_segments_from_state": (c_int, [c_void_p]),
    "whisper_full_n_tokens_from_state": (c_int, [c_void_p, c_int]),
    "whisper_full_get_token_data_from_state": (TokenData, [c_void_p, c_int, c_int]),
    "whisper_decode_with_state": (c_int, [c_void_p, c_void_p, POINTER(c_int), c_int, c_int, c_int]),
    "whisper_get_logits_from_state": (POINTER(c_float), [c_void_p]),
    "whisper_n_vocab": (c_int, [c_void_p]),
    "whisper_lang_max_id": (c_int, []),
    "whisper_lang_str": (c_char_p, [c_int]),
    "whisper_token_lang": (c_int, [c_void_p, c_int]),
    **{
        f"whisper_token_{name}": (c_int, [c_void_p])
        for name in ("eot", "sot", "solm", "prev", "nosp", "not", "translate", "transcribe")
    },
    "ggml_backend_dev_count": (ctypes.c_size_t, []),
    "ggml_backend_dev_get": (c_void_p, [ctypes.c_size_t]),
    "ggml_backend_dev_name": (c_char_p, [c_void_p]),
}


@dataclass(frozen=True, slots=True)
class Setup:
    """How a model is loaded: on which GPU if on any, and which heads of its decoder follow the audio.

    ``preset`` is the library's number of a known set of heads, ``OWN_HEADS`` for those in ``heads``, or 0: then there
    are no token times, and the quicker fused attention is used, which cannot give any.
    """

    gpu: bool = False
    gpu_index: int = 0
    preset: int = 0
    heads: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of one stretch of audio.

    ``positions`` shortens what the encoder sees, in 50ths of a second; 0 is all of it. ``cap`` is the greatest number
    of tokens. ``turns`` lets models made for it write down where the speaker changes. With ``search`` beams are kept
    by its rules, not drawn by the library, behind ``lead``: all that the decoder is told before the text.
    """

    threads: int
    cap: int
    language: str = "en"
    translate: bool = False
    prompt: tuple[int, ...] = ()
    beam_size: int = 1
    best_of: int = 1
    temperature: float = 0.0
    positions: int = 0
    turns: bool = False
    search: Rules | None = None
    lead: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """A text with its end token, if it came to one, and the chance of each token to be the first of all.

    ``opening`` is what the model expects at the very beginning: the languages' tokens, or the one for no speech.
    """

    tokens: tuple[Token, ...]
    opening: NDArray[np.float32]


def gpu_devices() -> tuple[str, ...]:
    """Return the devices this build of the library can use beside the CPU, such as ``CUDA0`` or ``Metal``."""
    library = _library()
    names = (
        library.ggml_backend_dev_name(library.ggml_backend_dev_get(number)).decode(errors="replace")
        for number in range(library.ggml_backend_dev_count())
    )
    return tuple(name for name in names if not name.startswith(("CPU", "BLAS", "Accelerate")))


class CppModel:
    """A model in the library's memory."""

    def __init__(self, path: Path, setup: Setup) -> None:
        """Load the ggml file at ``path``. Raises ``EngineError`` when the library refuses it."""
        self._library = _library()
        self._errors: deque[str] = deque(maxlen=_LINES)
        # The library keeps the callback's address only: it has to live as long as the library is used.
        self._log = _Log(self._note)
        self._library.whisper_log_set(self._log, None)
        self._library.ggml_log_set(self._log, None)
        # As with the callback, only the address of the heads is kept.
        self._heads = (Head * len(setup.heads))(*(Head(*each) for each in setup.heads))
        params = _context_params(self._library, setup, self._heads)
        context = self._library.whisper_init_from_file_with_params_no_state(bytes(path), params)
        if not context:
            raise self._failure("The model could not be loaded")
        self._context = c_void_p(context)
        self.end = self._token("eot")
        self.start = self._token("sot")
        self.turn = self._token("solm")

    def close(self) -> None:
        """Free the model; it must not be used any more."""
        self._library.whisper_free(self._context)

    def special_tokens(self) -> dict[str, int]:
        """Return the number of every special token by its spelling."""
        found = {
            "<|endoftext|>": self.end,
            "<|startoftranscript|>": self.start,
            "<|startofprev|>": self._token("prev"),
            "<|nospeech|>": self._token("nosp"),
            "<|notimestamps|>": self._token("not"),
            "<|translate|>": self._token("translate"),
            "<|transcribe|>": self._token("transcribe"),
        }
        for number in range(self._library.whisper_lang_max_id() + 1):
            token = self._library.whisper_token_lang(self._context, number)
            if token < found["<|translate|>"]:
                found[f"<|{self._library.whisper_lang_str(number).decode()}|>"] = token
        return found

    def hear(self, samples: NDArray[np.float32], ask: Ask) -> Said:
        """Return what is said in ``samples`` (mono, 16 kHz, from -1 to 1, at least 0.2 s).

        Raises ``EngineError`` or ``EngineOutOfMemory``.
        """
        with self._state() as state:
            audio = np.ascontiguousarray(samples, dtype=np.float32)
            prompt = (c_int * len(ask.prompt))(*ask.prompt)
            params = _full_params(self._library, ask, prompt)
            sums = Sums(ask.temperature, self.n_vocab)
            dictation = self._dictation(ask)
            if ask.temperature > 0.0:
                params.logits_filter = ctypes.cast(sums.callback, c_void_p)
            elif dictation is not None:
                params.logits_filter = ctypes.cast(dictation.callback, c_void_p)
            code = self._library.whisper_full_with_state(
                self._context, state, params, audio.ctypes.data_as(c_void_p), len(audio)
            )
            if code:
                raise self._failure(f"The audio could not be transcribed ({code})")
            tokens = sums.at_one(tuple(self._tokens(state)))
            if dictation is not None:
                tokens = dictation.rated(tokens)
            return Said(tokens, self._opening(state, ask.threads))

    @property
    def n_vocab(self) -> int:
        """How many tokens there are, special ones among them."""
        return int(self._library.whisper_n_vocab(self._context))

    def _dictation(self, ask: Ask) -> Written | None:
        """Return what writes the text of a search of our own, if one is asked for."""
        if ask.search is None or ask.temperature > 0.0:
            return None

        def past(state: int) -> Past:
            return Past(lambda tokens, before: self._decoded(c_void_p(state), tokens, before, ask.threads), ask.lead)

        return Written(Dictation(past, ask.search), self.n_vocab)

    def _decoded(self, state: c_void_p, tokens: Sequence[int], before: int, threads: int) -> NDArray[np.float32]:
        """Return the logits that follow ``tokens``, which follow ``before`` others that the state knows."""
        numbers = (c_int * len(tokens))(*tokens)
        if self._library.whisper_decode_with_state(self._context, state, numbers, len(tokens), before, threads):
            raise self._failure("The decoder failed")
        rows = self._library.whisper_get_logits_from_state(state)
        # A copy: the library writes the next logits to the same place.
        found: NDArray[np.float32] = np.ctypeslib.as_array(rows, (len(tokens), self.n_vocab))[-1].copy()
        return found

    def try_out(self, samples: NDArray[np.float32], ask: Ask) -> None:
        """Let the model begin a text, and raise ``EngineError`` when no numbers come out.

        Its own search over what are no numbers ends the process, so it is stopped before.
        """
        guard = Guard(self._library.whisper_n_vocab(self._context))
        with self._state() as state:
            params = _full_params(self._library, ask, None)
            params.logits_filter = ctypes.cast(guard.filter, c_void_p)
            params.callbacks[_ABORT] = ctypes.cast(guard.abort, c_void_p)
            audio = samples.ctypes.data_as(c_void_p)
            code = self._library.whisper_full_with_state(self._context, state, params, audio, len(samples))
        if guard.failed:
            raise EngineError(NO_NUMBERS)
        if code:
            raise self._failure(f"The model could not be tried out ({code})")

    def _tokens(self, state: c_void_p) -> Iterator[Token]:
        for segment in range(self._library.whisper_full_n_segments_from_state(state)):
            for place in range(self._library.whisper_full_n_tokens_from_state(state, segment)):
                data = self._library.whisper_full_get_token_data_from_state(state, segment, place)
                yield Token(data.id, data.plog, data.p, data.t_dtw / 100 if data.t_dtw >= 0 else -1.0)

    def _opening(self, state: c_void_p, threads: int) -> NDArray[np.float32]:
        """Ask the decoder for the first token of all; the encoded audio is still in the state.

        The library's own figure for "no speech" is taken after the whole prompt, where it says nothing.
        """
        first = (c_int * 1)(self.start)
        if self._library.whisper_decode_with_state(self._context, state, first, 1, 0, threads):
            raise self._failure("The first token could not be computed")
        count = self._library.whisper_n_vocab(self._context)
        logits = np.ctypeslib.as_array(self._library.whisper_get_logits_from_state(state), (count,))
        if not np.isfinite(logits[self.start]):
            raise EngineError(NO_NUMBERS)
        chances = np.exp(logits - logits.max())
        found: NDArray[np.float32] = chances / chances.sum()
        return found

    @contextmanager
    def _state(self) -> Iterator[c_void_p]:
        state = self._library.whisper_init_state(self._context)
        if not state:
            raise self._failure("There is no memory to transcribe in", EngineOutOfMemory)
        try:
            yield c_void_p(state)
        finally:
            self._library.whisper_free_state(state)

    def _token(self, name: str) -> int:
        return int(getattr(self._library, f"whisper_token_{name}")(self._context))

    def _note(self, level: int, line: bytes | None, data: object) -> None:
        """Keep the last complaints; whatever else the library has to say is dropped."""
        if level == _ERROR_LEVEL and line:
            self._errors.append(line.decode(errors="replace").strip())

    def _failure(self, what: str, kind: type[EngineError] = EngineError) -> EngineError:
        reasons = " ".join(self._errors)
        self._errors.clear()
        scarce = any(mark in reasons.lower() for mark in _OUT_OF_MEMORY)
        return (EngineOutOfMemory if scarce else kind)(f"whisper.cpp failed: {what}. {reasons}".strip())


def _library() -> Any:
    """Return the C library inside ``pywhispercpp``. Raises ``EngineError`` when it is built otherwise than we know."""
    library = ctypes.CDLL(_pywhispercpp.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    if not agree(library.whisper_full_default_params(BEAM_SEARCH)):
        version = library.whisper_version().decode(errors="replace")
        raise EngineError(
            f"whisper.cpp {version} is not supported: it lays out its parameters differently.",
            remedy="Install the version of pywhispercpp that requirements/whispercpp.txt names.",
        )
    return library


def _context_params(library: Any, setup: Setup, heads: Any) -> ContextParams:
    params: ContextParams = library.whisper_context_default_params()
    params.use_gpu, params.gpu_device = setup.gpu, setup.gpu_index
    params.flash_attn, params.dtw_token_timestamps = not setup.preset, bool(setup.preset)
    params.dtw_aheads_preset = setup.preset
    if setup.heads:
        params.dtw_n_heads, params.dtw_heads = len(heads), heads
    return params


def _full_params(library: Any, ask: Ask, prompt: Any) -> FullParams:
    """Return one attempt without the library's own fallbacks, and without a word on standard output."""
    searched = ask.beam_size > 1 and ask.temperature == 0.0 and ask.search is None
    params: FullParams = library.whisper_full_default_params(BEAM_SEARCH if searched else GREEDY)
    params.n_threads, params.audio_ctx, params.max_tokens = ask.threads, ask.positions, ask.cap - 1
    params.language, params.translate = ask.language.encode(), ask.translate
    params.no_context = params.no_timestamps = params.single_segment = True
    params.print_progress = params.print_timestamps = False
    params.tdrz_enable = ask.turns
    # A search of our own bars tokens itself; what it found must not be barred again.
    params.suppress_nst = ask.search is None or ask.temperature > 0.0
    params.beam_size, params.best_of, params.temperature = ask.beam_size, ask.best_of, ask.temperature
    params.temperature_inc, params.entropy_thold = 0.0, 0.0
    params.logprob_thold, params.no_speech_thold = -_NEVER, _NEVER
    if ask.prompt:
        params.prompt_tokens, params.prompt_n_tokens = prompt, len(prompt)
    return params
