"""Models follow what was decided, whatever the database does; and what ``tympan rollout`` says."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tests.jobs_support import open_shop
from tests.servers.process import wait_until
from tympan import telemetry
from tympan.api.model_names import Division, ModelCard
from tympan.bootstrap.rollouts import Follower, promoted_model
from tympan.cli import app
from tympan.cli.console import ExitCode
from tympan.errors import Conflict, InvalidRequest, ModelNotFound, NotFound, StorageUnavailable
from tympan.quality.rollout import RolloutWatch
from tympan.storage.database import sqlite_url
from tympan.storage.rollouts import Rollout, Standing


@dataclass
class Models:
    """Stands for a process's models: what they were told, in order."""

    served: tuple[str, ...] = ("a", "b")
    default: str = "a"
    told: list[object] = field(default_factory=list)
    divided: bool = False

    def pick(self, _name: object) -> tuple[None, ModelCard]:
        """Return the default."""
        return None, ModelCard(self.default)

    def promote(self, name: str) -> None:
        """Take note, if there is such a model."""
        self._require(name)
        self.default = name
        self.told.append(name)

    def divide(self, division: Division | None) -> None:
        """Take note, if there is such a model."""
        if division is not None:
            self._require(division.candidate)
        self.divided = division is not None
        self.told.append(division)

    def _require(self, name: str) -> None:
        if name not in self.served:
            raise ModelNotFound(f"There is no {name}.")


def _rollout(candidate: str, state: str = "running", share: float = 0.25) -> Rollout:
    return Rollout("rol_1", candidate, "a", share, state, 0.0)


def test_a_process_follows_from_trial_to_default_and_back() -> None:
    """What is as it was is not done again, but for the division, which has the candidate loaded."""
    models = Models()
    follower = Follower(models, "a")  # type: ignore[arg-type]
    follower.follow(Standing())
    follower.follow(Standing(running=_rollout("b")))
    assert telemetry.ROLLOUT_SHARE.labels("b")._value.get() == 0.25
    follower.follow(Standing(promoted=_rollout("b", "promoted")))
    follower.follow(Standing(promoted=_rollout("b", "promoted")))
    assert not telemetry.ROLLOUT_SHARE._metrics
    follower.follow(Standing())
    assert models.told == [None, Division("rol_1", "b", 0.25), "b", None, None, "a", None]


def test_a_model_that_is_not_served_here_changes_nothing_and_is_told_once() -> None:
    """The default answers all."""
    models = Models()
    follower = Follower(models, "a")  # type: ignore[arg-type]
    with capture_logs() as logs:
        for _ in range(3):
            follower.follow(Standing(running=_rollout("c")))
        follower.follow(Standing(promoted=_rollout("d", "promoted")))
    assert [(line["event"], line["model"]) for line in logs] == [
        ("rollout_of_a_model_not_served", "c"), ("rollout_of_a_model_not_served", "d"),
    ]  # fmt: skip
    assert set(models.told) == {None}
    assert telemetry.ROLLOUT_SHARE._metrics == {}


def test_while_the_database_is_away_what_held_last_holds_on() -> None:
    """And what is decided meanwhile is followed when it is back."""
    answers: Iterator[Standing | Exception] = iter(
        [Standing(running=_rollout("b")), StorageUnavailable("Away."), Standing()]
    )
    seen: list[Standing] = []

    class Table:
        def standing(self) -> Standing:
            answer = next(answers, Standing())
            if isinstance(answer, Exception):
                raise answer
            return answer

    watch = RolloutWatch(Table(), seen.append, every_s=0.01)
    watch.start()
    wait_until(lambda: len(seen) >= 2, 10)
    watch.stop()
    assert seen[:2] == [Standing(running=_rollout("b")), Standing()]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the data folder that the command line is pointed at: two models, an empty database."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(folder))
    monkeypatch.setenv("TYMPAN_ENGINE", "fake")
    monkeypatch.setenv("TYMPAN_MODELS", '[{"name": "b", "engine": "fake"}]')
    with open_shop(folder, sqlite_url(folder / "tympan.db")) as shop:
        yield folder
        assert promoted_model(shop.database) is None


def _run(*words: str, code: int = ExitCode.OK) -> str:
    done = CliRunner().invoke(app, ["rollout", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return str(done.output)


@pytest.mark.usefixtures("data")
def test_a_rollout_from_start_to_rollback_by_command() -> None:
    """Every command says what holds from now on."""
    assert "Nothing was tried yet" in _run("list")
    said = _run("start", "b", "--share", "20")
    assert "b answers 20 % in place of fake" in said
    assert "no golden set" in said
    assert "No server has been seen" in said
    with pytest.raises(Conflict):
        _run("start", "b")
    assert "answers 40 %" in _run("share", "40")
    assert "Not known yet" in _run("status")
    assert "compared from 30 transcripts" in _run("status")
    told = json.loads(_run("status", "--json"))
    assert (told["verdict"], told["rollout"]["share"]) == ("not_known", 0.4)
    with pytest.raises(Conflict, match="--anyway") as refused:
        _run("promote")
    assert "golden set" in str(refused.value)
    assert "is the default from now on" in _run("promote", "--anyway")
    with pytest.raises(InvalidRequest, match="default already"):
        _run("start", "b")
    assert "The default is fake" in _run("rollback")
    (listed,) = json.loads(_run("list", "--json"))
    assert (listed["candidate"], listed["state"]) == ("b", "rolled_back")
    assert "rolled back" in _run("list")


@pytest.mark.usefixtures("data")
def test_what_cannot_be_tried_is_refused_by_name() -> None:
    """A model that is not served, the default itself, and a rollout that is not there."""
    with pytest.raises(ModelNotFound, match="'nothing' is not served"):
        _run("start", "nothing")
    with pytest.raises(InvalidRequest, match="default already"):
        _run("start", "whisper-1")
    for words in (["status"], ["share", "10"], ["promote"], ["rollback"]):
        with pytest.raises(NotFound):
            _run(*words)
    _run("start", "b", "--share", "101", code=ExitCode.USAGE)
