"""Whether this week differs from those before: chance raises no alarm, whatever comes in bursts; changes do."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.jobs_support import open_shop
from tympan import telemetry
from tympan.cli import app
from tympan.cli.console import stderr, stdout
from tympan.errors import InvalidRequest, StorageUnavailable
from tympan.quality.alarms import AlarmBook
from tympan.quality.drift import CERTAIN, DriftWatch, Periods, examine
from tympan.quality.drift_test import Days, compare, f_tail, incomplete_beta
from tympan.quality.traffic_features import BY_NAME
from tympan.storage.database import sqlite_url
from tympan.storage.traffic import TrafficRow, TrafficStore

BINS = tuple("abcdefgh")
USUAL = np.array([0.3, 0.25, 0.15, 0.1, 0.1, 0.05, 0.04, 0.01])
DAY_S = 86_400.0
NOW = date(2026, 3, 1)


def weeks(seed: int, n_weeks: int, a_day: int = 20, likeness: float = 0.0, weekly: float = 0.0) -> list[dict[str, int]]:
    """Return days of counts; days and weeks are the more unlike each other, the higher ``likeness`` and ``weekly``."""
    rng, days = np.random.default_rng(seed), []
    for _ in range(n_weeks):
        of_week = rng.dirichlet(USUAL / weekly) if weekly else USUAL
        for _ in range(7):
            shares = rng.dirichlet(of_week / likeness + 1e-9) if likeness else of_week
            n = int(rng.lognormal(np.log(a_day), 0.8)) if likeness else a_day
            days.append(dict(zip(BINS, map(int, rng.multinomial(n, shares)), strict=True)))
    return days


def split(days: Sequence[Mapping[str, int]]) -> tuple[Days, Days]:
    """Return the last seven days, and those before."""
    numbered = dict(enumerate(days))
    return {at: numbered[at] for at in sorted(numbered)[-7:]}, {at: numbered[at] for at in sorted(numbered)[:-7]}


@pytest.mark.parametrize(
    ("value", "over", "under", "tail"),
    # From tables: the 5 % and 0.1 % points.
    [(4.2565, 2, 9, 0.05), (2.9130, 4, 18, 0.05), (9.335, 3, 15, 0.001), (1.0, 5, 5, 0.5), (0.0, 3, 3, 1.0)],
)
def test_tails_of_f_are_those_of_the_tables(value: float, over: float, under: float, tail: float) -> None:
    """The function is ours, so it is compared with printed ones."""
    assert f_tail(value, over, under) == pytest.approx(tail, rel=0.03)


def test_the_beta_function_has_its_known_values() -> None:
    """At its ends, for one, and by its symmetry."""
    assert incomplete_beta(2, 3, 0) == 0
    assert incomplete_beta(2, 3, 1) == 1
    assert incomplete_beta(1, 1, 0.3) == pytest.approx(0.3)
    assert incomplete_beta(2, 2, 0.25) == pytest.approx(0.15625)
    assert incomplete_beta(7.5, 40, 0.2) == pytest.approx(1 - incomplete_beta(40, 7.5, 0.8))


@pytest.mark.parametrize(
    "draws",
    [{}, {"a_day": 6}, {"likeness": 0.1}, {"a_day": 2_000, "likeness": 0.005}, {"weekly": 0.02}],
    ids=["independent", "few", "bursts", "many in bursts", "weeks of their own"],
)
def test_chance_raises_nothing_whatever_comes_in_bursts(draws: dict[str, float]) -> None:
    """Sixty weeks that differ by chance alone: none is as unlikely as an alarm wants, few are unlikely at all."""
    found = [compare(*split(weeks(seed, 5, **draws)), BINS, ordered=True).p for seed in range(60)]  # type: ignore[arg-type]
    assert min(found) > CERTAIN
    assert sum(p < 0.05 for p in found) <= 5


def test_requests_that_were_taken_for_independent_would_raise_alarms() -> None:
    """Why days are what is drawn: the same counts, each day cut into many, look like a change."""
    false = 0
    for seed in range(20):
        window, baseline = split(weeks(seed, 5, a_day=100, likeness=0.2))
        rng = np.random.default_rng(seed)
        apart: list[Days] = []
        for days in (window, baseline):
            names = rng.permutation([name for day in days.values() for name, n in day.items() for _ in range(n)])
            parts = np.array_split(names, len(days))
            apart.append({at: {n: int((part == n).sum()) for n in BINS} for at, part in zip(days, parts, strict=True)})
        false += compare(apart[0], apart[1], BINS, ordered=True).p < CERTAIN
        assert compare(window, baseline, BINS, ordered=True).p > CERTAIN
    assert false >= 5


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("draws", [{}, {"likeness": 0.02}])
def test_a_change_is_seen(draws: dict[str, float], *, ordered: bool) -> None:
    """A third of the traffic has moved to where next to nothing was."""
    days = weeks(1, 5, **draws)  # type: ignore[arg-type]
    window, baseline = split(days)
    moved = {at: {**day, "h": day["h"] + day["a"] + day["c"] // 2, "a": 0} for at, day in window.items()}
    found = compare(moved, baseline, BINS, ordered=ordered)
    assert found.p < CERTAIN
    assert found.psi > 0.3 > found.chance_psi
    assert found.shift > 0 or not ordered


def test_a_change_is_seen_also_when_each_week_came_on_one_day() -> None:
    """Four days are few, but enough for a change that leaves nothing as it was."""
    day = {"a": 40, "b": 30, "c": 10}
    baseline = {7 * week: {**day, "d": week % 2} for week in range(4)}
    assert compare({28: {"g": 60, "h": 20}}, baseline, BINS, ordered=True).p < CERTAIN
    assert compare({28: day}, baseline, BINS, ordered=True).p > 0.5


def test_a_thing_that_was_never_there_is_seen() -> None:
    """A new codec on a tenth of the traffic, among twenty that nobody uses."""
    names = ("flac", "opus", *(f"x{at}" for at in range(20)))
    baseline = {at: {"flac": 20, "opus": 10 + at % 3} for at in range(28)}
    window = {28 + at: {"flac": 18, "opus": 9, "x7": 3} for at in range(7)}
    found = compare(window, baseline, names, ordered=False)
    assert found.p < CERTAIN
    assert found.psi > 0.1


@pytest.mark.parametrize(
    ("window", "baseline", "reason"),
    [
        ({}, {}, "too little traffic"),
        ({1: {"a": 29}}, {0: {"a": 1_000}}, "too little traffic"),
        ({1: {"a": 1_000}}, {}, "no baseline yet"),
        ({9: {"a": 1_000}}, {0: {"a": 1_000}, 1: {"a": 1_000}, 2: {}}, "no baseline yet"),
        ({9: {"a": 1_000}}, {0: {"b": 10}, 1: {"b": 10}, 2: {"b": 10}}, "no baseline yet"),
        ({9: {"unknown": 1_000}}, {0: {"a": 50}, 1: {"a": 50}, 2: {"a": 50}}, "too little traffic"),
    ],
)
def test_too_little_is_said_to_be_too_little(window: Days, baseline: Days, reason: str) -> None:
    """And nothing is made of it."""
    found = compare(window, baseline, BINS, ordered=True)
    assert (found.reason, found.p, found.psi) == (reason, 1.0, 0.0)


def test_where_all_is_alike_nothing_can_differ() -> None:
    """One bin, huge counts, and counts below zero, which no database should have, do no harm."""
    baseline = {at: {"a": 10**12, "b": -5} for at in range(9)}
    found = compare({9: {"a": 10**12}}, baseline, BINS, ordered=True)
    assert (found.p, found.psi, found.reason) == (1.0, 0.0, "")
    huge = {at: {"a": 10**15, "b": 10**15 + at} for at in range(9)}
    assert np.isfinite(compare({9: {"a": 10**15, "c": 10**15}}, huge, BINS, ordered=True).p)


class Rows:
    """Counts in memory."""

    def __init__(self) -> None:
        """Have none."""
        self.rows: list[TrafficRow] = []
        self.kept: tuple[date, date] | None = None
        self.away = False
        self.reads = 0

    def between(self, first: date, last: date) -> list[TrafficRow]:
        """Return the counts of these days."""
        if self.away:
            raise StorageUnavailable
        self.reads += 1
        return [row for row in self.rows if first.isoformat() <= row.day <= last.isoformat()]

    def baseline(self) -> tuple[date, date] | None:
        """Return the days that are kept."""
        return self.kept

    def forget(self, before: date) -> int:
        """Keep all."""
        return 0

    def fill(self, last: date, n_days: int, feature: str = "codec", **bins: int) -> None:
        """Count ``bins`` on each of ``n_days`` days up to ``last``."""
        for back in range(n_days):
            day = (last - timedelta(days=back)).isoformat()
            self.rows += [TrafficRow(day, "call", "base", feature, name, n) for name, n in bins.items()]


class Noted:
    """Alarms in memory."""

    def __init__(self) -> None:
        """Have none."""
        self.open: dict[tuple[str, str], Mapping[str, Any]] = {}

    def mark(self, kind: str, subject: str, detail: Mapping[str, Any] | None) -> None:
        """Open or end an alarm."""
        if detail is None:
            self.open.pop((kind, subject), None)
        else:
            self.open[kind, subject] = detail


def watch(rows: Rows, noted: Noted, at: date = NOW) -> DriftWatch:
    """Return a watch at noon of a day."""
    noon = datetime(at.year, at.month, at.day, 12, tzinfo=UTC).timestamp()
    return DriftWatch(rows, noted, Periods(), lambda: noon)


def test_an_alarm_says_what_it_counted() -> None:
    """A shadow model hears windows; all else is known of whole transcripts."""
    assert [name for name, feature in BY_NAME.items() if feature.counted == "windows"] == ["disagreement"]


def test_an_alarm_begins_with_a_change_says_what_changed_and_ends_once_it_is_the_usual() -> None:
    """Five weeks later the baseline is made of it."""
    rows, noted = Rows(), Noted()
    rows.fill(NOW, 7, flac=10, opus=20)
    rows.fill(NOW - timedelta(days=7), 28, flac=30)
    watch(rows, noted).look()
    ((subject, detail),) = noted.open.items()
    assert subject == ("codec_drift", "traffic/call")
    assert (detail["more"], detail["less"]) == ("opus +66.7 %", "flac -66.7 %")
    assert detail["transcripts"] == 7 * 30
    assert detail["p"] < CERTAIN
    assert telemetry.DRIFT_PSI.labels("codec", "call")._value.get() == pytest.approx(detail["psi"], abs=0.001)
    later = NOW + timedelta(days=35)
    rows.fill(later, 35, flac=10, opus=20)
    watch(rows, noted, later).look()
    assert not noted.open


def test_an_alarm_stays_while_too_little_comes_to_say_otherwise_and_ends_when_nothing_comes() -> None:
    """Silence is no news, but where there is no traffic nothing is wrong with it."""
    rows, noted = Rows(), Noted()
    rows.fill(NOW, 7, flac=10, opus=20)
    rows.fill(NOW - timedelta(days=7), 28, flac=30)
    watch(rows, noted).look()
    soon = NOW + timedelta(days=7)
    rows.fill(soon, 1, flac=3)
    watch(rows, noted, soon).look()
    assert noted.open
    watch(rows, noted, soon + timedelta(days=8)).look()
    assert not noted.open


def test_only_a_change_for_the_worse_raises_an_alarm_where_that_is_what_matters() -> None:
    """Surer text is no trouble, less sure text is."""
    for now, alarms in (({"-0.15": 30}, 0), ({"-1": 30}, 1)):
        rows, noted = Rows(), Noted()
        rows.fill(NOW, 7, "confidence", **now)
        rows.fill(NOW - timedelta(days=7), 28, "confidence", **{"-0.3": 15, "-0.4": 15})
        watch(rows, noted).look()
        assert len(noted.open) == alarms


def test_what_shows_how_much_is_asked_for_raises_no_alarm() -> None:
    """Longer files are a change of demand, which is shown and no more."""
    rows, noted = Rows(), Noted()
    rows.fill(NOW, 7, "length", **{"600": 30})
    rows.fill(NOW - timedelta(days=7), 28, "length", **{"5": 30})
    report = watch(rows, noted).look()
    assert report.findings[0].drift.p < CERTAIN
    assert not noted.open


def test_models_are_taken_together_so_that_a_worse_one_shows() -> None:
    """Another model's name does not begin a history of its own."""
    rows = Rows()
    for row_model, last, n_days, place in (("small", NOW, 7, "-1"), ("base", NOW - timedelta(days=7), 28, "-0.15")):
        for back in range(n_days):
            day = (last - timedelta(days=back)).isoformat()
            rows.rows.append(TrafficRow(day, "job", row_model, "confidence", place, 30))
    noted = Noted()
    watch(rows, noted).look()
    assert list(noted.open) == [("confidence_drift", "traffic/job")]


