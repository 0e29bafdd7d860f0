"""What is noted of a transcription, what is counted of it, and that counting is never anybody's trouble."""

import math
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tests.jobs_support import open_shop
from tests.live_support import desk, eventually, feed, heard, joined, opened, quiet, spoken
from tests.pipeline_support import SOURCE, ArraySource, HearsAll, WindowDesk, answer, blocks
from tympan import telemetry
from tympan.domain import Accounting, Lane, Options, Segment, Task, Transcript
from tympan.errors import StorageUnavailable
from tympan.observation import Condition, MediaFacts, Observation, observed
from tympan.pipeline import RequestContext, Transcriber
from tympan.quality import traffic
from tympan.quality.traffic import TrafficMeter
from tympan.quality.traffic_features import BY_NAME, FEATURES, OTHER, bins_of
from tympan.storage.database import sqlite_url
from tympan.storage.traffic import TrafficRow, TrafficStore

EVER = date(2000, 1, 1), date(2100, 1, 1)
SEEN = Observation("call", "base", "en", 0.97, False, 0.01, -0.2, 0.9, 0.05, 12.0, 8.0,
                   Condition(31.0, 0.0, 8000.0, MediaFacts("flac", 16_000, 1)))  # fmt: skip


class Books:
    """Books in memory that can be out of reach."""

    def __init__(self) -> None:
        """Be within reach."""
        self.rows: list[TrafficRow] = []
        self.away: Exception | None = None

    def add(self, rows: Sequence[TrafficRow]) -> None:
        """Take rows, unless out of reach."""
        if self.away is not None:
            raise self.away
        self.rows += rows

    def count(self, feature: str) -> int:
        """Return how many transcriptions had a feature."""
        return sum(row.count for row in self.rows if row.feature == feature)


def transcript(*segments: Segment, **fields: object) -> Transcript:
    """Return a transcript of 10 s, 6 s of them speech."""
    where = Accounting(audio_s=10.0, speech_s=6.0, dropped_s=3.0, covered_s=5.0)
    whole = Transcript("".join(each.text for each in segments), segments, Task.TRANSCRIBE, "en", 0.9, (), where, "base")
    return replace(whole, **fields)  # type: ignore[arg-type]


def test_an_observation_holds_means_over_the_text_by_time() -> None:
    """A long segment counts for more; one that is not rated has no say about certainty."""
    long = Segment(0, 0.0, 3.0, " abc def", avg_logprob=-0.1, confidence=0.9, hallucination_score=0.0)
    short = Segment(1, 3.0, 4.0, " ghi", avg_logprob=-0.5, confidence=0.6, hallucination_score=0.4)
    unrated = Segment(2, 4.0, 5.0, " jkl", avg_logprob=0.0, confidence=None, hallucination_score=0.0)
    seen = observed("call", transcript(long, short, unrated))
    assert seen.logprob == pytest.approx(-0.2)
    assert seen.hallucination == pytest.approx(0.08)
    assert (seen.coverage, seen.dropped, seen.pace) == (0.6, 0.3, 2.0)
    assert not seen.is_empty


def test_nothing_heard_is_an_empty_transcript_and_no_more() -> None:
    """Whatever cannot be told is left out, not zero."""
    nothing = transcript(language=None, accounting=Accounting(0.0, 0.0, 0.0, 0.0))
    seen = observed("job", nothing)
    assert seen.is_empty
    assert (seen.hallucination, seen.logprob, seen.coverage, seen.dropped, seen.pace) == (None,) * 5
    assert bins_of(seen) == {"language": "none", "empty": "1", "length": "0"}


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf, 1e300, -1e300])
def test_strange_numbers_fall_into_the_last_bins_or_none(strange: float) -> None:
    """There are as many bins as there were, whatever comes."""
    seen = replace(SEEN, hallucination=strange, logprob=strange, coverage=strange, audio_s=strange,
                   condition=Condition(strange, strange, strange))  # fmt: skip
    for name, place in bins_of(seen).items():
        assert place in BY_NAME[name].bins
    assert ("snr" in bins_of(seen)) is not math.isnan(strange)
    infinite = Segment(0, 0.0, 1.0, "a", avg_logprob=strange, confidence=0.5, hallucination_score=strange)
    assert bins_of(observed("call", transcript(infinite)))["empty"] == "0"


def test_unheard_of_names_are_others() -> None:
    """A language, codec or rate that nobody knows makes no series of its own, in the database or in metrics."""
    strange = replace(SEEN, language="xx-evil", condition=Condition(media=MediaFacts("evil", 12_345, 7)))
    found = bins_of(strange)
    assert {found[name] for name in ("language", "codec", "sample_rate", "channels")} == {OTHER}
    assert all(len(feature.bins) < 110 and len(set(feature.bins)) == len(feature.bins) for feature in FEATURES)
    assert all(len(name) <= 16 for feature in FEATURES for name in feature.bins)


