"""What follows a failure, and what device runtimes mean by their texts."""

import pytest

from tests.batching_support import make_item
from tympan.batching.protocol import engine_error
from tympan.batching.recovery import Recovery, RecoveryPolicy
from tympan.errors import (
    EngineDeviceLost,
    EngineError,
    EngineHang,
    EngineOutOfMemory,
    ModelNotFound,
    UnsupportedOption,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA failed with error out of memory"), EngineOutOfMemory),
        (RuntimeError("parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal"), EngineOutOfMemory),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"), EngineOutOfMemory),
        (MemoryError(), EngineOutOfMemory),
        (EngineError("std::bad_alloc"), EngineOutOfMemory),
        (RuntimeError("CUDA failed with error unspecified launch failure"), EngineDeviceLost),
        (RuntimeError("an illegal memory access was encountered"), EngineDeviceLost),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED"), EngineDeviceLost),
        (RuntimeError("No CUDA-capable device is detected"), EngineDeviceLost),
        (ValueError("Invalid input shape"), EngineError),
        (EngineError("no luck"), EngineError),
        (EngineHang("too slow"), EngineHang),
        (ModelNotFound("out of memory lane"), ModelNotFound),
    ],
)
def test_device_texts_are_understood(error: Exception, kind: type[Exception]) -> None:
    """Texts become types once; typed errors stay what they are; the original text is kept."""
    typed = engine_error(error)
    assert type(typed) is kind
    assert str(error) in typed.message


def test_errors_of_the_request_are_not_bisected() -> None:
    """What fails for every window of the batch alike is answered at once."""
    recovery = Recovery(RecoveryPolicy(), 16)
    batch = (make_item(), make_item())
    verdict = recovery.failed(batch, UnsupportedOption("no alignment"))
    assert (len(verdict.answer), verdict.retry, verdict.recycle) == (2, (), False)


def test_halves_keep_everybody() -> None:
    """Odd batches are halved without losing the one in the middle."""
    batch = tuple(make_item() for _ in range(5))
    halves = Recovery(RecoveryPolicy(), 16).failed(batch, EngineError()).retry
    assert [len(half) for half in halves] == [3, 2]
    assert halves[0] + halves[1] == batch


def test_restarts_are_immediate_after_a_good_batch_and_slow_down_without_one() -> None:
    """The pauses double up to their cap; a good batch resets them."""
    recovery = Recovery(RecoveryPolicy(backoff_s=1.0, max_backoff_s=5.0), 16)
    assert [recovery.restart_delay_s() for _ in range(6)] == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]
    recovery.succeeded()
    assert recovery.restart_delay_s() == 0.0


def test_out_of_memory_streaks_are_broken_by_success() -> None:
    """Only refusals in a row recycle the engine."""
    recovery = Recovery(RecoveryPolicy(ooms_before_recycle=3), 16)
    for _ in range(10):
        batch = tuple(make_item() for _ in range(4))
        assert not recovery.failed(batch, EngineOutOfMemory()).recycle
        assert not recovery.failed(batch, EngineOutOfMemory()).recycle
        recovery.succeeded()
    assert recovery.max_batch == 16
