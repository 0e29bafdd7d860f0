"""What the command line asks of the engine before and beside the work."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tympan import config
from tympan.cli.services import PipelineTranscriber, load_settings
from tympan.domain import Lane, Options, Progress, Task
from tympan.engine.base import EngineInfo
from tympan.errors import ConfigError, UnsupportedLanguage, UnsupportedOption
from tympan.pipeline import check_options

ENGLISH = EngineInfo("fake", "tiny.en", "", "cpu", "int8", 1, ("en",), multilingual=False)


def test_what_the_model_can_do_is_let_through() -> None:
    """English to an English model, anything to a model not known yet."""
    check_options(Options(language="en"), ENGLISH)
    check_options(Options(), ENGLISH)
    check_options(Options(language="de", task=Task.TRANSLATE), None)


def test_what_it_cannot_do_is_refused_with_a_remedy() -> None:
    """Another language, or translation, is one error before the work."""
    with pytest.raises(UnsupportedLanguage) as language:
        check_options(Options(language="de"), ENGLISH)
    with pytest.raises(UnsupportedOption) as task:
        check_options(Options(task=Task.TRANSLATE), ENGLISH)
    assert language.value.remedy
    assert task.value.remedy


def test_overrides_win_and_bad_ones_are_config_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag beats the environment, and is checked like it."""
    monkeypatch.setenv("TYMPAN_THREADS", "2")
    assert load_settings({"threads": 3}).threads == 3
    with pytest.raises(ConfigError, match="command line"):
        load_settings({"device": "abacus"})


@dataclass
class _Pipeline:
    """Notes the context it is called with."""

    info: EngineInfo | None = ENGLISH
    seen: tuple[Any, ...] = ()

    def transcribe(self, path: Path, options: Options, context: object, on_progress: object) -> str:
        self.seen = (path, options, context, on_progress)
        return "transcript"


def test_files_go_through_the_batch_lane_with_the_callers_cancel() -> None:
    """Files never delay interactive work, respect the length limit, and end when the run does."""
    pipeline, cancel = _Pipeline(), Event()
    blocks = SimpleNamespace(stream=lambda _path, **_limits: [np.zeros(8000), np.zeros(4000)])
    services = SimpleNamespace(transcriber=pipeline, decoder=blocks, settings=config.load({"max_audio_s": 77.0}))
    transcriber = PipelineTranscriber(services)  # type: ignore[arg-type]

    def on_progress(_progress: Progress) -> None:
        """Be told."""

    assert transcriber.transcribe(Path("a"), Options(), cancel, on_progress) == "transcript"  # type: ignore[comparison-overlap]
    path, _, context, callback = pipeline.seen
    assert (path, callback) == (Path("a"), on_progress)
    assert (context.lane, context.max_audio_s, context.cancel) == (Lane.BATCH, 77.0, cancel)
    assert transcriber.measure(Path("a"), cancel) == 0.75
    assert transcriber.info is ENGLISH
