"""Which language a file is in: the HTTP route."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.api.support import ScriptedTranscriber, Site
from tympan.domain import Accounting, Options, Transcript, VadOptions
from tympan.errors import UnsupportedOption
from tympan.pipeline import RequestContext

ROUTE = "/v1/audio/detect-language"


class Silent(ScriptedTranscriber):
    """Hears nobody."""

    def detect_language(self, source: Path, context: RequestContext, options: Options) -> Transcript:
        """Return a transcript without a language."""
        found = super().detect_language(source, context, options)
        return replace(
            found, language=None, language_probability=0.0, languages=(), accounting=Accounting(4.2, 0.0, 4.2, 0.0)
        )


def test_the_language_comes_with_its_rivals(server: Site) -> None:
    """Codes, names and probabilities, and how much was heard for it; no text."""
    answer = server.post(ROUTE)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["language"], found["language_name"], found["probability"]) == ("en", "english", 0.93)
    assert found["languages"][1] == {"language": "de", "language_name": "german", "probability": 0.04}
    assert found["speech"] == {"heard_s": 4.2, "speech_s": 2.5}
    assert set(found) == {
        "language",
        "language_name",
        "probability",
        "languages",
        "model",
        "speech",
        "processing_time_ms",
    }
    assert not server.staged


def test_fields_mean_what_they_mean_elsewhere(make_site: Callable[..., Site]) -> None:
    """Languages to choose among, how speech is found, and which model is asked."""
    site = make_site()
    answer = site.post(ROUTE, data={"languages": "de,English", "vad": '{"threshold": 0.2}', "model": "whisper-1"})
    assert answer.status_code == 200, answer.text
    options = site.transcriber.calls[0][1]
    assert options.languages == ("de", "en")
    assert options.vad == VadOptions(threshold=0.2)


def test_silence_has_no_language(make_site: Callable[..., Site]) -> None:
    """Nothing is guessed."""
    found = make_site(Silent()).post(ROUTE).json()
    assert (found["language"], found["language_name"], found["probability"], found["languages"]) == (
        None,
        None,
        None,
        [],
    )
    assert found["speech"] == {"heard_s": 4.2, "speech_s": 0.0}


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"language": "en"}, 400, "language"),
        ({"languages": "xx"}, 400, "language"),
        ({"model": "other"}, 404, "model"),
        ({"response_format": "json"}, 400, "response_format"),
    ],
)
def test_what_it_does_not_take_is_named(server: Site, fields: dict[str, str], status: int, param: str) -> None:
    """As everywhere."""
    answer = server.post(ROUTE, data=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_model_of_one_language_says_so(make_site: Callable[..., Site]) -> None:
    """The pipeline's refusal reaches the caller."""
    site = make_site(ScriptedTranscriber(error=UnsupportedOption("Knows one language only.", param="model")))
    answer = site.post(ROUTE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_option")


def test_a_form_without_a_file(server: Site) -> None:
    """Refused before anything is heard."""
    answer = server.post(ROUTE, files={"audio": ("a.wav", b"x")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
