"""Models of other networks than Whisper, a few kilobytes each, that read melodies: every tone is a token.

They have the graphs, names and files of the real exports, so that the code that feeds and reads them is put to the
test: features, lengths, decoding, caches, vocabularies and times. Only what a network has learned is missing.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser
from onnx_asr.preprocessors import numpy_preprocessor as features

from tympan.domain import SAMPLE_RATE_HZ, Samples

TONES_HZ = (420, 760, 1200, 1800, 2600, 3600)
PIECES = ("\u2581red", "\u2581blu", "e", "\u2581green", ".", "\u2581white")
"""What each tone stands for; the mark is a space."""

TONE_S = 0.24
GAP_S = 0.4
LEAD_S = 0.5
STEP_S = 0.08
"""How exactly these networks hear when a tone begins."""

_K = len(TONES_HZ)
_HIDDEN = 320
_HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
_SPECIAL = (
    *(
        "<|endoftext|>",
        "\u2581",
        "<|startofcontext|>",
        "<|startoftranscript|>",
        "<|emo:undefined|>",
        "<|en|>",
        "<|de|>",
    ),
    *("<|pnc|>", "<|noitn|>", "<|notimestamp|>", "<|nodiarize|>"),
)
_WHISPER = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>")

Arrays = dict[str, NDArray[Any]]


def melody(tones: Sequence[int], lead_s: float = LEAD_S, tail_s: float = 1.5) -> Samples:
    """Return tones by number, one every ``GAP_S``, over a faint hiss that is always the same."""
    length = int((lead_s + GAP_S * len(tones) + tail_s) * SAMPLE_RATE_HZ)
    sound = 0.001 * np.random.default_rng(1).standard_normal(length)
    at = np.arange(int(TONE_S * SAMPLE_RATE_HZ))
    for place, tone in enumerate(tones):
        start = int(start_s(place, lead_s) * SAMPLE_RATE_HZ)
        sound[start : start + len(at)] += 0.3 * np.sin(2 * np.pi * TONES_HZ[tone] * at / SAMPLE_RATE_HZ)
    pcm: Samples = (sound * 32767).astype(np.int16)
    return pcm


def start_s(place: int, lead_s: float = LEAD_S) -> float:
    """Return when the tone at a place of a melody begins, in seconds."""
    return lead_s + GAP_S * place


def text(tones: Sequence[int]) -> str:
    """Return the text that a melody stands for."""
    return "".join(PIECES[tone] for tone in tones).replace("\u2581", " ").strip()


def in_order_of_tones(tones: Sequence[int]) -> str:
    """Return the text of a network that only hears which tones there are, not when."""
    return text(sorted(set(tones)))


def nemo_ctc(folder: Path) -> None:
    """Write a NeMo CTC model."""
    kind = features.NemoPreprocessorNumpy("nemo80")
    _ctc(folder / "model.onnx", _listening(kind, "audio_signal", 8), "audio_signal", "length", "logprobs")
    _finish(folder, "vocab.txt", "nemo-conformer-ctc", features_size=80)


def gigaam_ctc(folder: Path) -> None:
    """Write a GigaAM CTC model."""
    kind = features.GigaamPreprocessorNumpy("gigaam_v3")
    _ctc(folder / "v3_ctc.onnx", _listening(kind, "features", 4), "features", "feature_lengths", "log_probs")
    _finish(folder, "v3_vocab.txt", "gigaam-v3-ctc", version="v3")


def nemo_tdt(folder: Path) -> None:
    """Write a NeMo token-and-duration transducer; every token lasts one position."""
    _nemo_transducer(folder, durations=5)
    _finish(folder, "vocab.txt", "nemo-conformer-tdt", features_size=80)


def nemo_rnnt(folder: Path) -> None:
    """Write a NeMo transducer."""
    _nemo_transducer(folder, durations=0)
    _finish(folder, "vocab.txt", "nemo-conformer-rnnt", features_size=80)


def gigaam_rnnt(folder: Path) -> None:
    """Write a GigaAM transducer."""
    listen, arrays = _listening(features.GigaamPreprocessorNumpy("gigaam_v3"), "audio_signal", 4)
    _write(
        folder / "v3_rnnt_encoder.onnx",
        f"""g (float[B,F,T] audio_signal, int64[B] length) => (float[B,K,S] encoded, int32[B] encoded_len) {{
            {listen} encoded = Identity(heard)
            {_positions("length", 4)} encoded_len = Cast<to=6>(positions) }}""",
        arrays,
    )
    state = f"float[1,1,{_HIDDEN}]"
    _write(
        folder / "v3_rnnt_decoder.onnx",
        f"""g (int64[1,1] x, {state} h1, {state} c1) => ({state} dec, {state} h, {state} c) {{
            last = OneHot(x, hidden, off_on) shaped = Reshape(last, row)
            dec = Identity(shaped) h = Identity(h1) c = Identity(c1) }}""",
        {"hidden": _whole(_HIDDEN), "off_on": _reals(0, 1), "row": _whole(1, 1, _HIDDEN)},
        {"h1": "h.1", "c1": "c.1"},
    )
    _write(
        folder / "v3_rnnt_joint.onnx",
        f"""g (float[1,K,1] enc, float[1,H,1] dec) => (float[1,1,1,V] joint) {{
            turned = Transpose<perm=[0,2,1]>(dec) cut = Slice(turned, from, to, axis)
            now = Transpose<perm=[0,2,1]>(enc) {_joint("now", "cut")} joint = Unsqueeze(scores, axis_1) }}""",
        _joint_arrays() | {"from": _whole(0), "to": _whole(_K + 2), "axis": _whole(2), "axis_1": _whole(1)},
    )
    _finish(folder, "v3_vocab.txt", "gigaam-v3-rnnt", version="v3")


def icefall(folder: Path) -> None:
    """Write an icefall transducer, whose decoder sees two tokens."""
    listen, arrays = _listening(features.KaldiPreprocessorNumpy("kaldi"), "turned", 4)
    (folder / "am").mkdir()
    _write(
        folder / "am/encoder.onnx",
        f"""g (float[B,T,F] x, int64[B] x_lens) => (float[B,S,K] encoder_out, int64[B] encoder_out_lens) {{
            turned = Transpose<perm=[0,2,1]>(x) {listen} encoder_out = Transpose<perm=[0,2,1]>(heard)
            {_positions("x_lens", 4)} encoder_out_lens = Identity(positions) }}""",
        arrays,
    )
    _write(
        folder / "am/decoder.onnx",
        """g (int64[1,2] y) => (float[1,V] decoder_out) {
            latest = Gather<axis=1>(y, one) decoder_out = OneHot(latest, size, off_on) }""",
        {"one": np.array(1), "size": _whole(_K + 2), "off_on": _reals(0, 1)},
    )
    _write(
        folder / "am/joiner.onnx",
        f"""g (float[1,K] encoder_out, float[1,V] decoder_out) => (float[1,V] logit) {{
            {_joint("encoder_out", "decoder_out")} logit = Identity(scores) }}""",
        _joint_arrays(),
    )
    _finish(folder, "am/tokens.txt", "kaldi-rnnt")


def canary(folder: Path) -> None:
    """Write a NeMo encoder-decoder, which knows English and German; its German is in capitals."""
    listen, arrays = _listening(features.NemoPreprocessorNumpy("nemo80"), "audio_signal", 8)
    _write(
        folder / "encoder-model.onnx",
        f"""g (float[B,F,T] audio_signal, int64[B] length)
            => (float[B,S,K] encoder_embeddings, int64[B,S] encoder_mask) {{
            {listen} encoder_embeddings = Transpose<perm=[0,2,1]>(heard)
            most = ReduceMax<axes=[1], keepdims=0>(heard) like = Mul(most, none) encoder_mask = Cast<to=7>(like) }}""",
        arrays | {"none": _reals(0)},
    )
    pieces = (*_SPECIAL, *PIECES, *(piece.upper() for piece in PIECES))
    small = _matrix(pieces, PIECES)
    arrays = {
        "words": np.stack([small, _matrix(pieces, [piece.upper() for piece in PIECES])]),
        "end": _matrix(pieces, ["<|endoftext|>"])[0],
        "german": np.array(pieces.index("<|de|>")),
        "prompt": _whole(10),
        "from": _whole(-10),
    }
    # What was written so far is kept as numbers, so that the target language is still known later.
    _write(
        folder / "decoder-model.onnx",
        f"""g (int64[B,L] input_ids, float[B,S,K] encoder_embeddings, int64[B,S] encoder_mask,
            float[1,B,M,1] decoder_mems)
            => (float[B,1,V] logits, float[1,B,N,1] decoder_hidden_states) {{
            reals = Cast<to=1>(input_ids) wide = Unsqueeze(reals, outer)
            decoder_hidden_states = Concat<axis=2>(decoder_mems, wide)
            target = Slice(decoder_hidden_states, five, six, two) number = Cast<to=7>(target)
            one_row = ReduceMax<axes=[0,1,2,3], keepdims=0>(number)
            pick = Equal(one_row, german) choice = Cast<to=7>(pick)
            matrix = Gather<axis=0>(words, choice)
            long = Shape<start=2, end=3>(decoder_hidden_states) step = Sub(long, prompt)
            best = ReduceMax<axes=[1], keepdims=0>(encoder_embeddings)
            {_nth("best", "step", "matrix")} certain = LogSoftmax<axis=1>(scores)
            logits = Unsqueeze(certain, one) }}""",
        arrays
        | _nth_arrays()
        | {
            "outer": _whole(0, 3),
            "five": _whole(5),
            "six": _whole(6),
            "two": _whole(2),
            "one": _whole(1),
        },
    )
    _finish(folder, "vocab.txt", "nemo-conformer-aed", pieces, features_size=80, max_sequence_length=40)


def whisper(folder: Path) -> None:
    """Write a Whisper model as the hub's ONNX community exports it, in English for all it hears."""
    listen, arrays = _listening(features.WhisperPreprocessorNumpy("whisper80"), "input_features", 2)
    (folder / "onnx").mkdir()
    _write(
        folder / "onnx/encoder_model.onnx",
        f"""g (float[B,F,T] input_features) => (float[B,S,K] last_hidden_state) {{
            {listen} last_hidden_state = Transpose<perm=[0,2,1]>(heard) }}""",
        arrays,
    )
    pieces = (*(piece.replace("\u2581", "\u0120") for piece in PIECES), *_WHISPER)
    _cached_decoder(folder / "onnx/decoder_model_merged.onnx", pieces, 4, "<|en|>", "<|endoftext|>", mask=False)
    json_of = {name: number for number, name in enumerate(pieces)}
    added = {name: number for name, number in json_of.items() if name in _WHISPER}
    (folder / "vocab.json").write_text(json.dumps({n: i for n, i in json_of.items() if n not in added}))
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", "num_mel_bins": 80}))


