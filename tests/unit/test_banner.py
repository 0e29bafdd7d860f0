"""What a server says on standard output when it is ready: a line for whoever starts it, more at a terminal."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.log_support import captured_log
from tympan.bootstrap.pipeline import Services
from tympan.bootstrap.web import announce
from tympan.config import Settings, load

LINE = " serves base (onnx, cpu, int8) at http://127.0.0.1:8000\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, settings: Settings) -> str:
    """Return what is written to ``stream`` as standard output."""
    info = SimpleNamespace(engine="onnx", device="cpu", compute_type="int8")
    sandbox = SimpleNamespace(lines=(), missing=())
    services = SimpleNamespace(
        transcriber=SimpleNamespace(info=info),
        model=SimpleNamespace(id="base"),
        decoder=SimpleNamespace(sandbox=sandbox),
    )
    monkeypatch.setattr(sys, "stdout", stream)
    with captured_log():
        announce(settings, cast("Services", services), "http://127.0.0.1:8000", 1.0)
    return stream.getvalue()


def test_a_program_reads_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the model, what it runs on, and the address."""
    text = said(monkeypatch, io.StringIO(), load({"data_dir": tmp_path}))
    assert text.startswith("Tympan ")
    assert text.endswith(LINE)
    assert text.count("\n") == 1


@pytest.mark.parametrize("web_ui", [True, False])
def test_a_person_is_told_what_comes_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, web_ui: bool) -> None:
    """Where the web UI is, unless there is none, where the data lies and how to stop."""
    text = said(monkeypatch, _Terminal(), load({"data_dir": tmp_path, "web_ui": web_ui}))
    assert LINE in text
    assert str(tmp_path) in text
    assert "Ctrl-C" in text
    assert ("Web UI" in text) is web_ui
