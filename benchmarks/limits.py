"""How near the engine comes to the machine's limit: products of the encoder, bytes read by a step of the decoder.

The encoder's work is counted from the model's sizes: its linear layers are int8, its attention and convolutions
float32. The least time is that work at the peak of its own format, so the share is of the same-precision peak. A step
of the decoder reads every weight once, and what each window's rows attend to; the share is of the bandwidth measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peaks import fastest_s, product_peak_gflops, read_peak_gbs
from benchmarks.setup import Setup
from benchmarks.store import Check, write_result
from tympan.bench.facts import cores
from tympan.domain import SAMPLE_RATE_HZ, Samples, Task
from tympan.engine.base import EngineSpec
from tympan.engine.features import log_mel
from tympan.engine.onnx.decoder_graph import vocabulary_size
from tympan.engine.onnx.dimensions import Dimensions
from tympan.engine.onnx.encoder_graph import mel_bands
from tympan.engine.onnx.engine import OnnxEngine, create
from tympan.engine.onnx.search import BeamSearch
from tympan.engine.onnx.weights import Weights

SHARE_GOAL = 0.5
LENGTHS_S = (5.0, 8.0, 15.0, 30.0)
"""Lengths of the encoder's input; a window's margin of silence is part of it."""

ROWS = ((1, 1), (8, 1), (1, 5), (4, 5))
"""Windows decoded together, and the width of their search."""

STEPS = (8, 40)
_HEARD_POSITIONS = 400
_KERNEL = 3


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one pass of the encoder, in 10^9: linear layers, and attention with the convolutions."""

    whole: float
    real: float


def encoder_work(size: Dimensions, bands: int, positions: int) -> Work:
    """Return what encoding ``positions`` positions (20 ms each) takes, a multiplication and an addition being two."""
    width = size.width
    linear = size.layers * 12 * 2 * positions * width**2
    attention = size.layers * 2 * 2 * positions**2 * width
    convolutions = 2 * _KERNEL * width * (2 * positions * bands + positions * width)
    return Work(linear / 1e9, (attention + convolutions) / 1e9)


def step_bytes(size: Dimensions, tokens: int, heard: int) -> int:
    """Return the bytes that a step reads: int8 weights of all layers and of the projection, and what is heard."""
    return size.layers * 14 * size.width**2 + tokens * size.width + heard


def run(setup: Setup) -> Path:
    """Measure peaks, encoder and decoder with one thread and with all; write ``limits.json`` and return its path."""
    weights = Weights(setup.model_dir / "model.bin")
    counts = sorted({1, cores()})
    rows = [_measure(setup, weights, threads) for threads in counts]
    payload = {"model": setup.model_facts(), "rows": rows}
    return write_result(setup.results, "limits", payload, [check for row in rows for check in _checks(row)])


def _measure(setup: Setup, weights: Weights, threads: int) -> dict[str, Any]:
    spec = EngineSpec("onnx", setup.model, path=str(setup.model_dir), threads=threads)
    engine = create(spec)
    peaks = {kind: round(product_peak_gflops(kind, threads), 1) for kind in ("float32", "int8")}
    bandwidth = round(read_peak_gbs(threads), 1)
    row = {
        "threads": threads,
        "peak_gflops": peaks,
        "read_gbs": bandwidth,
        "encoder": [_encoder(engine, weights, seconds, peaks) for seconds in LENGTHS_S],
        "decoder": [_decoder(engine, weights, windows, width, bandwidth) for windows, width in ROWS],
        "parts_ms": _parts(engine, weights),
    }
    engine.close()
    return row


