"""What this machine can do at best: matrix products a second in two number formats, bytes read a second."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

SHAPES = ((2048, 2048, 2048), (1500, 512, 2048), (1500, 2048, 512), (512, 512, 512), (256, 1024, 1024))
"""Rows, inner and outer size of the products tried; the fastest is the peak."""

REPEATS = 12
READ_BYTES = 256 << 20
_ERRORS_ONLY = 3


def product_peak_gflops(kind: str, threads: int) -> float:
    """Return the most 10^9 operations a second over ``SHAPES``, for ``float32`` or ``int8`` with constant weights."""
    return max(_gflops(kind, threads, shape) for shape in SHAPES)


def read_peak_gbs(threads: int) -> float:
    """Return the most 10^9 bytes a second that ``threads`` threads read from memory, together."""
    rows = READ_BYTES // 4 // 8192 // threads
    parts = [(np.ones((rows, 8192), np.float32), np.ones(8192, np.float32)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        took_s = fastest_s(lambda: list(pool.map(lambda part: part[0] @ part[1], parts)))
    return threads * rows * 8192 * 4 / took_s / 1e9


def fastest_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the least seconds of some calls: what disturbs a call can only make it longer."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _gflops(kind: str, threads: int, shape: tuple[int, int, int]) -> float:
    rows, inner, outer = shape
    random = np.random.default_rng(0)
    weights: NDArray[Any]
    given: NDArray[Any]
    if kind == "int8":
        weights = random.integers(-127, 128, (inner, outer), dtype=np.int8)
        given = random.integers(0, 256, (rows, inner), dtype=np.uint8)
    else:
        weights = random.standard_normal((inner, outer), dtype=np.float32)
        given = random.standard_normal((rows, inner), dtype=np.float32)
    session = _product(weights, given, threads)
    return 2.0 * rows * inner * outer / fastest_s(partial(session.run, None, {"x": given})) / 1e9


def _product(weights: NDArray[Any], given: NDArray[Any], threads: int) -> Any:
    whole = weights.dtype == np.int8
    stored = [helper.make_tensor("w", helper.np_dtype_to_tensor_dtype(weights.dtype), weights.shape, weights.tobytes(),
                                 raw=True)]  # fmt: skip
    names = ["x", "w"]
    if whole:
        stored.append(helper.make_tensor("zero", TensorProto.UINT8, [], [128]))
        names.append("zero")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if whole else "MatMul", names, ["y"])],
        "product",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(given.dtype), given.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32 if whole else TensorProto.FLOAT, None)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