def test_values_fall_into_the_bin_that_begins_below_them() -> None:
    """An edge belongs to what lies above."""
    snr = BY_NAME["snr"]
    places = {
        value: snr.bin_of(replace(SEEN, condition=Condition(snr_db=value))) for value in (-50.0, 9.99, 10.0, 99.0)
    }
    assert places == {-50.0: "-10", 9.99: "5", 10.0: "10", 99.0: "60"}


def test_counts_are_added_up_by_day_kind_model_and_bin() -> None:
    """And nothing else is known of what was counted."""
    books, now = Books(), [1_769_860_000.0]
    meter = TrafficMeter(books, clock=lambda: now[0])
    for _ in range(3):
        meter.add(SEEN)
    now[0] += 86_400
    meter.add(replace(SEEN, kind="job"))
    meter.flush()
    rows = {(row.day, row.kind, row.bin): row.count for row in books.rows if row.feature == "language"}
    assert rows == {("2026-01-31", "call", "en"): 3, ("2026-02-01", "job", "en"): 1}
    meter.flush()
    assert books.count("language") == 4


@pytest.mark.parametrize("away", [StorageUnavailable(), RuntimeError("a mistake of ours")])
def test_counts_wait_for_a_database_that_is_away(away: Exception) -> None:
    """They are added once it is back, each once."""
    books = Books()
    meter = TrafficMeter(books)
    books.away = away
    for _ in range(5):
        meter.add(SEEN)
        meter.flush()
    assert not books.rows
    books.away = None
    meter.stop()
    assert books.count("codec") == 5


def test_what_waits_is_bounded_and_what_is_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bins go on being counted while there is room for them; a flood of days or models takes no memory."""
    monkeypatch.setattr(traffic, "MAX_KEYS", 40)
    books, now = Books(), [0.0]
    books.away = StorageUnavailable()
    meter = TrafficMeter(books, clock=lambda: now[0])
    before = telemetry.TRAFFIC_LOST._value.get()
    for _ in range(100):
        meter.add(SEEN)
        meter.flush()
        now[0] += 86_400
    assert len(meter._tally) <= 40
    assert telemetry.TRAFFIC_LOST._value.get() - before == 98


def test_what_cannot_be_counted_fails_nobody() -> None:
    """A clock or a value out of this world is noted as lost; the transcript is somebody's all the same."""
    before = telemetry.TRAFFIC_LOST._value.get()
    TrafficMeter(Books(), clock=lambda: 1e300).add(SEEN)
    TrafficMeter(Books()).add(replace(SEEN, hallucination="no number"))  # type: ignore[arg-type]
    assert telemetry.TRAFFIC_LOST._value.get() - before == 2


def test_metrics_show_what_was_seen() -> None:
    """Languages and codecs as counters, the rest as histograms; what is missing is in none."""

    def counts() -> tuple[float, float, float, float]:
        snr = next(iter(telemetry.AUDIO_SNR.collect())).samples
        return (
            telemetry.DETECTED_LANGUAGES.labels("en")._value.get(),
            telemetry.AUDIO_CODECS.labels("flac")._value.get(),
            telemetry.EMPTY_TRANSCRIPTS.labels("base")._value.get(),
            next(sample.value for sample in snr if sample.name.endswith("_count")),
        )

    before = counts()
    meter = TrafficMeter(Books())
    meter.add(SEEN)
    meter.add(replace(SEEN, is_empty=True, condition=Condition(math.nan)))
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [2, 1, 1, 1]


def test_a_call_is_observed_with_how_it_came_in() -> None:
    """Kind, length, and what the source said of the file; one nobody watches is not looked at."""
    facts = MediaFacts("opus", 48_000, 1)
    seen: list[Observation] = []
    loud = [block * 100 for block in blocks(12.0)]
    pipeline = Transcriber(
        ArraySource(loud, facts=facts), HearsAll(), WindowDesk(), max_window_s=5.0, observer=seen.append
    )
    pipeline.transcribe(SOURCE, Options(vad=None), RequestContext("r"))
    (one,) = seen
    assert (one.kind, one.model, one.audio_s, one.language) == ("call", "demo", 12.0, "en")
    assert one.condition.media == facts
    assert one.condition.bandwidth_hz == 8000.0
    assert Transcriber(ArraySource(loud, facts=facts), HearsAll(), WindowDesk()).listen(Options()).condition is None


def test_a_part_of_a_file_is_observed_as_far_as_it_was_heard() -> None:
    """What lies behind is not read, so nobody knows what kind of file it was."""
    seen: list[Observation] = []
    pipeline = Transcriber(ArraySource(blocks(12.0)), HearsAll(), WindowDesk(), observer=seen.append)
    pipeline.transcribe(SOURCE, Options(vad=None, length_s=4.0), RequestContext("r"))
    assert seen[0].condition.media == MediaFacts()