def moonshine(folder: Path, *, masked: bool = True) -> None:
    """Write a Moonshine model with its authors' vocabulary; ``masked`` is whether its graphs take a mask."""
    at = np.arange(768) / SAMPLE_RATE_HZ
    waves = [turn(2 * np.pi * hz * at) / len(at) for turn in (np.cos, np.sin) for hz in TONES_HZ]
    _write(
        folder / "encoder_model.onnx",
        f"""g (float[B,N] input_values{", int64[B,N] attention_mask" if masked else ""})
            => (float[B,S,K] last_hidden_state) {{
            loud = Unsqueeze(input_values, one) both = Conv<strides=[384], pads=[384,384]>(loud, waves)
            squared = Mul(both, both) cos, sin = Split<axis=1>(squared) power = Add(cos, sin)
            size = Sqrt(power) above = Sub(size, threshold) last_hidden_state = Transpose<perm=[0,2,1]>(above) }}""",
        {"waves": np.stack(waves)[:, None].astype(np.float32), "threshold": _reals(0.07), "one": _whole(1)},
    )
    pieces = ("<unk>", "<s>", "</s>", *PIECES)
    _cached_decoder(folder / "decoder_model_merged.onnx", pieces, 1, "<unk>", "</s>", mask=masked)
    spelled = [piece.encode() for piece in pieces]
    (folder / "tokenizer.bin").write_bytes(b"".join(bytes([len(piece)]) + piece for piece in spelled))


