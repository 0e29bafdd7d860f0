"""The engine's process: start, answer, hang, crash, close; and the fault matrix against the fake engine."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.batching_support import NO_PREFETCH_S, make_task, origin, running, submit_together
from tympan.batching.batcher import BatcherOptions
from tympan.batching.host import EngineHost, HostOptions
from tympan.batching.protocol import Done, Event, Exited
from tympan.batching.queue import BatchLimits
from tympan.batching.recovery import RecoveryPolicy
from tympan.batching.stats import BatchReport
from tympan.domain import DecodeParams, Task, WindowTask
from tympan.engine.base import EngineSpec
from tympan.engine.fake import TOKEN_CAP
from tympan.errors import ConfigError, EngineError, EngineHang, TympanError

WATCHDOG_S = 0.6
OPTIONS = BatcherOptions(
    batch=BatchLimits(max_windows=16, max_ms=1e9, idle_ms=1e9, take_turns=False),
    recovery=RecoveryPolicy(backoff_s=0.05),
    host=HostOptions(load_timeout_s=20.0, hang_floor_s=WATCHDOG_S, hang_factor=1.0, close_grace_s=0.5),
    prefetch_lead_s=NO_PREFETCH_S,
)
PATIENT = replace(OPTIONS, host=replace(OPTIONS.host, hang_floor_s=30.0))
SLOW = {"ms_per_batch": "60"}
POISON = 12_345
TASKS = [make_task(n) for n in range(8)]
SPEC = EngineSpec("fake", "demo")


def poisoned(index: int = 77) -> WindowTask:
    """Return a window that the fake engine chokes on when told to."""
    task = make_task(index)
    task.window.samples[100] = POISON
    return task


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_events(host: EngineHost, within_s: float = 30.0) -> list[Event]:
    """Return the next events of a host."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if events := host.events():
            return events
        time.sleep(0.002)
    pytest.fail("no event in time")


@pytest.fixture
def host() -> Iterator[EngineHost]:
    """Give a started host with a fake engine."""
    host = EngineHost(SPEC, HostOptions(close_grace_s=30.0))
    host.start()
    yield host
    host.close()


def test_it_announces_its_engine_and_answers_in_order(host: EngineHost) -> None:
    """Two batches handed over at once are answered one after the other, with their times."""
    host.send(1, TASKS[:3], 0.1)
    host.send(2, TASKS[3:], 0.1)
    events: list[Event] = []
    while len(events) < 2:
        events += wait_events(host)
    assert [(type(event), getattr(event, "batch_id", 0)) for event in events] == [(Done, 1), (Done, 2)]
    assert isinstance(events[0], Done)
    assert len(events[0].results) == 3
    assert 0.0 <= events[0].compute_s < 10.0
    assert host.remaining_s() is None


def test_it_tells_its_memory_and_ends_politely(host: EngineHost) -> None:
    """The process's memory is plausible, and nothing of it is left after a close."""
    assert host.memory_bytes is not None
    assert 5_000_000 < host.memory_bytes < 500_000_000
    pid = host.pid
    assert pid is not None
    began_s = time.monotonic()
    host.close()
    assert time.monotonic() - began_s < 20.0
    assert not alive(pid)
    assert host.pid is None


@pytest.mark.parametrize(
    ("knobs", "kind", "text"),
    [
        ({"load_error": "weights are torn"}, EngineError, "weights are torn"),
        ({"load_exit": "9"}, EngineError, "ended with status 9"),
        ({"load_delay_s": "90"}, EngineHang, "did not load within"),
        ({"no_such_knob": "1"}, ConfigError, "no_such_knob"),
    ],
)
def test_a_failed_load_is_a_typed_error_and_leaves_no_process(
    knobs: dict[str, str], kind: type[TympanError], text: str
) -> None:
    """Whether the engine raises, dies, hangs or is misconfigured at load, start says so in bounded time."""
    host = EngineHost(
        replace(SPEC, options=tuple(knobs.items())), HostOptions(load_timeout_s=1.5 if kind is EngineHang else 60.0)
    )
    began_s = time.monotonic()
    with pytest.raises(kind, match=text):
        host.start()
    assert time.monotonic() - began_s < 60.0
    assert host.pid is None