def test_a_baseline_that_is_kept_does_not_move() -> None:
    """So what changes slowly is seen too."""
    rows, noted = Rows(), Noted()
    rows.fill(NOW, 40, flac=10, opus=20)
    rows.fill(NOW - timedelta(days=40), 28, flac=30)
    watch(rows, noted).look()
    assert not noted.open
    rows.kept = NOW - timedelta(days=67), NOW - timedelta(days=40)
    report = watch(rows, noted).look()
    assert report.is_kept
    assert noted.open


def test_days_to_come_are_left_out_and_a_clock_that_was_set_back_stops_nothing() -> None:
    """A machine whose clock was wrong has counted under days that nobody has lived yet."""
    rows, noted, now = Rows(), Noted(), [1_000_000.0]
    rows.fill(date(2031, 1, 1), 30, flac=30)
    keeper = DriftWatch(rows, noted, Periods(), lambda: now[0])
    keeper.tend()
    reads = rows.reads
    now[0] += 10
    keeper.tend()
    assert rows.reads == reads
    for jump in (3_600, -500_000):
        now[0] += jump
        keeper.tend()
        assert rows.reads > reads
        reads = rows.reads
    assert examine(rows, Periods(), NOW).findings == ()


def test_a_database_that_is_away_is_asked_again_at_once() -> None:
    """What could not be looked at is not taken for looked at."""
    rows = Rows()
    keeper = watch(rows, Noted())
    rows.away = True
    with pytest.raises(StorageUnavailable):
        keeper.tend()
    rows.away = False
    keeper.tend()
    assert rows.reads


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrafficStore]:
    """Return the counts that the command line finds: five weeks, the last of them in Opus."""
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path))
    stdout.cache_clear()
    stderr.cache_clear()
    now = datetime.now(UTC).date()
    rows = Rows()
    rows.fill(now, 7, opus=30)
    rows.fill(now - timedelta(days=7), 28, flac=30)
    with open_shop(tmp_path, sqlite_url(tmp_path / "tympan.db")) as shop:
        store = TrafficStore(shop.database)
        store.add(rows.rows)
        yield store


