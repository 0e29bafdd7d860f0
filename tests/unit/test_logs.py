"""Log lines that nobody can forge, that tell no secrets, and that say which request and job they belong to."""

import io
import json
import logging
import math
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.api.support import wait_for
from tympan import logs
from tympan.batching import overhearing
from tympan.batching.overhearing import overhear

CANARY = "canarybird"
FORMATS: tuple[logs.LogFormat, ...] = ("json", "console")


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Give the loggers and the hooks back as they were."""
    root, ours = logging.getLogger(), logging.getLogger(logs.OURS)
    before = root.handlers[:], root.level, ours.level
    hooks = threading.excepthook, sys.unraisablehook
    yield
    logging.captureWarnings(capture=False)
    threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def lines(fmt: logs.LogFormat, level: str = "info") -> tuple[io.StringIO, logging.Logger]:
    """Configure logging into memory and return it with a library's logger."""
    stream = io.StringIO()
    logs.configure_logging(level, fmt, stream)
    return stream, logging.getLogger("some.library")


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines as objects; numbers that JSON does not have are refused."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_level_time_and_request_id() -> None:
    """Our lines and the libraries' have the same shape."""
    stream, library = lines("json")
    token = logs.request_id.set("req_1")
    logs.get_logger("tympan.test").info("hello", answer=42)
    library.warning("from %s", "afar")
    logs.request_id.reset(token)
    ours, theirs = parsed(stream)
    assert (ours["event"], ours["answer"], ours["level"], ours["request_id"]) == ("hello", 42, "info", "req_1")
    assert (theirs["event"], theirs["logger"], theirs["request_id"]) == ("from afar", "some.library", "req_1")
    assert ours["timestamp"].endswith("Z")


def test_lines_carry_what_they_are_about_while_it_lasts() -> None:
    """Ids are added inside the block, inner ones to outer ones, a library's line included; not behind it."""
    stream, library = lines("json")
    log = logs.get_logger("tympan.test")
    with logs.about(job_id="job_1"):
        with logs.about(tenant="t"):
            library.warning("inside")
        log.info("between", job_id="job_2")
    log.info("behind")
    inside, between, behind = parsed(stream)
    assert (inside["job_id"], inside["tenant"]) == ("job_1", "t")
    assert (between["job_id"], "tenant" in between) == ("job_2", False)
    assert "job_id" not in behind


def test_the_level_is_a_threshold_and_libraries_are_heard_from_warnings_up() -> None:
    """At `debug` we say more; libraries, which quote statements and addresses there, do not."""
    for level, ours_said in (("debug", True), ("warning", False)):
        stream, library = lines("console", level)
        library.info("theirs-quiet")
        logs.get_logger("tympan.x").debug("ours-quiet")
        library.warning("theirs-loud")
        logs.get_logger("tympan.x").warning("ours-loud")
        written = stream.getvalue()
        assert "theirs-quiet" not in written
        assert ("ours-quiet" in written) is ours_said
        assert "theirs-loud" in written
        assert "ours-loud" in written


@pytest.mark.parametrize("fmt", FORMATS)
def test_S1_exceptions_are_logged_without_their_message(fmt: logs.LogFormat) -> None:
    """Type and place are enough to find the fault; the message may quote what a user said."""
    stream, library = lines(fmt)
    try:
        int(CANARY)
    except ValueError as error:
        library.exception("failed")
        library.error("failed with %s", error)
        library.error("failed with %r", error)
        logs.get_logger("tympan.x").exception("broke", also=error)
    assert CANARY not in stream.getvalue()
    assert stream.getvalue().count("ValueError") == 5
    assert "test_logs.py" in stream.getvalue()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        f"amqp://user:{CANARY}@host:5672//",
        f"GET https://host/a.wav?signature={CANARY}&x=1 HTTP/1.1",
        f"https://host/a.wav#{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"{{'authorization': '{CANARY}'}}",
        f"Basic {CANARY}",
        f"x-api-key={CANARY}",
        f"the key tym_abc_{CANARY}",
        f"whsec_{CANARY}",
    ],
)
def test_S1_what_looks_like_a_secret_is_cut_out(fmt: logs.LogFormat, text: str) -> None:
    """Passwords and queries of addresses, header values and keys do not get through, whoever logs them."""
    stream, library = lines(fmt)
    library.warning("cannot reach %s", text)
    library.warning(text)
    logs.get_logger("tympan.x").warning("failed", cause=text, causes=[text, {"deep": text}])
    assert CANARY not in stream.getvalue()
    assert stream.getvalue().count("(hidden)") >= 5