def test_an_unknown_engine_is_a_configuration_error() -> None:
    """The remedy names the engines there are."""
    with pytest.raises(ConfigError, match=r"There is no engine 'nope'.*ct2, fake"):
        EngineHost(replace(SPEC, kind="nope"), HostOptions()).start()


def test_the_environment_is_set_before_the_child_loads_anything(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Thread settings reach the child's very first import, and the parent's own environment stays as it is."""
    caplog.set_level("INFO", "tympan.batching")
    environment = {"OMP_NUM_THREADS": "3", "PYTHONVERBOSE": "1"}
    host = EngineHost(SPEC, HostOptions(environment=environment))
    host.start()
    pid = host.pid
    assert pid is not None
    seen = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    host.close()
    assert b"OMP_NUM_THREADS=3" in seen
    assert os.environ.get("OMP_NUM_THREADS") != "3"
    assert " says: " in caplog.text, "what the child prints is in the log"
    assert capfd.readouterr().out == ""


def test_the_child_imports_no_more_than_it_needs() -> None:
    """Web framework, decoder, metrics and command line have no place in the engine's process."""
    code = (
        "import sys, json, tympan.batching.child, tympan.engine.fake;"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=source_environment())
    loaded = set(json.loads(done.stdout))
    assert "numpy" in loaded
    assert not loaded & {
        "fastapi",
        "starlette",
        "uvicorn",
        "av",
        "onnxruntime",
        "typer",
        "prometheus_client",
        "pydantic",
    }


def source_environment() -> dict[str, str]:
    """Return an environment in which a fresh interpreter finds the package under test."""
    import tympan  # noqa: PLC0415 - only its place is wanted

    return {**os.environ, "PYTHONPATH": str(Path(tympan.__file__).parents[1])}


def test_a_signal_to_the_whole_group_does_not_cut_a_batch_short(host: EngineHost) -> None:
    """The parent decides when the engine ends: Ctrl-C and a service manager's TERM reach the child in vain."""
    assert host.pid is not None
    os.kill(host.pid, signal.SIGTERM)
    os.kill(host.pid, signal.SIGINT)
    host.send(1, TASKS, 0.1)
    assert isinstance(wait_events(host)[0], Done)


def test_a_killed_child_is_reported_at_once(host: EngineHost) -> None:
    """An out-of-memory kill from outside is noticed while nothing is asked of it, with the signal's name."""
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    (event,) = wait_events(host)
    assert isinstance(event, Exited)
    assert "SIGKILL" in event.error.message


def test_a_stopped_child_does_not_block_its_parent(host: EngineHost) -> None:
    """Sending more than a pipe holds to a frozen process returns at once; closing still works."""
    assert host.pid is not None
    os.kill(host.pid, signal.SIGSTOP)
    tasks = [make_task(n, 30.0) for n in range(8)]
    sender = threading.Thread(target=host.send, args=(1, tasks, 0.1), daemon=True)
    began_s = time.monotonic()
    sender.start()
    sender.join(30.0)
    assert not sender.is_alive()
    host.close(0.2)
    assert time.monotonic() - began_s < 60.0
    assert host.pid is None


def test_a_close_that_never_returns_ends_at_the_grace_time() -> None:
    """An engine stuck in its own shutdown is killed after the grace time, which it would outlast for ever."""
    host = EngineHost(replace(SPEC, options=(("stuck_close", "1"),)), HostOptions())
    host.start()
    began_s = time.monotonic()
    host.close(0.3)
    assert 0.3 <= time.monotonic() - began_s <= 30.0
    assert host.pid is None


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    """A parent killed in the middle of a batch leaves no engine behind."""
    program = tmp_path / "parent.py"
    program.write_text(
        "import sys, time\n"
        "from tests.batching_support import make_task\n"
        "from tympan.batching.host import EngineHost, HostOptions\n"
        "from tympan.engine.base import EngineSpec\n"
        "host = EngineHost(EngineSpec('fake', 'demo', options=(('hang_at', '1'),)), HostOptions())\n"
        "host.start()\n"
        "host.send(1, [make_task()], 1.0)\n"
        "print(host.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = source_environment()
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait(30.0)
        deadline_s = time.monotonic() + 30.0
        while alive(pid) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert not alive(pid)


class Watch:
    """An observer that writes down when the engine was replaced, and whether the batcher then called itself ready."""

    def __init__(self) -> None:
        """Start empty."""
        self.restarts: list[tuple[float, str]] = []

    def on_batch(self, report: BatchReport) -> None:
        """Batches are of no interest."""

    def on_restart(self, reason: str) -> None:
        """Write it down."""
        self.restarts.append((time.monotonic(), reason))


@pytest.mark.alone
def test_A5_a_hang_inside_native_code_is_killed_and_the_window_runs_again(tmp_path: Path) -> None:
    """The watchdog kills within two of its periods, nothing is ready meanwhile, and the window is done."""
    knobs = {"hang_at": "2", "counter": str(tmp_path / "n"), "load_delay_s": "0.2"}
    watch = Watch()
    with running(OPTIONS, knobs, observer=watch) as batcher:
        batcher.submit(TASKS[0], origin()).result(60.0)
        began_s = time.monotonic()
        reply = batcher.submit(TASKS[1], origin())
        unready = False
        while not reply.done() and time.monotonic() < began_s + 60.0:
            unready |= not batcher.ready
            time.sleep(0.005)
        assert reply.result(0.0).text
        assert unready
        assert batcher.ready
    ((killed_s, reason),) = watch.restarts
    assert reason == "engine_hang"
    assert WATCHDOG_S <= killed_s - began_s <= 2 * WATCHDOG_S


def test_H3_decoding_that_never_ends_stops_at_the_token_cap() -> None:
    """A window never costs more than 224 tokens, and says that it ran into the cap."""
    with running(OPTIONS, {"never_ends": "1"}) as batcher:
        result = batcher.submit(make_task(0, 30.0), origin()).result(60.0)
    assert result.hit_token_cap
    assert len(result.tokens) == TOKEN_CAP == 224


def test_H6_one_poison_window_costs_its_neighbours_nothing() -> None:
    """Seven of eight windows in one batch are done; the eighth gets the engine's error."""
    with running(OPTIONS, {"poison": str(POISON), **SLOW}) as batcher:
        replies = submit_together(batcher, [*TASKS[:3], poisoned(), *TASKS[4:]])
        errors = [reply.exception(60.0) for reply in replies]
        assert [error is None for error in errors] == [True] * 3 + [False] + [True] * 4
        assert isinstance(errors[3], EngineError)
        assert batcher.stats().restarts == 0


def test_H6_one_aborting_window_costs_its_neighbours_nothing() -> None:
    """The same when the poison takes the whole process down each time: three restarts, then quarantine."""
    with running(PATIENT, {"poison": str(POISON), "poison_does": "abort", **SLOW}) as batcher:
        replies = submit_together(batcher, [*TASKS[:3], poisoned(), *TASKS[4:]])
        errors = [reply.exception(20.0) for reply in replies]
        assert [error is None for error in errors] == [True] * 3 + [False] + [True] * 4
        assert "3 times on this audio" in str(errors[3])
        assert batcher.stats().restarts == 3


def variants(task: WindowTask) -> list[WindowTask]:
    """Return the same audio with prompts, tasks and temperatures of different requests."""
    ways = [
        DecodeParams(),
        DecodeParams(prompt="a letter about the harbour", language="en"),
        DecodeParams(hotwords="zebra", language="de"),
        DecodeParams(task=Task.TRANSLATE, beam_size=1),
    ]
    return [WindowTask(task.window, params) for params in ways]


def test_K6_nothing_bleeds_from_one_request_into_another() -> None:
    """In 200 random interleavings of requests, every window gets exactly what it gets alone."""
    dice = random.Random(20)  # noqa: S311 - repeatable, not secret
    tasks = [way for n in range(3) for way in variants(make_task(n, 0.5 + n))]
    with running(replace(OPTIONS, batch=BatchLimits(max_windows=8, take_turns=False), prefetch_lead_s=0.1)) as batcher:
        alone = [batcher.submit(task, origin("solo")).result(60.0) for task in tasks]
        for _ in range(200):
            picks = dice.choices(range(len(tasks)), k=6)
            replies = [batcher.submit(tasks[pick], origin(f"r{n}", f"t{n % 2}")) for n, pick in enumerate(picks)]
            assert [reply.result(60.0) for reply in replies] == [alone[pick] for pick in picks]
        assert batcher.stats().mean_batch > 1.0
    assert len({result.text for result in alone}) == len(tasks)


OUT_OF_MEMORY = "CUDA failed with error out of memory"


def test_R1_out_of_memory_once_halves_the_batch_in_place() -> None:
    """All eight windows are done without a restart."""
    halved_in_place({"fail_at": "2", "fail_text": OUT_OF_MEMORY})


def test_R3_the_other_text_of_an_exhausted_device_is_treated_alike() -> None:
    """``cudaErrorInvalidDevice`` from ``parallel_for`` means memory, too."""
    halved_in_place(
        {"fail_at": "2", "fail_text": "parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal"}
    )


def halved_in_place(knobs: dict[str, str]) -> None:
    """Run eight windows whose first common batch fails once."""
    with running(PATIENT, {**knobs, **SLOW}) as batcher:
        replies = submit_together(batcher, TASKS)
        assert all(reply.result(60.0).text for reply in replies)
        stats = batcher.stats()
        # The window before, and two halves; the failed batch does not count.
        assert (stats.restarts, stats.batches, stats.windows) == (0, 3, 9)


def test_R2_out_of_memory_three_times_recycles_and_lowers_the_batch_size(tmp_path: Path) -> None:
    """One restart, smaller batches from then on, every window done."""
    knobs = {"fail_at": "2-4", "fail_text": OUT_OF_MEMORY, "counter": str(tmp_path / "n"), **SLOW}
    with running(PATIENT, knobs) as batcher:
        replies = submit_together(batcher, TASKS)
        assert all(reply.result(60.0).text for reply in replies)
        stats = batcher.stats()
        assert (stats.restarts, stats.max_batch) == (1, 8)


def test_R2_a_device_too_small_for_the_batch_settles_at_what_fits() -> None:
    """When more than two windows never fit, everything is still done, in pairs."""
    with running(PATIENT, {"max_windows": "2", **SLOW}) as batcher:
        for _ in range(3):
            replies = submit_together(batcher, TASKS)
            assert all(reply.result(60.0).text for reply in replies)
        assert batcher.stats().restarts <= 3


@pytest.mark.parametrize(
    "fault",
    [
        {"fail_at": "2", "fail_text": "CUDA failed with error unspecified launch failure"},
        {"abort_at": "2"},
        {"exit_at": "2"},
    ],
    ids=["launch failure", "abort", "exit"],
)
def test_R4_a_lost_device_is_replaced_at_once(fault: dict[str, str], tmp_path: Path) -> None:
    """All windows, the eight in the lost batch and one after, are done within one restart, long before the watchdog."""
    with running(PATIENT, {**fault, "counter": str(tmp_path / "n"), **SLOW}) as batcher:
        replies = submit_together(batcher, TASKS)
        began_s = time.monotonic()
        replies.append(batcher.submit(make_task(50), origin("neighbour")))
        assert all(reply.result(60.0).text for reply in replies)
        assert time.monotonic() - began_s <= 25.0  # The watchdog, which would find it too, waits for 30.
        assert batcher.stats().restarts == 1


def test_a_leaking_engine_is_replaced_at_its_memory_cap() -> None:
    """With 40 MiB leaked per batch and a cap of 200 MiB, the process never grows past one batch more."""
    cap_bytes = 200 << 20
    options = replace(OPTIONS, recovery=RecoveryPolicy(max_memory_bytes=cap_bytes))
    with running(options, {"leak_mb": "40"}) as batcher:
        for n in range(12):
            assert batcher.submit(make_task(n, 0.1), origin()).result(60.0).text
            assert (batcher.memory_bytes or 0) <= cap_bytes + (45 << 20)
        assert 1 <= batcher.stats().restarts <= 4


def test_long_windows_travel_whole() -> None:
    """Batches far larger than a pipe's buffer arrive unharmed in both directions."""
    tasks = [make_task(n, 30.0, DecodeParams(align=True)) for n in range(16)]
    with running(PATIENT, SLOW) as batcher:
        texts = [reply.result(60.0).text for reply in submit_together(batcher, tasks)]
        assert texts == [batcher.submit(task, origin()).result(60.0).text for task in tasks]


def test_the_fake_poison_is_not_in_ordinary_noise() -> None:
    """The premise of the poison tests."""
    assert not any(np.any(task.window.samples == POISON) for task in TASKS)
    assert np.any(poisoned().window.samples == POISON)
