"""Errors of the runtimes become errors of ours."""

import pytest

from tympan.engine.failures import translated
from tympan.errors import EngineError, EngineOutOfMemory, UnsupportedLanguage


class VendorError(Exception):
    """What a runtime raises; its errors need not have a base of their own."""


def raised(error: Exception, *kinds: type[Exception]) -> EngineError:
    """Return what becomes of ``error``."""
    with pytest.raises(EngineError) as caught, translated("The runtime", *kinds):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failed with error out of memory",
        "cuBLAS failed: Out Of Memory",
        "failed to allocate memory: bad allocation",
        "std::bad_alloc",
        "Failed to allocate memory for requested buffer of size 12",
    ],
)
def test_running_out_of_memory_is_told_from_other_failures(text: str) -> None:
    """The batcher halves a batch on this error, so it has a type of its own, and keeps the runtime's words."""
    error = raised(VendorError(text), VendorError)
    assert type(error) is EngineOutOfMemory
    assert str(error).startswith(f"The runtime failed: {text}")


@pytest.mark.parametrize("text", ["", "No position encodings are defined", "unspecified launch failure", "memory"])
def test_other_failures_are_plain_engine_errors(text: str) -> None:
    """Nothing else passes for a lack of memory."""
    error = raised(VendorError(text), ValueError, VendorError)
    assert type(error) is EngineError
    assert text in str(error)


def test_a_lack_of_memory_in_python_is_one_whatever_it_says() -> None:
    """NumPy raises it before a runtime is asked for anything."""
    assert type(raised(MemoryError("Unable to allocate 3 GiB"))) is EngineOutOfMemory


@pytest.mark.parametrize("error", [VendorError("out of memory"), UnsupportedLanguage("No."), KeyError("x")])
def test_everything_else_passes_as_it_is(error: Exception) -> None:
    """Errors that already say what is wrong, and mistakes of the program."""
    with pytest.raises(type(error)) as caught, translated("The runtime", ValueError):
        raise error
    assert caught.value is error
