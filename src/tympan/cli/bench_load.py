"""``tympan bench load`` from flags to files."""

import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from tympan.audio.decode import Decoder
from tympan.bench import load_report, recordings
from tympan.bench.arrivals import MAX_REQUESTS, End
from tympan.bench.client import Item, Target
from tympan.bench.facts import command_line, provenance
from tympan.bench.load import Load, Sample, Weighted, check_size, run
from tympan.bench.pages import write_all
from tympan.bench.recordings import Recording
from tympan.cli.bench_engine import audio_sets
from tympan.cli.bench_options import LoadArgs, OutputArgs, SentArgs, ServerArgs, listed, weighted
from tympan.cli.console import ExitCode, say, stderr
from tympan.cli.stopping import stopping_on_signals
from tympan.errors import InvalidRequest
from tympan.languages import language_code

NAME = "load"
LENGTHS = ((5.0, 6.0), (30.0, 3.0), (120.0, 1.0))
"""Seconds and weights of what is sent unless something else is asked for: mostly short, some long."""

_SAY_EVERY = 50


def execute(server: ServerArgs, sent: SentArgs, asked: LoadArgs, out: OutputArgs) -> int:
    """Measure, write the results and return the exit code."""
    target, load = _target(server), _load(asked)
    load.check()
    signals: list[int] = []
    stop = Event()
    items = _items(sent)
    origin = {**provenance(), "command": _command()}
    with ExitStack() as stack:
        seen = stack.enter_context(_watching(load, quiet=out.quiet))
        stack.enter_context(stopping_on_signals(stop, signals))
        outcome = run(target, load, items, stop.is_set, seen)
    document = load_report.document(target, load, items, outcome, origin)
    charts = load_report.charts(document)
    page = load_report.page(document, [f"{NAME}-{name}.svg" for name in charts])
    written = write_all(out.output, NAME, document, charts, page)
    if not out.quiet:
        _show(document["figures"])
        say(f"Written: {', '.join(str(path) for path in written)}.")
    if signals:
        say("Interrupted; the figures are of what was answered until then.")
        return 128 + signals[0]
    return ExitCode.OK if not document["figures"]["errors"] else ExitCode.SOME_FAILED


def _command() -> str:
    """Return the command without a key that stands in it."""
    words, hidden = [], False
    for word in sys.argv[1:]:
        words.append("KEY" if hidden else "--api-key=KEY" if word.startswith("--api-key=") else word)
        hidden = word == "--api-key"
    return command_line("tympan", words)


def _target(server: ServerArgs) -> Target:
    fields = []
    for text in server.field or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidRequest(f"{text!r} is not a field.", remedy="Write --field NAME=VALUE.")
        fields.append((name, value))
    target = Target(server.url, server.api, server.model, server.api_key, server.timeout, tuple(fields))
    _ = target.route  # An address that is none is told before anything is made ready.
    return target


def _load(asked: LoadArgs) -> Load:
    return Load(
        End(asked.requests or MAX_REQUESTS, asked.duration or math.inf),
        rate_per_s=asked.rate,
        users=asked.concurrency,
        max_in_flight=asked.max_in_flight,
        warm_up=asked.warm_up,
        seed=asked.seed,
    )


def _items(sent: SentArgs) -> Weighted:
    """Return what requests send, read into memory."""
    lengths = _lengths(sent)
    with tempfile.TemporaryDirectory(prefix="tympan-bench-") as folder, Decoder() as decoder:
        decode = recordings.Decode(decoder.stream, recordings.MAX_LENGTH_S)
        sets = audio_sets(sent.audio, [seconds for seconds, _ in lengths], Path(folder), decode)
        check_size(recording.path for group in sets for recording in group.recordings)
        found = [_item(recording, sent) for group in sets for recording in group.recordings]
    weights = tuple(weight for _, weight in lengths) or (1.0,) * len(found)
    items = Weighted(tuple(found), weights)
    items.check()
    return items


def _lengths(sent: SentArgs) -> tuple[tuple[float, float], ...]:
    if sent.length is not None:
        return listed(sent.length, weighted, "--length")
    return () if sent.audio else LENGTHS


def _item(recording: Recording, sent: SentArgs) -> Item:
    try:
        data = recording.path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{recording.path} cannot be read: {error.strerror}.") from error
    language = language_code(sent.language) if sent.language else recording.language
    reference = None if sent.no_wer else recording.reference
    return Item(recording.path.name, data, recording.duration_s, language, reference)


class _Counter:
    """Counts answers: a bar at a terminal, a line now and then elsewhere."""

    def __init__(self, bars: Any, total: int | None) -> None:
        self._bars, self._done, self._failed = bars, 0, 0
        self._task = bars.add_task("", total=total) if bars else None

    def __call__(self, sample: Sample) -> None:
        """Take note of a request that is over."""
        self._done += 1
        self._failed += sample.answer.error is not None
        words = f"{self._done} done" + (f", {self._failed} failed" if self._failed else "")
        if self._bars:
            self._bars.update(self._task, completed=self._done, description=words)
        elif self._done % _SAY_EVERY == 0:
            say(words)


def _ignore(_sample: Sample) -> None:
    """Nobody watches."""


@contextmanager
def _watching(load: Load, *, quiet: bool) -> Iterator[Any]:
    total = load.end.requests if load.end.requests < MAX_REQUESTS else None
    if total is None and load.rate_per_s is not None:
        total = max(1, round(load.rate_per_s * load.end.duration_s))
    if quiet:
        yield _ignore
    elif not stderr().is_terminal:
        yield _Counter(None, total)
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=stderr(), transient=True) as bars:
            yield _Counter(bars, total)


def _show(figures: dict[str, Any]) -> None:
    answered = f"{figures['answered']} of {figures['requests']} answered in {figures['wall_s']:.1f} s"
    say(f"{answered}: {figures['throughput_audio_s_per_s']:.2f} audio-seconds a second.")
    for name, title in (("latency_ms", "answered"), ("latency_of_all_ms", "all")):
        if figures[name]:
            say(f"latency, {title}: " + ", ".join(_percentile(*pair) for pair in figures[name].items()))
    if figures["wer"] is not None:
        say(f"word errors: {figures['wer']:.2f} %")
    for kind, number in figures["errors"].items():
        say(f"{number} x {kind}: {figures['error_examples'][kind]}")


def _percentile(name: str, value: float | None) -> str:
    return f"{name} {'never' if value is None else f'{value:,.0f} ms'}"