def test_S1_plain_addresses_and_words_stay() -> None:
    """What an operator needs is not cut out with it."""
    stream, library = lines("json")
    library.warning("cannot reach amqp://host:5672/v at basic level")
    assert parsed(stream)[0]["event"] == "cannot reach amqp://host:5672/v at basic level"
    library.warning("https://host:9000/bucket/key.wav answered 403")
    assert parsed(stream)[1]["event"] == "https://host:9000/bucket/key.wav answered 403"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(math.nan),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(text=st.text(), value=ANYTHING)
def test_S4_no_text_can_forge_a_line(text: str, value: object) -> None:
    """Line ends, terminal codes and odd values come out as one line each, which is JSON where that is asked for."""
    for fmt in FORMATS:
        stream, library = lines(fmt)
        library.warning("%s", text)
        with logs.about(job_id=text):
            logs.get_logger("tympan.x").info("event", field=text, value=value)
        written = stream.getvalue()
        assert len(written.splitlines()) == 2
        assert "\x1b" not in written
        if fmt == "json":
            assert len(parsed(stream)) == 2


def test_S4_long_things_are_cut() -> None:
    """Nobody fills the disk with one line."""
    stream, _ = lines("json")
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    logs.get_logger("tympan.x").info("event", text="x" * 10**6, many=list(range(10**5)), deep=deep, kind=object())
    assert len(stream.getvalue()) < 10_000
    assert parsed(stream)[0]["kind"] == "object"


def test_a_line_that_cannot_be_made_is_said_to_be_broken() -> None:
    """Arguments that do not fit their message give a line of JSON and no traceback, which would quote them."""
    stream, library = lines("json")
    library.warning("%d files", CANARY)
    (line,) = parsed(stream)
    assert (line["event"], line["logger"]) == ("log_line_broken", "some.library")
    assert CANARY not in stream.getvalue()


def test_S1_threads_that_crash_and_warnings_are_log_lines() -> None:
    """What Python would print to standard error has the form of the log, without its message."""
    stream, _ = lines("json")
    logs.log_crashes()
    thread = threading.Thread(target=int, args=(CANARY,), name="worker-7")
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    crash, warning = parsed(stream)
    assert (crash["event"], crash["thread"], crash["error_type"]) == ("thread_crashed", "worker-7", "ValueError")
    assert warning["logger"] == "py.warnings"
    assert CANARY not in stream.getvalue()


def test_an_error_in_a_finalizer_is_a_log_line() -> None:
    """Errors that Python can give to nobody are logged by type."""
    stream, _ = lines("json")
    logs.log_crashes()

    class Careless:
        def __del__(self) -> None:
            raise ValueError(CANARY)

    Careless()
    (line,) = parsed(stream)
    assert (line["event"], line["error_type"]) == ("error_ignored", "ValueError")
    assert CANARY not in stream.getvalue()


def printing(code: str) -> "subprocess.Popen[bytes]":
    """Start a program as an engine's process is started."""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_what_an_engine_prints_becomes_lines_of_the_log() -> None:
    """On either stream, with whatever bytes, up to a limit; the process never waits for a reader."""
    stream, _ = lines("json")
    process = printing(
        "import os; os.write(2, b'a\\x1b[31m\\xff\\n\\n'); os.write(1, b'x' * 5000); os.write(2, b'y\\n' * 9000)"
    )
    overhear(process)
    assert process.wait(20) == 0
    wait_for(lambda: "says too much" in stream.getvalue())
    said = [line["event"] for line in parsed(stream)]
    assert said[0].startswith(f"engine process {process.pid} says: a\\x1b[31m")
    assert len(said) <= overhearing.MAX_LINES + 1
    assert max(len(line) for line in said) <= 1100


def test_S1_an_engine_process_that_breaks_says_where_and_nothing_else() -> None:
    """The message of an error that nobody caught stays inside."""
    ours, theirs = socketpair()
    with theirs:
        command = [sys.executable, "-m", "tympan.batching.child", str(theirs.fileno()), str(os.getpid())]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(theirs.fileno(),)
        )
    with Connection(ours.detach()) as wire:
        wire.send_bytes(CANARY.encode())
        printed, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert CANARY.encode() not in printed
    assert printed.startswith(b"UnpicklingError at ")
    assert printed.count(b"\n") == 1