def test_a_job_is_observed_once_with_how_it_came_in(tmp_path: Path) -> None:
    """When its result is stored; an equal job, whose result is there already, is nobody's new work."""
    seen: list[Observation] = []
    with open_shop(tmp_path) as shop:
        shop.observer = seen.append
        shop.desk.reply = answer
        shop.submit(50.0, 3)
        shop.work_off()
        shop.submit(50.0, 3)
        shop.submit(10.0, 4, lane=Lane.INTERACTIVE)
        shop.work_off()
    assert sorted((one.kind, one.audio_s) for one in seen) == [("call", 10.0), ("job", 50.0)]
    assert all(one.logprob == pytest.approx(-0.1) for one in seen)
    assert all(one.condition.snr_db is not None for one in seen)


@pytest.mark.parametrize("ends", ["orderly", "in the middle"])
def test_a_live_session_is_observed_once_however_it_ends(ends: str) -> None:
    """With what was said until then; one in which nothing was said is not."""
    seen: list[Observation] = []
    said = joined(quiet(0.5), spoken(1, 2, 3), quiet(1.5))
    session = opened(desk(), observer=seen.append)
    if ends == "orderly":
        heard(session, said)
    else:
        feed(session, said)
        eventually(lambda: session.stats.finals == 1)
    session.close()
    silent = opened(desk(), observer=seen.append)
    heard(silent, quiet(2.0))
    silent.close()
    (one,) = seen
    assert one.kind == "live"
    assert one.condition.media.codec == "live"
    assert not one.is_empty


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrafficStore]:
    """Return the tables on each database."""
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else None
    with open_shop(tmp_path / "shop", url) as shop:
        yield TrafficStore(shop.database)


def test_every_process_adds_to_the_same_rows(store: TrafficStore) -> None:
    """Counts add up, whoever writes them; what is asked for is a range of days."""
    meters = [TrafficMeter(store, clock=lambda: 0.0) for _ in range(2)]
    for _ in range(2):
        for meter in meters:
            meter.add(SEEN)
            meter.flush()
    rows = store.between(*EVER)
    assert rows == []
    rows = store.between(date(1970, 1, 1), date(1970, 1, 1))
    assert {row.feature for row in rows} == set(bins_of(SEEN))
    assert {row.count for row in rows} == {4}


def test_what_is_old_is_forgotten_but_for_a_baseline_that_is_kept(store: TrafficStore) -> None:
    """Days of the baseline stay as long as it does."""
    days = [f"2026-01-{day:02}" for day in range(1, 11)]
    store.add([TrafficRow(day, "call", "base", "empty", "0", 1) for day in days])
    kept = date(2026, 1, 2), date(2026, 1, 3)
    store.keep_baseline((date(2026, 1, 1), date(2026, 1, 1)))
    store.keep_baseline(kept)
    assert store.baseline() == kept
    assert store.forget(date(2026, 1, 6)) == 3
    assert [row.day[-2:] for row in store.between(*EVER)] == ["02", "03", "06", "07", "08", "09", "10"]
    store.keep_baseline(None)
    assert store.baseline() is None
    assert store.forget(date(2026, 1, 6)) == 2


_COUNTER = """
import sys, time
from pathlib import Path
from tympan.observation import Observation
from tympan.quality.traffic import TrafficMeter
from tympan.storage.database import Database
from tympan.storage.traffic import TrafficStore
meter = TrafficMeter(TrafficStore(Database(sys.argv[1])), flush_s=0.1)
meter.start()
for number in range(1, 1_000_000):
    meter.add(Observation("call", "base", "en", 1.0, False, 0.0, -0.1, 1.0, 0.0, 9.0, 5.0))
    print(number, flush=True)
    time.sleep(0.002)
"""


def test_a_killed_process_loses_no_more_than_since_its_last_flush(tmp_path: Path) -> None:
    """What was added stays, nothing is added twice, and the database is whole."""
    with open_shop(tmp_path) as shop:
        url = sqlite_url(tmp_path / "t.db")
        counter = subprocess.Popen([sys.executable, "-c", _COUNTER, url], stdout=subprocess.PIPE, text=True)
        assert counter.stdout is not None
        store = TrafficStore(shop.database)
        saved = counted = 0
        while not saved or counted < 200:
            counted = int(counter.stdout.readline())
            if counted % 50 == 0:
                saved = _counted(store)
        counter.send_signal(signal.SIGKILL)
        counted = max([counted, *(int(line) for line in counter.stdout.read().split())])
        counter.wait()
        counter.stdout.close()
        assert 0 < saved <= _counted(store) <= counted + 1


def _counted(store: TrafficStore) -> int:
    return sum(row.count for row in store.between(*EVER) if row.feature == "empty")
