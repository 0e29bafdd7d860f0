"""``tympan tenants`` on a data folder with jobs of two tenants."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.jobs_support import Shop, open_shop
from tests.pipeline_support import answer
from tympan.cli import app
from tympan.cli.console import stderr, stdout
from tympan.domain import Job
from tympan.errors import InvalidRequest, NotFound
from tympan.jobs.media import job_prefix
from tympan.storage.database import sqlite_url
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.tenants import TenantStore

DAY_S = 86_400.0


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Return a shop whose database and audio are those that the command line finds."""
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path))
    stdout.cache_clear()
    stderr.cache_clear()
    with open_shop(tmp_path, sqlite_url(tmp_path / "tympan.db")) as opened:
        opened.desk.reply = answer
        yield opened


def _tenants(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["tenants", *arguments], env={"COLUMNS": "120"})


def _dates(shop: Shop, job: Job) -> tuple[float, float]:
    """Return for how many days after its end a job's audio and text are kept."""
    with shop.database.engine.connect() as connection:
        columns = "audio_until - finished_at, text_until - finished_at"
        row = connection.exec_driver_sql(f"select {columns} from jobs where id = '{job.id}'").one()  # noqa: S608
    return row[0] / DAY_S, row[1] / DAY_S


def test_the_list_counts_jobs_and_tells_days(shop: Shop) -> None:
    """People see a table, programs JSON; no days of its own is null."""
    shop.submit(5.0, tenant="acme")
    shop.submit(5.0, seed=2, tenant="acme")
    assert _tenants("retain", "other", "--text-days", "2.5").exit_code == 0
    assert json.loads(_tenants("list", "--json").stdout) == [
        {"id": "acme", "n_jobs": 2, "audio_days": None, "text_days": None, "limits": {}, "weight": 1.0},
        {"id": "other", "n_jobs": 0, "audio_days": None, "text_days": 2.5, "limits": {}, "weight": 1.0},
    ]
    shown = _tenants("list")
    assert [line.split() for line in shown.stdout.splitlines()[1:]] == [
        ["acme", "2", "default", "default", "1", "default"],
        ["other", "0", "default", "2.5", "1", "default"],
    ]
    assert "audio 1, text 30" in shown.stderr


def test_who_measures_quality_is_no_tenant(shop: Shop) -> None:
    """Its clips are jobs while they are measured: it is not in the list, and not for operators to change or erase."""
    store = TenantStore(shop.database, audio_days=1.0, text_days=1.0)
    store.limit(MEASURING_TENANT, {}, 0.1)  # As the one who measures does.
    job = shop.submit(5.0, tenant=MEASURING_TENANT)
    shop.submit(5.0, seed=2, tenant="acme")
    assert [each["id"] for each in json.loads(_tenants("list", "--json").stdout)] == ["acme"]
    assert MEASURING_TENANT not in _tenants("list").stdout
    for words in (("erase", "--yes"), ("retain", "--text-days=0"), ("limit", "--weight=9")):
        with pytest.raises(InvalidRequest, match="golden sets"):
            _raised(_tenants(words[0], MEASURING_TENANT, *words[1:]))
    assert shop.service.get(MEASURING_TENANT, job.id).id == job.id
    assert store.own_limits() == {MEASURING_TENANT: ({}, 0.1, None)}


def test_K8_new_days_hold_for_jobs_that_have_ended_and_for_those_to_come(shop: Shop) -> None:
    """And for one tenant alone; ``default`` takes them back."""
    old, foreign = (shop.submit(5.0, seed, tenant=tenant) for seed, tenant in enumerate(("acme", "other")))
    shop.work_off()
    assert _tenants("retain", "acme", "--audio-days", "7", "--text-days", "90").exit_code == 0
    new = shop.submit(5.0, seed=3, tenant="acme")
    shop.work_off()
    assert _dates(shop, old) == pytest.approx((7.0, 90.0))
    assert _dates(shop, new) == pytest.approx((7.0, 90.0))
    assert _dates(shop, foreign) == pytest.approx((1.0, 30.0))
    assert "2 ended jobs" in _tenants("retain", "acme", "--text-days", "90").stderr
    assert _dates(shop, old) == pytest.approx((1.0, 90.0))


