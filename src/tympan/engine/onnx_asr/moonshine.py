"""Moonshine: an encoder that reads samples of any length, and a decoder that writes text.

Jeffries et al. 2024, "Moonshine: Speech Recognition for Live Transcription and Voice Commands". ``onnx-asr`` does not
know it. The graphs are those of its authors and of the hub's ONNX community, which differ in whether they take a mask.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import tokenizers
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ
from tympan.engine.asking import token_cap
from tympan.engine.failures import translated
from tympan.engine.onnx_asr.families import Found
from tympan.engine.onnx_asr.said import Said
from tympan.engine.onnx_asr.sessions import FAILURES, Place

MAX_TOKENS: Final = 193
"""Text that the decoder has positions for, its start token left out."""

_START: Final = 1
_END: Final = 2
_PAST: Final = "past_key_values."
_SPACE: Final = "\u2581"


class Spelling(Protocol):
    """Turns token numbers into text."""

    def __call__(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        ...


class Moonshine:
    """A Moonshine model of one language."""

    languages: tuple[str, ...] = ()

    def __init__(self, found: Found, place: Place) -> None:
        """Load the model in its folder. Raises ``EngineError``."""
        self._encoder = place.session(found.file(0))
        self._decoder = place.session(found.file(1))
        with translated("Moonshine", *FAILURES):
            self._spelling = spelling(found.file(2))
        self._start = int(found.config.get("decoder_start_token_id", _START))
        self._end = int(found.config.get("eos_token_id", _END))
        self._masked = "attention_mask" in {one.name for one in self._encoder.get_inputs()}
        inputs = self._decoder.get_inputs()
        self._cross_masked = "encoder_attention_mask" in {one.name for one in inputs}
        self._past = {one.name: (one.shape[1], one.shape[3]) for one in inputs if one.name.startswith(_PAST)}

    def recognize(self, windows: Sequence[NDArray[np.float32]], language: str | None, *, translate: bool) -> list[Said]:
        """Return what is said in each of ``windows``, samples in [-1, 1] at 16 kHz. Raises ``EngineError``."""
        with translated("Moonshine", *FAILURES):
            if not self._masked:  # Nothing would tell speech from the filling after it.
                return [self._read([window])[0] for window in windows]
            return self._read(windows)

    def _read(self, windows: Sequence[NDArray[np.float32]]) -> list[Said]:
        samples = np.zeros((len(windows), max(map(len, windows))), dtype=np.float32)
        mask = np.zeros(samples.shape, dtype=np.int64)
        for i, window in enumerate(windows):
            samples[i, : len(window)], mask[i, : len(window)] = window, 1
        (heard,) = self._encoder.run(
            ["last_hidden_state"], {"input_values": samples} | ({"attention_mask": mask} if self._masked else {})
        )
        caps = [min(MAX_TOKENS, token_cap(len(window) / SAMPLE_RATE_HZ)) for window in windows]
        fixed = {"encoder_hidden_states": heard} | ({"encoder_attention_mask": mask} if self._cross_masked else {})
        return self._written(fixed, caps)

    def _written(self, fixed: dict[str, Any], caps: Sequence[int]) -> list[Said]:
        """Write the texts step by step, always the likeliest token; each ends at its own end or cap."""
        tokens: list[list[int]] = [[] for _ in caps]
        logprobs: list[list[float]] = [[] for _ in caps]
        ended: dict[int, bool] = {}
        past = {name: np.zeros((len(caps), h, 0, w), dtype=np.float32) for name, (h, w) in self._past.items()}
        following = np.full((len(caps), 1), self._start, dtype=np.int64)
        while len(ended) < len(caps):
            logits = self._step(fixed, following, past)
            following = logits.argmax(axis=-1)[:, None]
            for i, row in enumerate(logits):
                if i in ended:
                    continue
                token = int(following[i, 0])
                logprobs[i].append(_logprob(row, token))
                if token == self._end:
                    ended[i] = False
                else:
                    tokens[i].append(token)
                    if len(tokens[i]) >= caps[i]:
                        ended[i] = True
        return [
            Said(self._spelling(text).strip(), tokens=tuple(text), logprobs=tuple(chances), hit_cap=ended[i])
            for i, (text, chances) in enumerate(zip(tokens, logprobs, strict=True))
        ]

    def _step(self, fixed: dict[str, Any], following: NDArray[np.int64], past: dict[str, Any]) -> NDArray[np.float32]:
        """Return the logits after ``following``; what was heard is kept in ``past`` from the first step on."""
        first = not any(array.shape[2] for array in past.values())
        # Later steps give what was heard back empty.
        kept = [name for name in past if first or ".decoder." in name]
        outputs = [name.replace(_PAST, "present.") for name in kept]
        begun = {"input_ids": following, "use_cache_branch": np.array([not first])}
        logits, *present = self._decoder.run(["logits", *outputs], fixed | begun | past)
        past.update(zip(kept, present, strict=True))
        last: NDArray[np.float32] = logits[:, -1]
        return last


def spelling(path: Path) -> Spelling:
    """Return the vocabulary in a ``tokenizer.json``, or in the ``tokenizer.bin`` of Moonshine's authors.

    Raises ``ValueError`` for a file that is neither.
    """
    if path.suffix == ".json":
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        return lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=True))
    pieces = _pieces(path.read_bytes())
    return lambda tokens: b"".join(pieces[token] for token in tokens).decode(errors="replace").replace(_SPACE, " ")


def _pieces(content: bytes) -> list[bytes]:
    """Return the bytes of every token; of special ones, which are written in angle brackets, none.

    Each token has its length before it: one byte, or from 128 on two, the first of which counts above 128.
    """
    pieces: list[bytes] = []
    at = 0
    while at < len(content):
        length, at = content[at], at + 1
        if length >= 128:
            length, at = content[at] * 128 + length - 128, at + 1
        piece, at = content[at : at + length], at + length
        pieces.append(b"" if length > 1 and piece.startswith(b"<") and piece.endswith(b">") else piece)
    if at != len(content):
        raise ValueError("the last token is cut off")
    return pieces


def _logprob(logits: NDArray[np.float32], token: int) -> float:
    shifted = logits - logits.max()
    return float(shifted[token] - np.log(np.exp(shifted).sum()))
