"""Finals are decoded behind what was said before, and say nothing twice."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.live_support import OPTIONS, desk, finals, heard, joined, opened, quiet, read, spoken, text_of, whole
from tests.pipeline_support import INFO, WindowDesk
from tympan.audio.windows import SampleBuffer
from tympan.domain import (
    SAMPLE_RATE_HZ,
    Abilities,
    DecodeParams,
    Options,
    Samples,
    Span,
    Timestamps,
    WindowResult,
    WindowTask,
)
from tympan.errors import EngineError
from tympan.live import Ended, LiveOptions, Lost, Partial
from tympan.live.context import Past, packed, placed, without_context

TALK = joined(spoken(1, 2, 3), quiet(1.0), spoken(4, 5), quiet(1.0), spoken(6, 7), quiet(1.0))


def span(start_s: float, end_s: float) -> Span:
    """Return a span in seconds."""
    return Span(round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ))


def last_window(service: WindowDesk) -> WindowTask:
    """Return the last window that was decoded with all care."""
    return [task for task in service.tasks if task.params.beam_size > 1][-1]


def seconds(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Return bounds in seconds."""
    return [(one.start_sample / SAMPLE_RATE_HZ, one.end_sample / SAMPLE_RATE_HZ) for one in spans]


def test_utterances_before_are_context_as_far_as_they_fit() -> None:
    """The latest ones, whole, up to the length asked for."""
    past = Past(10.0)
    for number, one in enumerate([span(0, 4), span(5, 8), span(9, 12)]):
        past.add(number, one)
    assert seconds(list(past.before(span(13, 15)).values())) == [(5, 8), (9, 12)]
    assert list(past.before(span(13, 15))) == [1, 2]


def test_a_window_is_never_longer_than_a_files() -> None:
    """A long utterance has less context."""
    past = Past(28.0)
    for number, one in enumerate([span(0, 4), span(5, 8), span(9, 12)]):
        past.add(number, one)
    assert list(past.before(span(13, 33))) == [1, 2]
    assert list(past.before(span(13, 40))) == []


def test_a_long_silence_ends_what_belongs_together() -> None:
    """What lies before it is no context."""
    past = Past(28.0)
    past.add(0, span(0, 4))
    past.add(1, span(8.5, 10))
    assert list(past.before(span(11, 12))) == [1]


def test_what_is_kept_as_context_is_bounded() -> None:
    """Audio from before the greatest context is forgotten."""
    past = Past(10.0)
    for number in range(100):
        past.add(number, span(number * 3.0, number * 3.0 + 2.0))
    assert past.first_sample(0) >= (299.0 - 10.0) * SAMPLE_RATE_HZ
    assert Past(0.0).first_sample(77) == 77


def test_short_silences_stay_in_the_window_and_long_ones_do_not() -> None:
    """As in a file's windows."""
    buffer = SampleBuffer()
    audio: Samples = joined(spoken(*range(25)))
    buffer.push(audio)
    window = packed(7, [span(0, 1), span(2, 3), span(6, 7)], buffer)
    assert [(piece.source_sample, piece.n_samples) for piece in window.pieces] == [(0, 48_000), (96_000, 16_000)]
    assert window.index == 7
    assert window.samples.tolist() == [*audio[:48_000], *audio[96_000:112_000]]


def test_known_words_are_taken_off() -> None:
    """Text, tokens and words are those of the utterance alone."""
    buffer = SampleBuffer()
    buffer.push(TALK)
    window = packed(0, [span(0, 1.2), span(2.2, 3.0)], buffer)
    result = read(WindowTask(window, DecodeParams(align=True)))
    known = placed(window, result.words)[:3]
    own = without_context(window, result, known)
    assert own.text == " w4 w5"
    assert [word.text for word in own.words] == [" w4", " w5"]
    assert without_context(window, result, []).text == result.text