WRITERS: MappingProxyType[str, Callable[[Path], None]] = MappingProxyType(
    {
        one.__name__: one
        for one in (nemo_ctc, gigaam_ctc, nemo_tdt, nemo_rnnt, gigaam_rnnt, icefall, canary, whisper, moonshine)
    }
)
"""What writes a model, by the name of its network."""

TIMED = ("nemo_ctc", "gigaam_ctc", "nemo_tdt", "nemo_rnnt", "gigaam_rnnt", "icefall")
"""Networks that hear when a tone begins; the others only hear which there are."""


def _listening(kind: Any, name: str, pool: int) -> tuple[str, Arrays]:
    """Return nodes that turn the features ``name`` ``[B,F,T]`` into ``heard`` ``[B,K,S]``: above 0 while a tone sounds.

    The bands and thresholds are those that a melody of all tones has after the very features of ``kind``.
    """
    tones = range(_K)
    pcm = melody(tones).astype(np.float32)[None] / 32768
    found, _ = kind(pcm, np.array([pcm.shape[1]]))
    bands = found[0] if found.shape[1] < found.shape[2] else found[0].T
    seconds = np.arange(bands.shape[1]) / 100
    bins, middles, spans = [], [], []
    for tone in tones:
        on = (seconds > start_s(tone) + 0.05) & (seconds < start_s(tone) + TONE_S - 0.05)
        rise = bands[:, on].mean(axis=1) - bands[:, ~on & (seconds < start_s(_K) + 1)].mean(axis=1)
        pick = int(rise.argmax())
        bins.append(pick)
        spans.append(float(rise[pick]))
        middles.append(float(bands[pick, on].mean() - rise[pick] / 2))
    nodes = f"""
        band = Gather<axis=1>({name}, bins) level = Sub(band, middles) share = Div(level, spans)
        heard = AveragePool<kernel_shape=[{pool}], strides=[{pool}], ceil_mode=1>(share)"""
    column = (_K, 1)
    return nodes, {
        "bins": _whole(*bins), "middles": _reals(*middles).reshape(column), "spans": _reals(*spans).reshape(column),
    }  # fmt: skip


