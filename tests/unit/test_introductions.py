"""Samples of voices are heard before what they are for; what is no sample of one voice is refused by name."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline_support import never
from tests.voices_support import NOBODY, A, B, C, Tells, spoken
from tympan.diarize.known import unpacked
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import Cancelled, CorruptMedia, InvalidRequest, ModelUnavailable, TooLong, TympanError
from tympan.pipeline import RequestContext
from tympan.pipeline.introductions import LONGEST_S, PARAM, SHORTEST_S, Introductions
from tympan.pipeline.voices import VoiceDesk


class Shelf:
    """A decoder of a test: files are what their names say."""

    def __init__(self, **files: Samples) -> None:
        """Hold ``files``."""
        self.files = files

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, None]:
        """Yield a file second by second, no longer than is asked."""
        if path.name == "broken":
            raise CorruptMedia("Nothing of it could be decoded.", remedy="Send another.")
        samples = self.files[path.name]
        for at in range(0, len(samples), SAMPLE_RATE_HZ):
            if at >= max_audio_s * SAMPLE_RATE_HZ:
                raise TooLong("The audio is too long.")
            yield samples[at : at + SAMPLE_RATE_HZ]


@pytest.fixture
def desk() -> Iterator[VoiceDesk]:
    """Return a desk over networks that read who speaks from the samples."""
    opened = VoiceDesk(Tells)
    yield opened
    opened.close()


def heard(desk: VoiceDesk, names: Sequence[str], **files: Samples) -> dict[str, str]:
    """Return the voices in some files."""
    made = Introductions(Shelf(**files), desk)
    return made.heard({name: Path(name) for name in names}, RequestContext("r"))


def test_a_sample_comes_to_the_voice_in_it(desk: VoiceDesk) -> None:
    """Silence around it or not, short or long; by the name that the file has here."""
    found = heard(desk, ["a", "b", "c"], a=spoken([(2, A)]), b=spoken([(1, NOBODY), (3, B), (1, NOBODY)]),
                  c=spoken([(LONGEST_S, C)]))  # fmt: skip
    assert list(found) == ["a", "b", "c"]
    assert [int(np.argmax(unpacked(text))) for text in found.values()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("sample", "what"),
    [
        (spoken([(SHORTEST_S - 0.1, A)]), "is shorter than 2 s"),
        (spoken([(LONGEST_S + 1.5, A)]), "is longer than 30 s"),
        (spoken([(5, NOBODY)]), "holds less than 1 s of speech"),
        (spoken([(5, NOBODY), (0.5, A)]), "holds less than 1 s of speech"),
        (spoken([(3, A), (0.5, NOBODY), (3, B)]), "holds more than one voice"),
        (np.zeros(0, np.int16), "is shorter than 2 s"),
    ],
    ids=["short", "long", "silent", "a word", "two voices", "empty"],
)
def test_what_is_no_sample_of_a_voice_is_refused(desk: VoiceDesk, sample: Samples, what: str) -> None:
    """With its place, the field, and what to send instead."""
    with pytest.raises(InvalidRequest) as caught:
        heard(desk, ["a", "b"], a=spoken([(4, A)]), b=sample)
    assert caught.value.message == f"Sample 2 of a voice {what}."
    assert caught.value.param == PARAM
    assert "2 to 30 s" in (caught.value.remedy or "")


def test_what_is_no_audio_says_so(desk: VoiceDesk) -> None:
    """With the decoder's own code and words."""
    with pytest.raises(CorruptMedia) as caught:
        heard(desk, ["broken"])
    assert (caught.value.message, caught.value.param) == ("Sample 1: Nothing of it could be decoded.", PARAM)


def test_without_networks_nothing_is_heard() -> None:
    """The cause is that of the networks, which is not the caller's."""

    def fails() -> Tells:
        raise ModelUnavailable("The networks are not here.", remedy="Fetch them.")

    desk = VoiceDesk(fails)
    with pytest.raises(ModelUnavailable) as caught:
        heard(desk, ["a"], a=spoken([(4, A)]))
    assert caught.value.param is None
    desk.close()


def test_whoever_has_gone_is_heard_no_further(desk: VoiceDesk) -> None:
    """Between two blocks of the sample at the latest."""
    over = threading.Event()
    over.set()
    made = Introductions(Shelf(a=spoken([(4, A)])), desk)
    with pytest.raises(Cancelled) as caught:
        made.heard({"a": Path("a")}, RequestContext("r", cancel=over))
    assert isinstance(caught.value, TympanError)
