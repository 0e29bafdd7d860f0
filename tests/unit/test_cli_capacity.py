"""``tympan capacity`` from the shell: what it prints, what it writes, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from typer.testing import CliRunner, Result

from tests.capacity_support import FAST, SLOW
from tests.jobs_support import open_shop
from tympan.capacity import planner
from tympan.capacity.profile import Profile, as_json, from_json
from tympan.cli import app, capacity_run
from tympan.cli.capacity_options import MachineArgs
from tympan.cli.console import ExitCode
from tympan.cli.services import load_settings
from tympan.errors import InvalidRequest
from tympan.storage.database import sqlite_url
from tympan.storage.demand import past_jobs
from tympan.storage.ids import MEASURING_TENANT

BENCH = Path(__file__).parents[2] / "docs" / "benchmarks" / "tympan-bench" / "engine.json"


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TYMPAN_ENGINE", "fake")
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(capacity_run, "QUICK_SHARE", 0.1)
    monkeypatch.setattr(planner, "CONCURRENCY", (1, 8))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return the file of a machine's profile."""
    return _written(tmp_path / "small.json", SLOW)


def _written(path: Path, profile: Profile) -> Path:
    path.write_text(json.dumps(as_json(profile)), encoding="utf-8")
    return path


def _run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["capacity", *(str(word) for word in words)])


def test_an_answer_in_a_line_of_flags(machine: Path, tmp_path: Path) -> None:
    """The page on standard output; JSON, page, charts and the profile in the folder."""
    out = tmp_path / "out"
    done = _run("--profile", machine, "--per-hour", "1800", "--mean-length", "10s", "--slo-wait-p95", "2s",
                "--cost-per-hour", "0.4", "--runs", "2", "-q", "-o", out)  # fmt: skip
    assert done.exit_code == ExitCode.OK, done.output
    assert "machines needed" in done.stdout
    assert "an hour of audio costs" in done.stdout
    document = json.loads((out / "capacity.json").read_text(encoding="utf-8"))
    assert document["plans"][0]["replicas"] >= 1
    assert {"capacity.md", "profile.json", "capacity-throughput.svg"} <= {path.name for path in out.iterdir()}
    assert from_json(json.loads((out / "profile.json").read_text(encoding="utf-8"))).cost == SLOW.cost


def test_machines_are_compared_and_one_is_chosen(machine: Path, tmp_path: Path) -> None:
    """The cheaper fleet; a result of `tympan bench engine` is a machine too."""
    other = _written(tmp_path / "large.json", FAST)
    costs = [word for cost in ("0.1", "9", "9") for word in ("--cost-per-hour", cost)]
    done = _run(
        "--profile", machine, "--profile", other, "--profile", BENCH, *costs, "--per-hour", "200", "--runs", "2"
    )
    assert done.exit_code == ExitCode.OK, done.output
    assert "Choose **small**" in done.stdout


def test_targets_for_the_autoscaler(machine: Path) -> None:
    """A kustomization and nothing else."""
    done = _run("--profile", machine, "--per-hour", "600", "--runs", "2", "-q", "--kubernetes", "keda")
    assert done.exit_code == ExitCode.OK, done.output
    assert yaml.safe_load(done.stdout)["kind"] == "Kustomization"


def test_arrivals_and_lengths_come_from_files(machine: Path, tmp_path: Path) -> None:
    """The busiest hour decides; every hour has its machines."""
    (tmp_path / "hours.csv").write_text("hour,requests\n3,60\n10,1200\n", encoding="utf-8")
    (tmp_path / "lengths.csv").write_text("5,3\n20,1\n", encoding="utf-8")
    done = _run("--profile", machine, "--arrivals", tmp_path / "hours.csv", "--lengths", tmp_path / "lengths.csv",
                "--runs", "2", "-q", "--json")  # fmt: skip
    assert done.exit_code == ExitCode.OK, done.output
    (plan,) = json.loads(done.stdout)["plans"]
    assert plan["demand"]["per_hour"] == 1_200.0
    assert plan["by_hour"][10] == plan["replicas"]
    assert plan["by_hour"][0] == 1


def test_without_a_demand_it_tells_what_the_machine_does(machine: Path) -> None:
    """By callers at once."""
    done = _run("--profile", machine, "-q")
    assert done.exit_code == ExitCode.OK, done.output
    assert "callers at once" in done.stdout


def test_the_database_of_a_server_tells_what_is_asked_of_it(machine: Path, tmp_path: Path) -> None:
    """Jobs with their lengths, by the hour, but for clips of golden sets; the server may be running."""
    (tmp_path / "data").mkdir()
    with open_shop(tmp_path / "data", sqlite_url(tmp_path / "data" / "tympan.db")) as shop:
        job = shop.submit()
        shop.submit(tenant=MEASURING_TENANT)
        asked = past_jobs(shop.database, job.created_at - 1.0)
        assert [(each.created_at, each.audio_s) for each in asked] == [(job.created_at, None)]
        assert past_jobs(shop.database, job.created_at + 1.0) == []
        done = _run("--profile", machine, "--from-database", "--days", "1", "--mean-length", "10s", "--runs", "2", "-q",
                    "--json")  # fmt: skip
    assert done.exit_code == ExitCode.OK, done.output
    (plan,) = json.loads(done.stdout)["plans"]
    assert (plan["demand"]["per_hour"], plan["demand"]["job_share"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--per-hour", "5", "--peak-concurrent", "2"), "more than one way"),
        (("--per-hour", "5", "--mean-length", "soon"), "is not a length of time"),
        (("--per-hour", "5", "--mean-length", "5s", "--lengths", "x.csv"), "both given"),
        (("--per-hour", "5", "--lengths", "gone.csv"), "cannot be read"),
        (("--per-hour", "5", "--kubernetes", "helm"), "keda or hpa"),
        (("--kubernetes", "hpa"), "need a demand"),
        (("--per-hour", "5", "--cost-per-hour", "1", "--cost-per-hour", "2"), "1 machines and 2 costs"),
        (("--per-hour", "5", "--fresh"), "Leave one out"),
        (("--per-hour", "5", "--profile", "gone.json"), "cannot be read"),
        (("--per-hour", "60", "--slo-turnaround-p95", "1ms", "--runs", "2"), "The goal is not met"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], told: str, machine: Path) -> None:
    """With the cause, and what to write instead."""
    done = _run("--profile", machine, "-q", *words)
    assert isinstance(done.exception, InvalidRequest)
    assert told in f"{done.exception} {done.exception.remedy}"


def test_a_machine_is_measured_once_for_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again with --fresh, with other settings, or when what was kept is damaged."""
    seen: list[str] = []

    def measured(*_args: object, **_kwargs: object) -> Profile:
        seen.append("measured")
        return replace(FAST, name=f"number {len(seen)}")

    monkeypatch.setattr("tympan.cli.capacity_measure.measured", measured)
    settings = load_settings({})

    def own(machines: MachineArgs | None = None) -> str:
        return capacity_run._own(machines or MachineArgs(), settings, quiet=True).name

    assert [own(), own()] == ["number 1", "number 1"]
    assert own(MachineArgs(fresh=True)) == "number 2"
    assert own(MachineArgs(beam_size=1)) == "number 3"
    kept = settings.data_dir / "capacity" / "profile.json"
    kept.write_text("half of it", encoding="utf-8")
    assert own(MachineArgs(beam_size=1)) == "number 4"
    kept.write_text(json.dumps({**json.loads(kept.read_text(encoding="utf-8")), "profile": {}}), encoding="utf-8")
    with pytest.raises(InvalidRequest, match="profile"):
        own(MachineArgs(beam_size=1))
