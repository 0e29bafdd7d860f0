"""whisper.cpp's C structures as its header declares them (``include/whisper.h``, versions 1.8).

``pywhispercpp`` binds neither separate states nor the lists of alignment heads, so the functions of the library inside
it are called directly. What keeps that safe is ``agree``: the library's own defaults have to show up in every place.
"""

from ctypes import CFUNCTYPE, POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from typing import ClassVar, Final

GREEDY: Final = 0
BEAM_SEARCH: Final = 1

OWN_HEADS: Final = 2
"""The alignment preset that means a list of our own."""


class Head(Structure):
    """One attention head of the decoder."""

    _fields_: ClassVar = [("layer", c_int), ("head", c_int)]


class ContextParams(Structure):
    """How a model is loaded."""

    _fields_: ClassVar = [
        ("use_gpu", c_bool),
        ("flash_attn", c_bool),
        ("gpu_device", c_int),
        ("dtw_token_timestamps", c_bool),
        ("dtw_aheads_preset", c_int),
        ("dtw_n_top", c_int),
        ("dtw_n_heads", c_size_t),
        ("dtw_heads", POINTER(Head)),
        ("dtw_mem_size", c_size_t),
    ]


class FullParams(Structure):
    """How one stretch of audio is turned into text."""

    _fields_: ClassVar = [
        ("strategy", c_int),
        ("n_threads", c_int),
        ("n_max_text_ctx", c_int),
        ("offset_ms", c_int),
        ("duration_ms", c_int),
        ("translate", c_bool),
        ("no_context", c_bool),
        ("no_timestamps", c_bool),
        ("single_segment", c_bool),
        ("print_special", c_bool),
        ("print_progress", c_bool),
        ("print_realtime", c_bool),
        ("print_timestamps", c_bool),
        ("token_timestamps", c_bool),
        ("thold_pt", c_float),
        ("thold_ptsum", c_float),
        ("max_len", c_int),
        ("split_on_word", c_bool),
        ("max_tokens", c_int),
        ("debug_mode", c_bool),
        ("audio_ctx", c_int),
        ("tdrz_enable", c_bool),
        ("suppress_regex", c_char_p),
        ("initial_prompt", c_char_p),
        ("carry_initial_prompt", c_bool),
        ("prompt_tokens", POINTER(c_int)),
        ("prompt_n_tokens", c_int),
        ("language", c_char_p),
        ("detect_language", c_bool),
        ("suppress_blank", c_bool),
        ("suppress_nst", c_bool),
        ("temperature", c_float),
        ("max_initial_ts", c_float),
        ("length_penalty", c_float),
        ("temperature_inc", c_float),
        ("entropy_thold", c_float),
        ("logprob_thold", c_float),
        ("no_speech_thold", c_float),
        ("best_of", c_int),
        ("beam_size", c_int),
        ("patience", c_float),
        ("callbacks", c_void_p * 8),
        ("logits_filter", c_void_p),
        ("logits_filter_data", c_void_p),
        ("grammar_rules", c_void_p),
        ("n_grammar_rules", c_size_t),
        ("i_start_rule", c_size_t),
        ("grammar_penalty", c_float),
        ("vad", c_bool),
        ("vad_model_path", c_char_p),
        ("vad_threshold", c_float),
        ("vad_min_speech_ms", c_int),
        ("vad_min_silence_ms", c_int),
        ("vad_max_speech_s", c_float),
        ("vad_speech_pad_ms", c_int),
        ("vad_overlap_s", c_float),
    ]


class TokenData(Structure):
    """What is known of one token of a text; ``t_dtw`` is in hundredths of a second, -1 when unknown."""

    _fields_: ClassVar = [
        ("id", c_int),
        ("tid", c_int),
        ("p", c_float),
        ("plog", c_float),
        ("pt", c_float),
        ("ptsum", c_float),
        ("t0", c_int64),
        ("t1", c_int64),
        ("t_dtw", c_int64),
        ("vlen", c_float),
    ]


Filter = CFUNCTYPE(None, c_void_p, c_void_p, POINTER(TokenData), c_int, POINTER(c_float), c_void_p)
"""What the library calls with the logits of a token: context, state, tokens so far and their number, logits, data."""

_DEFAULTS: Final = {
    "strategy": BEAM_SEARCH,
    "n_max_text_ctx": 16384,
    "no_context": True,
    "print_progress": True,
    "audio_ctx": 0,
    "prompt_n_tokens": 0,
    "language": b"en",
    "suppress_blank": True,
    "max_initial_ts": 1.0,
    "length_penalty": -1.0,
    "temperature_inc": 0.2,
    "entropy_thold": 2.4,
    "logprob_thold": -1.0,
    "no_speech_thold": 0.6,
    "beam_size": 5,
    "patience": -1.0,
    "logits_filter": None,
    "grammar_penalty": 100.0,
    "vad_threshold": 0.5,
    "vad_min_speech_ms": 250,
    "vad_min_silence_ms": 100,
    "vad_speech_pad_ms": 30,
    "vad_overlap_s": 0.1,
}


def agree(params: FullParams) -> bool:
    """Tell whether the defaults for beam search stand where they should, from the first field to the last."""
    return all(_same(getattr(params, name), value) for name, value in _DEFAULTS.items())


def _same(found: object, expected: object) -> bool:
    if isinstance(expected, float):
        return isinstance(found, float) and abs(found - expected) < 1e-6
    return found == expected
