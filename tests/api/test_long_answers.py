"""Long transcripts are rendered beside the event loop, where they keep nobody else waiting, and are the same text."""

import threading
from collections.abc import Callable

import pytest

from tests.api.support import ScriptedTranscriber, Site
from tests.results import large
from tympan import formats
from tympan.api.elsewhere import asr, inference
from tympan.api.speech import answers
from tympan.domain import Output

_LONG, _SHORT = 3_000, 100


def _site(make_site: Callable[..., Site], n_segments: int) -> Site:
    return make_site(ScriptedTranscriber(script=lambda _: large(n_segments)))


@pytest.mark.parametrize("n_segments", [_SHORT, _LONG])
@pytest.mark.parametrize("fmt", ["json", "verbose_json", "srt"])
def test_a_long_answer_is_that_of_a_short_way(make_site: Callable[..., Site], fmt: str, n_segments: int) -> None:
    """The same bytes and type, whether from memory or from a file, which is gone afterwards."""
    at = _site(make_site, n_segments)
    answer = at.post(data={"response_format": fmt})
    assert answer.text == formats.rendered(large(n_segments), Output(fmt))  # type: ignore[arg-type]
    assert answer.headers["content-type"] == formats.media_type(fmt)  # type: ignore[arg-type]
    assert at.staged == []


@pytest.mark.parametrize(
    ("module", "name", "path", "form"),
    [
        (answers, "held_pieces", "/v1/audio/transcriptions", {}),
        (inference, "rendered", "/inference", {}),
        (asr, "_rendered", "/asr", {"files": {"audio_file": ("a", b"RIFF" + bytes(100))}}),
    ],
)
def test_a_long_transcript_does_not_take_the_event_loop(
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    path: str,
    form: dict[str, object],
) -> None:
    """On every route that answers at once: a thread of the chores does it."""
    render, threads = getattr(module, name), list[str]()

    def noted(*args: object) -> object:
        threads.append(threading.current_thread().name)
        return render(*args)

    monkeypatch.setattr(module, name, noted)
    assert _site(make_site, _LONG).post(path, **form).status_code == 200
    assert [thread.split("_")[0] for thread in threads] == ["chores"]
