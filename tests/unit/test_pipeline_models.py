"""Whoever transcribes with a model that comes and goes holds it, once, from the first step that needs it to the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.pipeline_support import INFO, SOURCE, ArraySource, HearsAll, WindowDesk, answer, blocks
from tympan.domain import Options, WindowResult, WindowTask
from tympan.errors import Cancelled, UnsupportedLanguage
from tympan.pipeline import RequestContext
from tympan.pipeline.models import ModelTranscriber


@dataclass
class HeldDesk(WindowDesk):
    """A window service that takes windows only while it is held, and must not be held twice by one caller."""

    holds: int = 0
    held_now: bool = False

    @contextmanager
    def held(self, check: Callable[[], None]) -> Iterator[WindowDesk]:
        """Be held, unless the caller should not wait."""
        check()
        assert not self.held_now, "a holder that waits for itself would wait for ever"
        self.holds, self.held_now = self.holds + 1, True
        try:
            yield self
        finally:
            self.held_now = False


class Model:
    """A slot over a desk that notes when it is held."""

    def __init__(self) -> None:
        """Answer every window while held."""
        self.desk = HeldDesk(reply=self._reply)
        self.info, self.ready, self.hold = INFO, True, self.desk.held
        self.submit, self.stats = self.desk.submit, self.desk.stats

    def _reply(self, task: WindowTask) -> WindowResult:
        assert self.desk.held_now
        return answer(task)


@pytest.fixture
def model() -> Model:
    """Return a model that nobody holds."""
    return Model()


def _pipeline(model: Model, seconds: float = 70.0) -> ModelTranscriber:
    return ModelTranscriber(ArraySource(blocks(seconds)), HearsAll(), model)


def test_each_way_through_the_pipeline_holds_the_model_once(model: Model) -> None:
    """A file, the windows of a section, the language of either."""
    context = RequestContext("r")
    assert _pipeline(model).transcribe(SOURCE, Options(), context).text.startswith("w0.")
    pipeline = _pipeline(model)
    windows = list(pipeline.listen(Options()).windows(SOURCE, context))
    assert model.desk.holds == 1, "hearing what is speech needs no engine"
    assert pipeline.decode(windows, Options(language="en"), context).parts
    assert pipeline.rank_languages(windows, context)[0][0] == "en"
    assert _pipeline(model).detect_language(SOURCE, context).language == "en"
    assert model.desk.holds == 4
    assert not model.desk.held_now


def test_the_model_is_let_go_whatever_happens(model: Model) -> None:
    """An option it cannot do, an engine that fails, a caller who has gone before it came."""
    with pytest.raises(UnsupportedLanguage):
        _pipeline(model).transcribe(SOURCE, Options(language="sw"), RequestContext("r"))
    model.desk.reply = lambda _: RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        _pipeline(model).transcribe(SOURCE, Options(), RequestContext("r"))
    assert not model.desk.held_now
    gone = RequestContext("r")
    gone.cancel.set()
    holds = model.desk.holds
    with pytest.raises(Cancelled):
        _pipeline(model).transcribe(SOURCE, Options(), gone)
    assert model.desk.holds == holds


def test_several_steps_can_share_one_hold(model: Model) -> None:
    """Inside it the plain pipeline is used, which waits for nobody."""
    context = RequestContext("r")
    with _pipeline(model).held(context) as plain, plain.held(context) as same:
        assert same is plain
        assert plain.transcribe(SOURCE, Options(), context).text
        assert plain.info == INFO
    assert model.desk.holds == 1