def _positions(lengths: str, pool: int) -> str:
    return f"less = Sub({lengths}, c_1) whole = Div(less, c_{pool}) positions = Add(whole, c_1)"


def _ctc(path: Path, listening: tuple[str, Arrays], given: str, lengths: str, result: str) -> None:
    listen, arrays = listening
    _write(
        path,
        f"""g (float[B,F,T] {given}, int64[B] {lengths}) => (float[B,S,V] {result}) {{
            {listen} gained = Mul(heard, gain) started = Pad(gained, before, never) whole = Pad(started, after, even)
            certain = LogSoftmax<axis=1>(whole) {result} = Transpose<perm=[0,2,1]>(certain) }}""",
        arrays | {
            "gain": _reals(20), "never": np.array(-50, np.float32), "even": np.array(0, np.float32),
            "before": _whole(0, 1, 0, 0, 0, 0), "after": _whole(0, 0, 0, 0, 1, 0),
        },
    )  # fmt: skip


def _nemo_transducer(folder: Path, durations: int) -> None:
    listen, arrays = _listening(features.NemoPreprocessorNumpy("nemo80"), "audio_signal", 8)
    _write(
        folder / "encoder-model.onnx",
        f"""g (float[B,F,T] audio_signal, int64[B] length) => (float[B,K,S] outputs, int64[B] encoded_lengths) {{
            {listen} outputs = Identity(heard)
            {_positions("length", 8)} encoded_lengths = Identity(positions) }}""",
        arrays,
    )
    state = "float[1,1,4]"
    lasting = "all = Concat<axis=2>(scores, lasts)" if durations else "all = Identity(scores)"
    _write(
        folder / "decoder_joint-model.onnx",
        f"""g (float[1,K,1] encoder_outputs, int32[1,1] targets, int32[1] target_length,
            {state} input_states_1, {state} input_states_2)
            => (float[1,1,1,V] outputs, {state} output_states_1, {state} output_states_2) {{
            now = Transpose<perm=[0,2,1]>(encoder_outputs) number = Cast<to=7>(targets)
            last = OneHot(number, size, off_on)
            {_joint("now", "last")} {lasting} outputs = Unsqueeze(all, axis_1)
            output_states_1 = Identity(input_states_1) output_states_2 = Identity(input_states_2) }}""",
        _joint_arrays() | {"size": _whole(_K + 2), "off_on": _reals(0, 1), "axis_1": _whole(1)}
        | {"lasts": _reals(0, 1, 0, 0, 0).reshape(1, 1, 5)},
    )  # fmt: skip


def _joint(now: str, last: str) -> str:
    """Return nodes that score tokens: the tone that sounds, unless it was the last; blank where none does."""
    return f"""
        tones = MatMul({now}, spread) said = Mul({last}, again) left = Sub(tones, said) scores = Add(left, never)"""