def test_K8_what_has_been_kept_too_long_by_new_days_goes_with_the_next_sweep(shop: Shop) -> None:
    """Zero days of audio: the audio goes, the text stays, and no later setting brings a date back."""
    job = shop.submit(5.0, tenant="acme")
    shop.work_off()
    assert _tenants("retain", "acme", "--audio-days", "0").exit_code == 0
    shop.janitor().retain()
    assert list(shop.blobs.list(job_prefix(job.id))) == []
    assert shop.service.transcript("acme", job.id)
    assert _tenants("retain", "acme").exit_code == 0
    with shop.database.engine.connect() as connection:
        assert connection.exec_driver_sql("select audio_until from jobs").all() == [(None,)]


def test_K7_erasing_takes_all_of_one_tenant(shop: Shop) -> None:
    """Waiting jobs too; the neighbour's stay, and a second run says that there is nobody."""
    for seed in range(3):
        shop.submit(5.0, seed, tenant="acme")
    shop.work_off(limit=3)
    kept = shop.submit(5.0, seed=9, tenant="other")
    result = _tenants("erase", "acme", "--yes")
    assert (result.exit_code, "3 jobs" in result.stderr) == (0, True)
    assert [blob.key for blob in shop.blobs.list("")] == [f"{job_prefix(kept.id)}media"]
    assert [entry["id"] for entry in json.loads(_tenants("list", "--json").stdout)] == ["other"]
    assert isinstance(_tenants("erase", "acme", "--yes").exception, NotFound)


def test_nothing_is_erased_unasked(shop: Shop) -> None:
    """Without a terminal the command wants ``--yes``."""
    shop.submit(5.0, tenant="acme")
    assert isinstance(_tenants("erase", "acme").exception, InvalidRequest)
    assert json.loads(_tenants("list", "--json").stdout)[0]["n_jobs"] == 1


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "soon", ""])
def test_days_are_numbers(shop: Shop, days: str) -> None:
    """Anything else is refused before anything is changed."""
    assert isinstance(_tenants("retain", "acme", f"--text-days={days}").exception, InvalidRequest)
    assert json.loads(_tenants("list", "--json").stdout) == []


def test_limits_are_set_one_by_one_and_taken_back(shop: Shop) -> None:
    """What is not named stays; 0 is no limit; 'default' is the settings' again; the list shows what is left."""
    assert _tenants("limit", "acme", "--requests-per-min", "60", "--audio-minutes-per-day", "90.5").exit_code == 0
    assert _tenants("limit", "acme", "--weight", "4", "--requests-at-once", "0").exit_code == 0
    assert _tenants("limit", "acme", "--requests-per-min", "default").exit_code == 0
    listed = json.loads(_tenants("list", "--json").stdout)
    assert listed[0]["limits"] == {"audio_minutes_per_day": 90.5, "requests_at_once": 0}
    assert listed[0]["weight"] == 4.0
    assert "audio_minutes_per_day 90.5, requests_at_once without limit" in " ".join(_tenants("list").stdout.split())
    store = TenantStore(shop.database, audio_days=1.0, text_days=1.0)
    assert store.own_limits() == {"acme": ({"audio_minutes_per_day": 90.5, "requests_at_once": 0}, 4.0, None)}


def _raised(result: Result) -> None:
    """Raise what a command failed with."""
    if result.exception is not None:
        raise result.exception


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "nan", "1e12"])
def test_a_limit_is_a_number(shop: Shop, value: str) -> None:
    """What is none is refused by the option's name, and nothing is stored."""
    with pytest.raises(InvalidRequest, match="--jobs-at-once"):
        _raised(_tenants("limit", "acme", "--jobs-at-once", value))
    assert TenantStore(shop.database, audio_days=1.0, text_days=1.0).all() == []


def test_a_change_of_nothing_is_a_mistake(shop: Shop) -> None:
    """Somebody forgot the limit."""
    with pytest.raises(InvalidRequest, match="nothing to change"):
        _raised(_tenants("limit", "acme"))
