"""Voices are heard while a source is read: in few threads, by networks that are loaded when somebody asks for them."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.pipeline_support import SOURCE, HearsAll, WindowDesk
from tests.voices_support import NOBODY, A, B, Sound, Tells, spoken
from tympan.audio.stereo import Stereo
from tympan.diarize.base import Activity
from tympan.domain import SAMPLE_RATE_HZ, DiarizeBy, Options, Samples, Segment, Turn
from tympan.errors import Cancelled, ModelUnavailable, NotStereo, RequestTimeout
from tympan.pipeline import RequestContext, Transcriber
from tympan.pipeline.voices import SURE_S, Ear, VoiceDesk

TALK = spoken([(6, A), (6, B), (6, A)])
WANTED = [(0.0, 6.0, 0), (6.0, 12.0, 1), (12.0, 18.0, 0)]


@pytest.fixture
def networks() -> Tells:
    """Return networks that read who speaks from the samples."""
    return Tells()


@pytest.fixture
def desk(networks: Tells) -> Iterator[VoiceDesk]:
    """Return a desk over them."""
    opened = VoiceDesk(lambda: networks)
    yield opened
    opened.close()


def transcriber(source: Sound, desk: VoiceDesk | None) -> Transcriber:
    """Return a pipeline whose engine says a word at the start of every window of 2 s."""
    made = Transcriber(source, HearsAll(), WindowDesk(), max_window_s=2.0)
    made.voices = desk
    return made


def assert_named(segments: Sequence[Segment]) -> None:
    """Fail unless each segment has the name of who speaks then in ``TALK``."""
    clear = [one for one in segments if one.start_s // 6 == one.end_s // 6]
    assert len(clear) >= 6
    assert [one.speaker for one in clear] == ["ABA"[int(one.start_s // 6)] for one in clear]


def rounded(turns: Sequence[Turn] | None) -> list[tuple[float, float, int]]:
    """Return turns to a tenth of a second."""
    return [(round(one.start_s, 1), round(one.end_s, 1), one.speaker) for one in turns or ()]


@pytest.mark.parametrize("by", [DiarizeBy.AUTO, DiarizeBy.VOICES])
def test_a_file_with_one_channel_is_told_apart_by_voices(desk: VoiceDesk, by: DiarizeBy) -> None:
    """Every word has its speaker, and the transcript the turns."""
    found = transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True, diarize_by=by), RequestContext("r"))
    assert rounded(found.turns) == WANTED
    assert_named(found.segments)
    assert found.provenance.speakers == "voices"


def test_of_a_part_times_are_those_of_the_whole(desk: VoiceDesk) -> None:
    """What lies outside is not heard."""
    options = Options(diarize=True, start_s=3.0, length_s=8.0)
    found = transcriber(Sound(TALK), desk).transcribe(SOURCE, options, RequestContext("r"))
    assert rounded(found.turns) == [(3.0, 6.0, 0), (6.0, 11.0, 1)]


def test_whoever_does_not_ask_loads_nothing(networks: Tells) -> None:
    """Nor does who asks for channels."""
    loaded = []

    def load() -> Tells:
        loaded.append(1)
        return networks

    desk = VoiceDesk(load)
    both = np.column_stack([TALK, TALK // 4])
    for options in (Options(), Options(diarize=True, diarize_by=DiarizeBy.CHANNELS)):
        found = transcriber(Sound(TALK, both), desk).transcribe(SOURCE, options, RequestContext("r"))
        assert found.turns == ()
    assert not loaded
    assert not desk.is_loaded
    transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    assert loaded == [1]


def apart(seconds: float) -> Stereo:
    """Return two channels with a speaker on each, who speak in turn for 5 s."""
    n = round(seconds * SAMPLE_RATE_HZ)
    first = (np.arange(n) // (5 * SAMPLE_RATE_HZ)) % 2 == 0
    return np.column_stack([np.where(first, 1000, 20), np.where(first, 20, 1000)]).astype(np.int16)


@pytest.mark.parametrize("seconds", [20.0, 3 * SURE_S])
def test_two_channels_with_a_speaker_each_are_not_heard(desk: VoiceDesk, networks: Tells, seconds: float) -> None:
    """Channels tell more exactly, and cost nothing."""
    both = apart(seconds)
    found = transcriber(Sound(both[:, 0], both), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    assert (found.provenance.speakers, found.turns, networks.windows) == ("channels", (), [])
    assert {one.speaker for one in found.segments} - {None} == {"A", "B"}  # Nobody is louder where they change.


@pytest.mark.parametrize("right", [1.0, 0.8, 0.0])
@pytest.mark.parametrize("repeats", [1, 4])
def test_two_channels_that_say_the_same_are_told_apart_by_voices(
    networks: Tells, desk: VoiceDesk, right: float, repeats: int
) -> None:
    """Equally loud, a little less, or with nothing on one of them, in short files and in long ones."""
    networks.scale = 2.0 / (1.0 + right)
    talk = np.tile(TALK, repeats)
    both = np.column_stack([talk, (talk * right).astype(np.int16)])
    found = transcriber(Sound(talk, both), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    assert found.provenance.speakers == "voices"
    assert_named(found.segments[:8])


def test_channels_that_turn_out_to_tell_are_believed(desk: VoiceDesk) -> None:
    """The second speaker is silent at first: voices are heard, and not needed."""
    n = round(SURE_S) * SAMPLE_RATE_HZ
    alone = np.column_stack([np.full(n, 1000), np.full(n, 20)]).astype(np.int16)
    both = np.concatenate([alone, apart(90.0)])
    found = transcriber(Sound(both[:, 0], both), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    assert (found.provenance.speakers, found.turns) == ("channels", ())


def test_without_networks_nothing_is_decoded() -> None:
    """The error names a remedy; a recording that channels tell apart does not need them."""

    def fails() -> Tells:
        raise ModelUnavailable("Not here.", remedy="Fetch it.")

    desk, source = VoiceDesk(fails), Sound(TALK)
    for by in (DiarizeBy.AUTO, DiarizeBy.VOICES):
        with pytest.raises(ModelUnavailable, match="Not here"):
            transcriber(source, desk).transcribe(SOURCE, Options(diarize=True, diarize_by=by), RequestContext("r"))
    assert source.given == 0
    both = apart(20.0)
    found = transcriber(Sound(both[:, 0], both), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    assert found.provenance.speakers == "channels"


def test_where_voices_are_not_heard_channels_are_needed() -> None:
    """As before there were any."""
    with pytest.raises(NotStereo):
        transcriber(Sound(TALK), None).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))


def test_text_that_is_told_as_it_comes_is_told_once_the_speakers_are_known(desk: VoiceDesk) -> None:
    """All at once, each segment with its speaker."""
    told: list[Sequence[Segment]] = []
    context = RequestContext("r", on_segments=told.append)
    found = transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True), context)
    assert told == [found.segments]


class Slow(Tells):
    """Networks that take their time, until they are let go."""

    def __init__(self) -> None:
        """Nobody is let go."""
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()
        self.priority = 0

    def activity(self, window: Samples) -> Activity:
        """Wait first."""
        if sys.platform == "linux":
            self.priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.begun.set()
        assert self.go.wait(30)
        return super().activity(window)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_who_has_gone_is_not_waited_for(how: str) -> None:
    """Nor is the thread kept: what comes after them is heard."""
    slow = Slow()
    desk = VoiceDesk(lambda: slow)
    context = RequestContext("r", deadline=time.monotonic() + 0.3 if how == "deadline" else None)
    if how == "cancel":
        threading.Thread(target=lambda: (slow.begun.wait(30), context.cancel.set()), daemon=True).start()  # type: ignore[func-returns-value]
    with pytest.raises(Cancelled if how == "cancel" else RequestTimeout):
        transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True), context)
    slow.go.set()
    found = transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("s"))
    assert rounded(found.turns) == WANTED
    assert sys.platform != "linux" or slow.priority == os.getpriority(os.PRIO_PROCESS, 0) + 5
    desk.close()


def test_a_long_recording_waits_for_what_is_heard() -> None:
    """No more than two pieces of it are in memory."""
    slow = Slow()
    desk = VoiceDesk(lambda: slow)
    context = RequestContext("r")
    ear = Ear(desk, Options(diarize=True), context)
    second = np.zeros(SAMPLE_RATE_HZ, np.int16)
    for _ in range(19):
        ear.push(second)
    threading.Timer(0.3, context.cancel.set).start()
    with pytest.raises(Cancelled):
        ear.push(second)
    ear.close()
    slow.go.set()
    desk.close()


def test_silence_has_no_speakers(desk: VoiceDesk) -> None:
    """Nobody is named, although the engine heard words."""
    silence = spoken([(5, NOBODY)])
    found = transcriber(Sound(silence), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    assert {one.speaker for one in found.segments} == {None}
    assert (found.turns, found.provenance.speakers) == ((), "voices")


def test_a_network_that_fails_fails_the_request(desk: VoiceDesk, networks: Tells) -> None:
    """And no other."""
    networks.scale = float("nan")
    with pytest.raises(ValueError, match="scale"):
        transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
    networks.scale = 1.0
    transcriber(Sound(TALK), desk).transcribe(SOURCE, Options(diarize=True), RequestContext("r"))
