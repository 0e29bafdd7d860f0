"""The engine process: ``python -m tympan.batching.child FD PARENT_PID``.

It builds one engine, announces it, and answers batches in order until it is told to stop or its parent is gone. The
main thread owns the engine; a second thread receives the next batch while the main one computes.
"""

import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from tympan.batching.protocol import Answer, Done, Failed, LoadFailed, Ready, Request, Run, Stop, encode, engine_error
from tympan.engine import factory
from tympan.engine.base import Engine, EngineSpec
from tympan.errors import EngineError

_PR_SET_PDEATHSIG = 1
_ORPHANED = 3


def main(arguments: list[str]) -> NoReturn:
    """Serve one engine over the socket ``arguments[0]`` for the parent ``arguments[1]``; never returns."""
    fd, parent_pid = int(arguments[0]), int(arguments[1])
    _follow_parent(parent_pid)
    sys.excepthook = _tell
    threading.excepthook = lambda what: _tell(what.exc_type, what.exc_value, what.exc_traceback)
    faulthandler.enable()
    # The parent decides when this ends: a signal to the whole group must not cut a drain short.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wire: Connection[Answer, Request | EngineSpec] = Connection(fd)
    spec = wire.recv()
    if not isinstance(spec, EngineSpec):
        raise TypeError("The first message has to be the engine's spec.")
    # From here on the end of the parent ends this process at once, even in the middle of a load or a batch.
    inbox: queue.Queue[Request] = queue.Queue(maxsize=1)
    threading.Thread(target=_receive, args=(wire, inbox), name="receive", daemon=True).start()
    engine = _load(wire, spec)
    if engine is not None:
        _serve(wire, inbox, engine)
        engine.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Device runtimes may hang or crash in their exit handlers; there is nothing left to save.
    os._exit(0)


def _follow_parent(parent_pid: int) -> None:
    """Ask the kernel, where it can, to end this process with the thread that started it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(_ORPHANED)


def _tell(kind: type[BaseException], _error: BaseException | None, trace: TracebackType | None) -> None:
    """Print one line about an error that nobody caught, for the log; its message may quote what was said."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(trace)[-4:]]
    sys.stderr.write(f"{kind.__name__} at {' '.join(places)}\n")


def _receive(wire: "Connection[Answer, Request | EngineSpec]", inbox: "queue.Queue[Request]") -> None:
    while True:
        try:
            message = wire.recv()
        except (EOFError, OSError):
            os._exit(_ORPHANED)
        if isinstance(message, Run | Stop):
            inbox.put(message)


def _load(wire: "Connection[Answer, Request | EngineSpec]", spec: EngineSpec) -> Engine | None:
    began_s = time.monotonic()
    try:
        engine = factory.create(spec)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises has to reach the parent as a typed error
        wire.send_bytes(encode(LoadFailed(engine_error(error))))
        return None
    wire.send_bytes(encode(Ready(engine.info, time.monotonic() - began_s)))
    return engine


def _serve(wire: "Connection[Answer, Request | EngineSpec]", inbox: "queue.Queue[Request]", engine: Engine) -> None:
    while isinstance(message := inbox.get(), Run):
        wire.send_bytes(encode(_answer(engine, message)))


def _answer(engine: Engine, message: Run) -> Done | Failed:
    began_s = time.monotonic()
    try:
        results = tuple(engine.transcribe(message.tasks))
    except Exception as error:  # noqa: BLE001 - as in `_load`
        return Failed(message.batch_id, engine_error(error), time.monotonic() - began_s)
    compute_s = time.monotonic() - began_s
    if len(results) != len(message.tasks):
        mismatch = EngineError(f"The engine gave {len(results)} results for {len(message.tasks)} windows.")
        return Failed(message.batch_id, mismatch, compute_s)
    return Done(message.batch_id, results, compute_s)


if __name__ == "__main__":
    main(sys.argv[1:])
