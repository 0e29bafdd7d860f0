"""What reaches the terminal: errors with remedies, exit codes, argument groups."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from tympan import errors
from tympan.cli import app
from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, exit_code_for, show_error, stderr, write_stdout
from tympan.errors import CorruptMedia, TympanError


@pytest.fixture(autouse=True)
def _fresh_console() -> Iterator[None]:
    """Bind the console to the stderr of this test."""
    stderr.cache_clear()
    yield
    stderr.cache_clear()


def test_an_error_reads_code_subject_message_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """The format people and scripts rely on; brackets in names and messages are shown as they are."""
    show_error(CorruptMedia("Bad [bold]header[/].", remedy="Send another."), "a[1].wav")
    assert capsys.readouterr().err == "error [corrupt_media] a[1].wav: Bad [bold]header[/].\n  Send another.\n"


def test_every_error_has_an_exit_code() -> None:
    """No error of the tree ends a command with success, and configuration, model and engine end it with 3."""
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TympanError)]
    codes = {kind.__name__: exit_code_for(kind()) for kind in classes}
    assert ExitCode.OK not in codes.values()
    assert {name for name, code in codes.items() if code is ExitCode.NOT_USABLE} >= {
        "ConfigError",
        "ModelNotFound",
        "ModelUnavailable",
        "ModelDigestMismatch",
        "EngineError",
        "Unavailable",
        "DecoderUnavailable",
    }
    assert (codes["InvalidRequest"], codes["Cancelled"]) == (ExitCode.USAGE, ExitCode.INTERRUPTED)


def test_transcripts_are_utf8_whatever_the_locale(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Text ends in one newline and is UTF-8."""
    write_stdout("grüß")
    write_stdout("dich\n")
    assert capfdbinary.readouterr().out == "grüß\ndich\n".encode()


@dataclass(frozen=True, slots=True)
class _Fruit:
    """A group for the test below."""

    PANEL: ClassVar[str] = "Fruit"

    apples: Annotated[int, typer.Option(min=0)] = 3
    ripe: Annotated[bool, typer.Option("--ripe")] = False


@dataclass(frozen=True, slots=True)
class _Places:
    """A group with a required argument."""

    places: Annotated[list[str], typer.Argument()]


def test_dataclasses_become_flags_and_come_back() -> None:
    """A command gets its dataclasses whole: given values, defaults, arguments; its return value is the exit code."""
    seen: list[object] = []

    def pick(places: _Places, fruit: _Fruit) -> int:
        """Pick fruit."""
        seen.extend([places, fruit])
        return 7

    toy = typer.Typer()
    toy.callback()(lambda: None)
    command(toy, "pick")(pick)
    done = CliRunner().invoke(toy, ["pick", "here", "there", "--ripe"])
    assert done.exit_code == 7
    assert seen == [_Places(["here", "there"]), _Fruit(apples=3, ripe=True)]
    assert "Fruit" in CliRunner().invoke(toy, ["pick", "--help"]).output


@pytest.mark.parametrize("name", ["serve", "transcribe", "batch", "doctor", "models", "version"])
def test_every_command_explains_itself(name: str) -> None:
    """``--help`` works for every command and shows every flag uncut at 80 columns."""
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0
    assert "…" not in done.output