def _encoder(engine: OnnxEngine, weights: Weights, seconds: float, peaks: dict[str, float]) -> dict[str, Any]:
    """Time one window with all threads, and as many windows as threads side by side."""
    frames = int(seconds * 100)
    mel = log_mel(_speechlike(seconds), mel_bands(weights), frames)[None]
    work = encoder_work(Dimensions.of(weights, "encoder"), mel_bands(weights), frames // 2)
    least_s = work.whole / peaks["int8"] + work.real / peaks["float32"]
    crew, threads = engine._encoder, engine._threads  # noqa: SLF001 (what is measured is inside)
    alone_s = fastest_s(partial(crew.map, lambda session, one: session.outputs(mel=one), [mel]))
    beside_s = fastest_s(partial(crew.map, lambda session, one: session.outputs(mel=one), [mel] * threads)) / threads
    return {
        "seconds": seconds,
        "gflop": round(work.whole + work.real, 2),
        "alone_ms": round(1000 * alone_s, 2),
        "side_by_side_ms": round(1000 * beside_s, 2),
        "gflops": round((work.whole + work.real) / beside_s),
        "share": round(least_s / beside_s, 3),
    }


def _decoder(engine: OnnxEngine, weights: Weights, windows: int, width: int, bandwidth: float) -> dict[str, Any]:
    decoder = engine._decoder  # noqa: SLF001
    size = Dimensions.of(weights, "decoder")
    random = np.random.default_rng(0)
    encoded = [random.standard_normal((_HEARD_POSITIONS, size.width), dtype=np.float32) for _ in range(windows)]
    heard = decoder.listen(encoded)
    heard_bytes = sum(array.nbytes for array in (*heard.numbers, *heard.scales))
    prompt = engine._vocabulary.prompt("en", Task.TRANSCRIBE, None, None)  # noqa: SLF001

    def generate(steps: int) -> None:
        searches = [BeamSearch(width, steps, -1) for _ in range(windows)]
        decoder.generate(decoder.listen(encoded), [prompt] * windows, searches)

    short, long = (fastest_s(partial(generate, steps)) for steps in STEPS)
    step_s = (long - short) / (STEPS[1] - STEPS[0])
    n_bytes = step_bytes(size, vocabulary_size(weights), heard_bytes)
    return {
        "windows": windows,
        "beam": width,
        "step_ms": round(1000 * step_s, 2),
        "mb": round(n_bytes / 1e6, 1),
        "gbs": round(n_bytes / step_s / 1e9, 1),
        "share": round(n_bytes / step_s / 1e9 / bandwidth, 3),
    }


def _parts(engine: OnnxEngine, weights: Weights) -> dict[str, float]:
    """Return milliseconds of what else a window of 10 s costs: features, keys and values, alignment, tokens to text."""
    samples = _speechlike(10.0)
    size = Dimensions.of(weights, "decoder")
    encoded = np.random.default_rng(1).standard_normal((650, size.width), dtype=np.float32)
    decoder, vocabulary = engine._decoder, engine._vocabulary  # noqa: SLF001
    heard = decoder.listen([encoded])
    lead = vocabulary.prompt("en", Task.TRANSCRIBE, None, None)
    tokens = vocabulary.encode(" The quick brown fox jumps over the lazy dog while the cat sleeps in the warm sun")
    timed = {
        "features": lambda: log_mel(samples, mel_bands(weights), 1300),
        "keys and values": lambda: decoder.listen([encoded]),
        "alignment": lambda: decoder.align(heard.alone(0), 500, lead, tokens),
        "tokens to words": lambda: vocabulary.words(tokens, "en"),
    }
    return {name: round(1000 * fastest_s(work), 2) for name, work in timed.items()}


def _speechlike(seconds: float) -> Samples:
    noise = np.random.default_rng(2).standard_normal(int(seconds * SAMPLE_RATE_HZ))
    return (2000 * noise).astype(np.int16)


def _checks(row: dict[str, Any]) -> list[Check]:
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    encoder = [Check(f"encoder, {one['seconds']:g} s, {threads}", f">= {SHARE_GOAL:.0%} of the peak",
                     f"{one['share']:.0%}", one["share"] >= SHARE_GOAL) for one in row["encoder"]]  # fmt: skip
    decoder = [Check(f"decoder, {_texts(one)}, {threads}", f">= {SHARE_GOAL:.0%} of the bandwidth",
                     f"{one['share']:.0%}", one["share"] >= SHARE_GOAL) for one in row["decoder"]]  # fmt: skip
    return encoder + decoder


def _texts(one: dict[str, Any]) -> str:
    return f"{one['windows']} window{'s' if one['windows'] > 1 else ''} at beam {one['beam']}"


INTRO = (
    "The share of the encoder is the least time its products could take, each at the peak of its own number format "
    "measured here, over the time side by side; that of the decoder is the bytes that a step has to read over time and "
    "bandwidth."
)
"""What the page says before its tables."""


def body(result: Mapping[str, Any]) -> Sequence[tuple[str, list[str], list[list[Any]]]]:
    """Return the page's tables: title, head, rows."""
    encoder = [
        [row["threads"], f"{one['seconds']:g}", one["gflop"], one["alone_ms"], one["side_by_side_ms"], one["gflops"],
         f"{one['share']:.0%}"]
        for row in result["rows"] for one in row["encoder"]
    ]  # fmt: skip
    decoder = [
        [row["threads"], one["windows"], one["beam"], one["step_ms"], one["mb"], one["gbs"], f"{one['share']:.0%}"]
        for row in result["rows"]
        for one in row["decoder"]
    ]
    peaks = [
        [row["threads"], row["peak_gflops"]["float32"], row["peak_gflops"]["int8"], row["read_gbs"]]
        for row in result["rows"]
    ]
    parts = [[row["threads"], *row["parts_ms"].values()] for row in result["rows"]]
    return [
        ("The machine at best", ["threads", "float32 GFLOP/s", "int8 GFLOP/s", "read GB/s"], peaks),
        ("Encoder", ["threads", "input s", "GFLOP", "one window ms", "side by side ms a window", "GFLOP/s", "share"],
         encoder),
        ("Decoder, a step", ["threads", "windows", "beam", "ms", "MB read", "GB/s", "share"], decoder),
        ("What else a window of 10 s costs, ms", ["threads", *result["rows"][0]["parts_ms"]], parts),
    ]  # fmt: skip
