"""Peak memory of the whole server while it works on a very long file, and how fast it is ready."""

import itertools
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import REPOSITORY, BenchmarkError, Item, Job
from benchmarks.scoring import Clip, licences
from benchmarks.server import SERVE, Server
from benchmarks.setup import Setup
from benchmarks.store import Check, say, write_result
from benchmarks.tree import MIB, TreeSampler

HEADROOM_GOAL_MIB = 400.0
READY_GOAL_S = 5.0
HOUR_S = 3_600
LOOP_S = 600
IDLE_S = 1.0
RATE_HZ = 16_000
LIMITS = {"TYMPAN_MAX_AUDIO_S": "40000", "TYMPAN_MAX_UPLOAD_MB": "4000", "TYMPAN_REQUEST_TIMEOUT_S": "7200"}


def memory(setup: Setup, fake: Mapping[str, str], *, long_h: float = 10.0, real_h: float = 1.0) -> Path:
    """Measure both files, write ``memory.json`` and return its path. ``fake`` holds the fake engine's settings."""
    if setup.quick:
        long_h, real_h = 0.5, 0.05
    steps = setup.steps("memory", f"{long_h} {real_h}")
    weights = setup.model_facts()
    clips = [clip for name in ("b_longform", "a_english_read") for clip in setup.clips(name) if clip.language == "en"]
    files: dict[str, tuple[float, Mapping[str, str], float]] = {
        "fake": (long_h, fake, 0.0),
        "real": (real_h, {}, weights["bytes"] / MIB),
    }
    rows: list[dict[str, Any]] = []
    for engine, (hours, settings, model_mib) in files.items():
        measured = steps.value(f"{hours:g} h, {engine} engine", partial(_measure, setup, clips, hours, settings))
        rows.append({"engine": engine, "hours": hours, "model_mib": round(model_mib, 1), **measured})
    for row in rows:
        row["above_model_mib"] = round(row["peak_rss_mib"] - row["model_mib"], 1)
        row["above_model_pss_mib"] = round(row["peak_pss_mib"] - row["model_mib"], 1)
    payload = {"model": weights, "licences": licences(clips), "rows": rows}
    return write_result(setup.results, "memory", payload, [_memory_check(row) for row in rows])


def ready(setup: Setup, *, runs: int = 5) -> Path:
    """Measure spawn to ``/readyz`` on warm caches, write ``ready.json`` and return its path."""
    commands: dict[str, Sequence[str]] = {"tympan serve": SERVE}
    if _is_installed():
        commands["make serve"] = ("make", "serve")
    else:
        say("make serve is left out: it would install first, which is no warm start. Run make install.")
    rows: list[dict[str, Any]] = []
    for name, command in commands.items():
        # The first start fills the page cache and any other cache; it is not counted.
        times = [_start(setup, command) for _ in range(1 + (1 if setup.quick else runs))][1:]
        rows.append({"command": name, "median_s": round(statistics.median(times), 3), "max_s": round(max(times), 3),
                     "runs_s": [round(value, 3) for value in times]})  # fmt: skip
    payload = {"model": setup.model_facts(), "rows": rows}
    return write_result(setup.results, "ready", payload, [_ready_check(row) for row in rows])


def _is_installed() -> bool:
    """Say whether ``make serve`` would start at once, without changing anything."""
    make = shutil.which("make")
    if make is None:
        return False
    asked = [make, "-q", ".venv/.installed"]
    return subprocess.run(asked, cwd=REPOSITORY, capture_output=True, check=False, timeout=30).returncode == 0


def _ready_check(row: dict[str, Any]) -> Check:
    measured = f"{row['median_s']:.2f} s (slowest {row['max_s']:.2f} s)"
    return Check(f"ready, {row['command']}", f"<= {READY_GOAL_S:g} s", measured, row["max_s"] <= READY_GOAL_S)


