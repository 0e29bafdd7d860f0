"""What model runtimes raise, as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from tympan.errors import EngineError, EngineOutOfMemory

_OUT_OF_MEMORY = ("out of memory", "cudaerrorinvaliddevice", "bad_alloc", "bad allocation", "failed to allocate")


@contextmanager
def translated(runtime: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise exceptions of ``kinds`` as ``EngineError``, and a lack of memory as ``EngineOutOfMemory``.

    Runtimes tell of a lack of memory in words only; ``MemoryError`` is always one.
    """
    caught: tuple[type[Exception], ...] = (MemoryError, *kinds)
    try:
        yield
    except caught as error:
        text = str(error)
        scarce = isinstance(error, MemoryError) or any(mark in text.lower() for mark in _OUT_OF_MEMORY)
        raise (EngineOutOfMemory if scarce else EngineError)(f"{runtime} failed: {text}") from error
