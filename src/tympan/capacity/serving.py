"""A server of our own for a moment, to measure what requests cost beside the engine."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tympan.bench.arrivals import End
from tympan.bench.client import Item, Target
from tympan.bench.load import Load, Outcome, Weighted, run
from tympan.errors import Cancelled, Unavailable

_START_LIMIT_S = 300.0
_STOP_LIMIT_S = 20.0
_POLL_S = 0.05
_PROGRAM = "from tympan.cli import main; main()"


@contextmanager
def server(environment: Mapping[str, str], folder: Path, stop: Callable[[], bool] = lambda: False) -> Iterator[str]:
    """Start ``tympan serve`` with settings from ``environment`` (names with their prefix) and yield its address.

    Its own data lies in ``folder``. Raises ``Unavailable`` when it does not come up, with what it said, and
    ``Cancelled``.
    """
    said = folder / "server.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith("TYMPAN_")}
    with said.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "serve"],
            env={**own, **environment, "TYMPAN_HOST": "127.0.0.1", "TYMPAN_PORT": "0", "TYMPAN_LOG_LEVEL": "info",
                 "TYMPAN_LOG_FORMAT": "json"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
    try:
        yield _address(child, said, stop)
    finally:
        child.terminate()
        try:
            child.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(_STOP_LIMIT_S)


def _address(child: "subprocess.Popen[bytes]", said: Path, stop: Callable[[], bool]) -> str:
    until_s = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < until_s:
        if stop():
            raise Cancelled
        text = said.read_text(encoding="utf-8", errors="replace")
        announced = next(
            (line for line in text.splitlines() if line.startswith("Tympan ") and " at http" in line), None
        )
        if announced is not None:
            return announced.rpartition(" at ")[2]
        if child.poll() is not None:
            break
        time.sleep(_POLL_S)
    last = " ".join(said.read_text(encoding="utf-8", errors="replace").split())[-300:]
    raise Unavailable(
        f"The server that was to be measured did not start: {last}", remedy="Try `tympan serve` by itself."
    )


def put_load(target: Target, users: int, item: Item, end: End, stop: Callable[[], bool]) -> Outcome:
    """Have so many callers at once send one recording until ``end``, and return what came of it.

    Raises ``Unavailable`` when one of them is not answered.
    """
    load = Load(end, users=users, warm_up=2)
    found = run(target, load, Weighted((item,), (1.0,)), stop, lambda _sample: None)
    wrong = next((sample.answer for sample in found.samples if sample.answer.error is not None), None)
    if wrong is not None and not found.cut_short:
        raise Unavailable(
            f"The server that was measured failed: {wrong.error} {wrong.detail}", remedy="Try `tympan serve` by itself."
        )
    if found.cut_short:
        raise Cancelled
    return found