def _start(setup: Setup, command: Sequence[str]) -> float:
    with setup.server("ready", command=command) as server:
        say(f"{' '.join(command[-2:])}: ready in {server.ready_s:.2f} s")
        return server.ready_s


def _memory_check(row: dict[str, Any]) -> Check:
    above = row["above_model_mib"]
    name = f"peak memory, {row['hours']:g}-hour file, {row['engine']} engine"
    text = f"model + {above:.0f} MiB ({row['above_model_pss_mib']:.0f} MiB with shared pages counted once)"
    return Check(name, f"<= model + {HEADROOM_GOAL_MIB:g} MiB", text, above <= HEADROOM_GOAL_MIB)


def _measure(setup: Setup, clips: Sequence[Clip], hours: float, settings: Mapping[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=setup.work, prefix="long-") as folder:
        path = Path(folder) / "long.mp3"
        write_long(path, clips, hours * HOUR_S)
        with setup.server("memory", {**LIMITS, **settings}) as server:
            return _sample(server, path, hours)


def _sample(server: Server, path: Path, hours: float) -> dict[str, Any]:
    job = Job((Item(f"{hours:g} h", str(path), "en"),), beam=5)
    with TreeSampler(server.pid) as idle:
        time.sleep(IDLE_S)
    with TreeSampler(server.pid) as busy:
        done = server.run(job)
    return {
        **busy.as_dict(),
        "wall_s": round(done.wall_s, 1),
        "file_bytes": path.stat().st_size,
        "characters": len(done.texts[job.items[0].id]),
        "idle": idle.as_dict(),
    }


def write_long(path: Path, clips: Sequence[Clip], length_s: float) -> None:
    """Write an MP3 of about ``length_s`` seconds of real speech: ten minutes of joined clips, repeated.

    MP3 frames without a bit reservoir stand alone, so the encoded bytes can be repeated as they are.
    """
    loop_s = min(LOOP_S if length_s > HOUR_S else length_s, length_s)
    loop = path.with_suffix(".loop.mp3")
    _encode(loop, _joined(clips, loop_s))
    data = loop.read_bytes()
    with path.open("wb") as file:
        for _ in range(max(1, round(length_s / loop_s))):
            file.write(data)
    loop.unlink()


def _joined(clips: Sequence[Clip], length_s: float) -> Iterator[bytes]:
    """Yield 16-bit PCM of the clips in turn until ``length_s`` seconds are full."""
    left = int(length_s * RATE_HZ) * 2
    for clip in itertools.cycle(clips):
        arguments = ["-v", "error", "-i", str(clip.path), "-ac", "1", "-ar", str(RATE_HZ), "-f", "s16le", "-"]
        pcm = subprocess.run([ffmpeg(), *arguments], capture_output=True, check=True, timeout=120).stdout[:left]
        yield pcm
        left -= len(pcm)
        if left <= 0:
            return


def _encode(path: Path, parts: Iterator[bytes]) -> None:
    codec = ["-c:a", "libmp3lame", "-b:a", "48k", "-reservoir", "0", "-write_xing", "0", "-id3v2_version", "0"]
    source = ["-v", "error", "-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "-"]
    with subprocess.Popen([ffmpeg(), *source, *codec, "-y", str(path)], stdin=subprocess.PIPE) as encoder:
        if encoder.stdin is None:
            raise BenchmarkError("ffmpeg has no input.")
        for part in parts:
            encoder.stdin.write(part)
        encoder.stdin.close()
        if encoder.wait(timeout=120):
            raise BenchmarkError("ffmpeg could not encode the long file; its messages are above.")


def ffmpeg() -> str:
    """Return the path of ffmpeg; raises ``BenchmarkError`` with the remedy when there is none."""
    path = shutil.which("ffmpeg")
    if path is None:
        raise BenchmarkError("The memory benchmark makes its long files with ffmpeg. Install it (package ffmpeg).")
    return path