def _quality(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["quality", *arguments], env={"COLUMNS": "140"})


def test_the_commands_show_traffic_and_whether_it_has_drifted(counted: TrafficStore) -> None:
    """Tables for people, JSON for programs, and an exit code for scripts."""
    shown = _quality("traffic")
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["flac", "0.0%", "100.0%"] in lines
    assert any(line[:3] == ["opus", "100.0%", "0.0%"] for line in lines)
    tests = _quality("drift")
    assert tests.exit_code == 1
    assert "has drifted" in tests.stdout
    (codec,) = json.loads(_quality("drift", "--json").stdout)["features"]
    assert (codec["feature"], codec["is_drift"], codec["n_window"]) == ("codec", True, 210)
    whole = json.loads(_quality("traffic", "--days", "3", "--json").stdout)
    assert whole["features"][0]["window"] == {"opus": 90}


def test_a_baseline_is_kept_and_let_go_by_command(counted: TrafficStore) -> None:
    """Until then it moves with the days; one without traffic is refused. Who did it is in the audit log."""
    assert _quality("drift", "--keep-baseline", "5").exit_code == 0
    now = datetime.now(UTC).date()
    assert counted.baseline() == (now - timedelta(days=5), now - timedelta(days=1))
    kept = json.loads(_quality("drift", "--json").stdout)
    assert kept["baseline_is_kept"]
    assert not kept["features"][0]["is_drift"]
    assert _quality("drift", "--move-baseline").exit_code == 0
    assert counted.baseline() is None
    assert isinstance(_quality("drift", "--move-baseline", "--keep-baseline", "7").exception, InvalidRequest)
    counted.forget(now + timedelta(days=1))
    assert isinstance(_quality("drift", "--keep-baseline", "7").exception, InvalidRequest)
    assert "Nothing was counted yet" in _quality("traffic").stderr
    log = CliRunner().invoke(app, ["audit", "--format", "json"]).stdout.splitlines()
    days = {"first": (now - timedelta(days=5)).isoformat(), "last": (now - timedelta(days=1)).isoformat()}
    assert [(row["action"], row["target"], row["detail"]) for row in map(json.loads, log)] == [
        ("quality.keep_baseline", "traffic", days),
        ("quality.move_baseline", "traffic", None),
    ]


def test_alarms_are_kept_where_all_are(counted: TrafficStore, tmp_path: Path) -> None:
    """`tympan quality alarms` shows them; two who watch open one."""
    with open_shop(tmp_path, sqlite_url(tmp_path / "tympan.db")) as shop:
        book = AlarmBook(shop.database)
        for _ in range(2):
            DriftWatch(TrafficStore(shop.database), book, Periods()).tend()
        (alarm,) = book.open()
    assert (alarm.kind, alarm.subject) == (BY_NAME["codec"].alarm, "traffic/call")
    shown = _quality("alarms")
    assert shown.exit_code == 1
    assert "codec_drift" in shown.stdout