def test_finals_are_decoded_in_context() -> None:
    """The last window holds all that was said, and its final only what is new."""
    service = desk()
    events = heard(opened(service), TALK)
    assert [final.text for final in finals(events)] == ["w1 w2 w3", "w4 w5", "w6 w7"]
    assert read(last_window(service)).text.strip() == text_of(range(1, 8))
    last = events[-1]
    assert isinstance(last, Ended)
    starts = [round(word.start_s, 1) for word in last.transcript.words]
    assert starts == [0.0, 0.4, 0.8, 2.2, 2.6, 4.0, 4.4]
    assert last.transcript.accounting.dropped_s > 0.0


def test_context_can_be_left_out() -> None:
    """Then every utterance is decoded alone."""
    service = desk()
    events = heard(opened(service, LiveOptions(context_s=0.0)), TALK)
    assert whole(events) == text_of(range(1, 8))
    assert read(last_window(service)).text.strip() == "w6 w7"


def test_words_that_sound_otherwise_the_second_time_are_not_said_again() -> None:
    """A final stays as it was told, even if the model hears the same audio differently later."""

    def fickle(task: WindowTask) -> WindowResult:
        result = read(task)
        if len(result.words) <= 3:
            return result
        words = tuple(replace(word, text=" other" if word.text == " w2" else word.text) for word in result.words)
        return replace(result, words=words, text="".join(word.text for word in words))

    events = heard(opened(desk(reply=fickle), LiveOptions(partials=False)), TALK)
    assert whole(events) == text_of(range(1, 8))


def test_a_model_without_word_times_gets_no_context() -> None:
    """Its utterances are decoded alone, and its partials agree by their words all the same."""

    def timeless(task: WindowTask) -> WindowResult:
        assert task.params.beam_size > 1 or not task.params.align
        return replace(read(task), words=())

    info = replace(INFO, can=Abilities(word_times=False))
    service = desk(reply=timeless, info=info)
    events = heard(opened(service, options=Options(language="en")), TALK)
    assert [final.text for final in finals(events)] == ["w1 w2 w3", "w4 w5", "w6 w7"]
    assert max(len(task.window.pieces) for task in service.tasks) == 1
    partials = [event for event in events if isinstance(event, Partial)]
    assert any(event.stable for event in partials)
    assert all(text_of([1, 2, 3]).startswith(event.stable) for event in partials if event.utterance == 0)


def test_words_that_got_no_times_are_decoded_alone() -> None:
    """What cannot be told apart is not said twice."""

    def timeless(task: WindowTask) -> WindowResult:
        return replace(read(task), words=())

    events = heard(opened(desk(reply=timeless)), TALK)
    assert [final.text for final in finals(events)] == ["w1 w2 w3", "w4 w5", "w6 w7"]


def test_what_was_lost_is_no_context() -> None:
    """Its words are unknown; the next utterance is decoded alone."""

    def fails(task: WindowTask) -> WindowResult | BaseException:
        only_first = task.window.samples.max() <= 2003 and task.params.beam_size > 1
        return EngineError() if only_first else read(task)

    events = heard(opened(desk(reply=fails)), TALK)
    assert [type(event) for event in events if isinstance(event, Lost)] == [Lost]
    assert [final.text for final in finals(events)] == ["w4 w5", "w6 w7"]


@pytest.mark.parametrize("timestamps", list(Timestamps))
def test_the_callers_choice_of_times_is_kept(timestamps: Timestamps) -> None:
    """Words are needed to tell context apart, but only shown where asked for."""
    events = heard(opened(desk(), options=Options(language="en", timestamps=timestamps)), TALK)
    words = [word for final in finals(events) for segment in final.segments for word in segment.words]
    assert bool(words) is (timestamps is Timestamps.WORD)
    assert whole(events) == text_of(range(1, 8))


def test_the_beam_is_the_callers() -> None:
    """Context changes nothing else about how finals are decoded."""
    service = desk()
    heard(opened(service, LiveOptions(partials=False), options=replace(OPTIONS, beam_size=3)), TALK)
    assert {task.params.beam_size for task in service.tasks} == {3}