def _joint_arrays() -> Arrays:
    spread = np.zeros((_K, _K + 2), dtype=np.float32)
    spread[:, 1:-1] = 20 * np.eye(_K)
    again = np.full(_K + 2, 100, dtype=np.float32)
    again[-1] = 0
    never = np.zeros(_K + 2, dtype=np.float32)
    never[0] = -50
    return {"spread": spread, "again": again, "never": never}


def _cached_decoder(path: Path, pieces: Sequence[str], lead: int, early: str, end: str, *, mask: bool) -> None:
    """Write a decoder with a cache, which says the tones there are in their order; ``early`` within its prompt."""
    past = "float[B,1,P,2] past_key_values_0_decoder_key"
    masked = "int64[B,N] encoder_attention_mask, " if mask else ""
    _write(
        path,
        f"""g ({masked}int64[B,L] input_ids, float[B,S,K] encoder_hidden_states, bool[1] use_cache_branch, {past})
            => (float[B,1,V] logits, float[C,1,Q,2] present_0_decoder_key) {{
            old = Shape<start=2, end=3>(past_key_values_0_decoder_key) new = Shape<start=1, end=2>(input_ids)
            rows = Shape<start=0, end=1>(input_ids) long = Add(old, new) step = Sub(long, lead)
            shape = Concat<axis=0>(rows, one, long, two) present_0_decoder_key = ConstantOfShape(shape)
            best = ReduceMax<axes=[1], keepdims=0>(encoder_hidden_states)
            {_nth("best", "step", "words")}
            begun = GreaterOrEqual(step, zero) row = Unsqueeze(early, zero) chosen = Where(begun, scores, row)
            logits = Unsqueeze(chosen, one) }}""",
        _nth_arrays() | {
            "words": _matrix(pieces, [pieces[i] for i in range(len(pieces)) if pieces[i][-1] != ">"]),
            "end": _matrix(pieces, [end])[0], "early": _matrix(pieces, [early])[0],
            "lead": _whole(lead), "zero": _whole(0), "one": _whole(1), "two": _whole(2),
        },
        {f"{side}_0_decoder_key": f"{real}.0.decoder.key" for side, real in
         (("past_key_values", "past_key_values"), ("present", "present"))},
    )  # fmt: skip


def _nth(best: str, step: str, matrix: str) -> str:
    """Return nodes that score the token of the tone that is next of those that ``best`` ``[B,K]`` holds, or the end."""
    return f"""
        is_there = Greater({best}, none_at_all) there = Cast<to=1>(is_there)
        rank = CumSum(there, axis_one) step_real = Cast<to=1>({step}) wanted = Add(step_real, first)
        is_it = Equal(rank, wanted) it = Cast<to=1>(is_it) hit = Mul(it, there) word = MatMul(hit, {matrix})
        count = ReduceSum(there, axis_list) is_over = Less(count, wanted) over = Cast<to=1>(is_over)
        ended = Mul(over, end) scores = Add(word, ended)"""


def _nth_arrays() -> Arrays:
    return {
        "none_at_all": np.array(0, np.float32), "axis_one": np.array(1), "first": _reals(1), "axis_list": _whole(1),
    }  # fmt: skip


def _matrix(pieces: Sequence[str], rows: Sequence[str]) -> NDArray[np.float32]:
    found = np.zeros((len(rows), len(pieces)), dtype=np.float32)
    for row, piece in enumerate(rows):
        found[row, pieces.index(piece)] = 30
    return found


def _whole(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def _reals(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


def _write(path: Path, graph: str, arrays: Arrays, names: dict[str, str] | None = None) -> None:
    """Write a graph; ``names`` are inputs and outputs whose real names the textual form does not allow."""
    arrays = arrays | {f"c_{n}": _whole(n) for n in (1, 4, 8)}
    model = parser.parse_model(f"{_HEADER} {graph}")
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for one in (*model.graph.input, *model.graph.output):
        one.name = (names or {}).get(one.name, one.name)
    for node in model.graph.node:
        for side in (node.input, node.output):
            side[:] = [(names or {}).get(name, name) for name in side]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _finish(
    folder: Path, vocabulary: str, kind: str, pieces: Sequence[str] = ("<unk>", *PIECES, "<blk>"), **settings: object
) -> None:
    lines = [f"{piece} {number}" for number, piece in enumerate(pieces)]
    (folder / vocabulary).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **settings}))
