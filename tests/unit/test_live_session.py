"""A live session: order of events, stable prefixes, ends of utterances, bounds, failures, and no audio lost."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.live_support import (
    OPTIONS,
    WORD_S,
    desk,
    eventually,
    feed,
    finals,
    heard,
    joined,
    opened,
    quiet,
    read,
    spoken,
    text_of,
    until,
    whole,
)
from tests.pipeline_support import INFO
from tympan.domain import SAMPLE_RATE_HZ, Lane, Options, Samples, Timestamps, WindowResult, WindowTask
from tympan.errors import (
    Cancelled,
    Conflict,
    EngineError,
    InvalidRequest,
    Overloaded,
    RequestTimeout,
    TooLarge,
    TooLong,
    TympanError,
    Unavailable,
    UnsupportedLanguage,
)
from tympan.live import (
    Committed,
    Ended,
    Event,
    Final,
    LiveLimits,
    LiveOptions,
    LiveSession,
    Lost,
    Partial,
    SpeechStarted,
    SpeechStopped,
    Turns,
)
from tympan.live.events import Cause
from tympan.pipeline import RequestContext

ONE = joined(quiet(0.5), spoken(1, 2, 3, 4, 5), quiet(1.0))
TWO = joined(ONE, spoken(6, 7, 8), quiet(1.0))


def in_order(events: list[Event]) -> None:
    """Assert the order that the events promise."""
    per: dict[int, list[Event]] = {}
    for event in events[:-1]:
        assert not isinstance(event, Ended)
        if isinstance(event, Committed):
            assert event.utterance is None or isinstance(per[event.utterance][-1], SpeechStopped)
            continue
        per.setdefault(event.utterance, []).append(event)
    for own in per.values():
        kinds = [type(event) for event in own]
        assert kinds[0] is SpeechStarted
        assert kinds[-2:] in ([SpeechStopped, Final], [SpeechStopped, Lost])
        assert set(kinds[1:-2]) <= {Partial}
        for before, after in pairwise([event for event in own if isinstance(event, Partial)]):
            assert after.words[: before.n_stable] == before.words[: before.n_stable]
            assert after.n_stable >= before.n_stable
    ends = [event.utterance for event in events if isinstance(event, Final | Lost)]
    assert ends == sorted(ends) == list(range(len(ends)))


def test_an_utterance_has_its_events_in_order() -> None:
    """Start, partials, stop, final; then the whole text."""
    events = heard(opened(desk()), ONE)
    in_order(events)
    assert [type(event) for event in events if not isinstance(event, Partial)] == [
        SpeechStarted,
        SpeechStopped,
        Final,
        Ended,
    ]
    (final,) = finals(events)
    assert final.text == whole(events) == text_of([1, 2, 3, 4, 5])
    assert final.start_s == pytest.approx(0.5 - 0.384, abs=0.04)
    assert final.end_s == pytest.approx(2.5 + 0.384, abs=0.04)


def test_words_have_times_of_the_session() -> None:
    """Words of partials and finals count from the session's first sample."""
    events = heard(opened(desk()), TWO)
    words = [word for final in finals(events) for segment in final.segments for word in segment.words]
    assert [word.start_s for word in words] == pytest.approx(
        [0.5 + WORD_S * n for n in range(5)] + [3.5 + WORD_S * n for n in range(3)], abs=0.01
    )
    shown = [word for event in events if isinstance(event, Partial) for word in event.words]
    by_name = {word.text: word.start_s for word in words}
    assert shown
    assert all(word.start_s == pytest.approx(by_name[word.text], abs=0.01) for word in shown if word.text in by_name)


def test_every_pause_ends_an_utterance() -> None:
    """A pause of 0.8 s does, a shorter one does not."""
    audio = joined(spoken(1, 2), quiet(0.6), spoken(3), quiet(0.9), spoken(4), quiet(1.0))
    events = heard(opened(desk()), audio)
    in_order(events)
    assert [final.text for final in finals(events)] == ["w1 w2 w3", "w4"]
    stops = [event for event in events if isinstance(event, SpeechStopped)]
    assert [stop.cause for stop in stops] == [Cause.SILENCE, Cause.SILENCE]


def test_the_pause_is_the_callers_choice() -> None:
    """A longer one keeps the words together."""
    audio = joined(spoken(1, 2), quiet(0.9), spoken(3, 4), quiet(1.5))
    events = heard(opened(desk(), LiveOptions(turns=Turns(silence_ms=1000))), audio)
    assert [final.text for final in finals(events)] == ["w1 w2 w3 w4"]


def test_partials_show_words_before_the_utterance_ends() -> None:
    """Words come one by one, and the stable ones are those of the final."""
    events = heard(opened(desk()), joined(spoken(*range(1, 13)), quiet(1.0)))
    in_order(events)
    partials = [event for event in events if isinstance(event, Partial)]
    assert len(partials) > 3
    assert partials[-1].n_stable > 5
    last = partials[-1]
    assert text_of(range(1, 13)).startswith(last.stable)
    assert last.text == f"{last.stable} {last.tail}".strip()


def test_without_partials_only_finals_come() -> None:
    """Nothing is asked of the engine but the finals."""
    service = desk()
    events = heard(opened(service, LiveOptions(partials=False)), ONE)
    assert not [event for event in events if isinstance(event, Partial)]
    assert whole(events) == text_of(range(1, 6))
    assert {task.params.beam_size for task in service.tasks} == {OPTIONS.beam_size}


def test_partials_are_quick_and_finals_are_decoded_as_files_are() -> None:
    """Greedy search for partials, the caller's options for finals, all of it on the live lane."""
    service = desk()
    heard(opened(service), ONE)
    assert {task.params.beam_size for task in service.tasks} == {1, OPTIONS.beam_size}
    assert {origin.lane for origin in service.origins} == {Lane.LIVE}


def test_a_doubtful_final_is_decoded_again() -> None:
    """The ladder of a file applies: first the full context, then rising temperature."""

    def unsure(task: WindowTask) -> WindowResult:
        sure = task.params.full_context or task.params.beam_size == 1
        return replace(read(task), avg_logprob=-0.1 if sure else -3.0)

    service = desk(reply=unsure)
    events = heard(opened(service), ONE)
    assert whole(events) == text_of(range(1, 6))
    last = events[-1]
    assert isinstance(last, Ended)
    assert last.transcript.stats.fallbacks == last.transcript.stats.full_context == 1


def test_the_next_window_is_settled_half_way_through_the_pause() -> None:
    """The final is decoded while the pause is not yet long enough, and not a second time."""
    service = desk()
    with opened(service) as session:
        feed(session, joined(spoken(1, 2, 3), quiet(0.5)))
        eventually(lambda: any(task.params.beam_size > 1 for task in service.tasks))
        assert session.stats.finals == 0
        feed(session, quiet(0.5))
        until(session, Final)
        assert sum(task.params.beam_size > 1 for task in service.tasks) == 1
        assert session.stats.ahead_in_vain == 0


def test_a_pause_that_ends_nothing_costs_a_decode_and_no_text() -> None:
    """What was decoded ahead is given up when the speaker goes on."""
    service = desk(hold=True)
    with opened(service) as session:
        feed(session, joined(spoken(1, 2, 3), quiet(0.5)))
        eventually(lambda: session.stats.ahead == 1)
        feed(session, joined(spoken(4, 5), quiet(1.0)))
        eventually(lambda: session.stats.ahead_in_vain == 1)
        service.hold = False
        service.release()
        session.finish()
        events = list(session.events())
    assert [final.text for final in finals(events)] == [text_of([1, 2, 3, 4, 5])]


def test_a_commit_ends_the_utterance_where_it_stands() -> None:
    """The rest is another one; no word is lost or said twice."""
    with opened(desk()) as session:
        feed(session, spoken(1, 2, 3, 4))
        session.commit()
        feed(session, joined(spoken(5, 6), quiet(1.0)))
        session.finish()
        events = list(session.events())
    in_order(events)
    stops = [event.cause for event in events if isinstance(event, SpeechStopped)]
    assert stops == [Cause.COMMIT, Cause.SILENCE]
    assert [event.utterance for event in events if isinstance(event, Committed)] == [0]
    assert [final.text for final in finals(events)] == ["w1 w2 w3 w4", "w5 w6"]


def test_a_commit_of_nothing_is_told_to_have_done_nothing() -> None:
    """Neither before any speech nor twice."""
    with opened(desk()) as session:
        session.commit()
        feed(session, quiet(1.0))
        session.commit()
        session.commit()
        session.finish()
        events = list(session.events())
    assert events[:-1] == [Committed(0.0, None), Committed(1.0, None), Committed(1.0, None)]
    assert isinstance(events[-1], Ended)


def test_the_caller_alone_may_end_utterances() -> None:
    """Without turns all audio is one utterance until the caller commits it."""
    with opened(desk(), LiveOptions(turns=None)) as session:
        feed(session, joined(quiet(0.6), spoken(1, 2), quiet(1.5), spoken(3), quiet(0.6)))
        session.commit()
        feed(session, spoken(4))
        session.finish()
        events = list(session.events())
    in_order(events)
    assert [final.text for final in finals(events)] == ["w1 w2 w3", "w4"]
    assert [event.cause for event in events if isinstance(event, SpeechStopped)] == [Cause.COMMIT, Cause.END]


def test_a_long_utterance_is_cut_and_goes_on() -> None:
    """Cut for its length, it loses nothing, and what was stable behind the cut stays so."""
    events = heard(opened(desk(), LiveOptions(max_utterance_s=4.0)), joined(spoken(*range(1, 31)), quiet(1.0)))
    in_order(events)
    causes = [event.cause for event in events if isinstance(event, SpeechStopped)]
    assert causes[0] is Cause.LENGTH
    assert causes[-1] is Cause.SILENCE
    spans = [(final.start_s, final.end_s) for final in finals(events)]
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert max(end_s - start_s for start_s, end_s in spans) <= 4.0
    named = {word.text.strip() for final in finals(events) for s in final.segments for word in s.words}
    assert named >= {f"w{n}" for n in range(1, 31)}


def test_looks_at_a_long_utterance_stay_short() -> None:
    """However long it is, a partial's window is bounded, and the stable text still begins at its beginning."""
    service = desk()
    events = heard(opened(service, LiveOptions(max_utterance_s=28.0)), joined(spoken(*range(1, 51)), quiet(1.0)))
    in_order(events)
    looks = [task.window.duration_s for task in service.tasks if task.params.beam_size == 1]
    assert max(looks) < 11.0
    last = [event for event in events if isinstance(event, Partial)][-1]
    assert text_of(range(1, 51)).startswith(last.stable)
    assert last.n_stable > 40


@pytest.mark.parametrize("audio", [quiet(5.0), quiet(0.0), quiet(0.01)])
def test_silence_gives_no_events_but_the_end(audio: Samples) -> None:
    """Nobody spoke, and the accounting says so."""
    (event,) = heard(opened(desk()), audio)
    assert isinstance(event, Ended)
    assert event.transcript.text == ""
    assert event.transcript.accounting.audio_s == len(audio) / SAMPLE_RATE_HZ
    assert event.transcript.accounting.speech_s == 0.0


def test_a_click_is_no_utterance() -> None:
    """Less than the shortest speech does not begin one."""
    click = np.full(600, 9000, dtype=np.int16)
    (event,) = heard(opened(desk()), joined(quiet(1.0), click, quiet(1.0)))
    assert isinstance(event, Ended)


def test_noise_gives_an_empty_final() -> None:
    """What the model calls silence has no text, but its utterance has an end all the same."""

    def nothing(task: WindowTask) -> WindowResult:
        return replace(read(task), text=" you", no_speech_prob=0.9, avg_logprob=-2.0)

    events = heard(opened(desk(reply=nothing)), ONE)
    in_order(events)
    (final,) = finals(events)
    assert final.text == whole(events) == ""
    assert final.segments == ()


def test_the_size_of_blocks_does_not_matter() -> None:
    """Ten milliseconds or ten seconds at a time: the same finals."""
    texts = []
    for block_s in (0.01, 0.1, 10.0):
        events = heard(opened(desk()), TWO, block_s)
        in_order(events)
        texts.append([(final.start_s, final.end_s, final.text) for final in finals(events)])
    assert texts[0] == texts[1] == texts[2]


def test_speech_up_to_the_end_is_finished() -> None:
    """No silence is needed at the end."""
    events = heard(opened(desk()), spoken(1, 2, 3))
    assert [event.cause for event in events if isinstance(event, SpeechStopped)] == [Cause.END]
    assert whole(events) == "w1 w2 w3"


SCRIPTS = st.lists(
    st.one_of(
        st.tuples(st.just("speech"), st.integers(1, 9)),
        st.tuples(st.just("quiet"), st.sampled_from([1, 3, 6, 12])),
        st.tuples(st.just("commit"), st.just(0)),
    ),
    max_size=8,
)


@settings(max_examples=25)
@given(SCRIPTS)
def test_whatever_happens_no_word_is_lost_and_the_order_holds(script: list[tuple[str, int]]) -> None:
    """Speech, pauses and commits in any order."""
    number, service = 0, desk()
    with opened(service) as session:
        for what, count in script:
            if what == "speech":
                feed(session, spoken(*range(number, number + count)))
                number += count
            elif what == "quiet":
                feed(session, quiet(count / 10))
            else:
                session.commit()
        session.finish()
        events = list(session.events())
    in_order(events)
    named = {word.text.strip() for final in finals(events) for s in final.segments for word in s.words}
    assert named - {"hm"} >= {f"w{n}" for n in range(number)}
    assert service.open == 0


def test_the_language_is_settled_once() -> None:
    """The first sure utterance tells it; later windows are told."""
    service = desk()
    events = heard(opened(service, options=Options(timestamps=Timestamps.WORD)), TWO)
    last = events[-1]
    assert isinstance(last, Ended)
    assert last.transcript.language == "en"
    later = [task for task in service.tasks if task.window.index == 1 and task.params.beam_size > 1]
    assert {task.params.language for task in later} == {"en"}


def test_a_language_that_the_model_does_not_know_is_refused_at_once() -> None:
    """Before any audio."""
    with pytest.raises(UnsupportedLanguage):
        opened(desk(), options=Options(language="xx"))


# ------------------------------------------------------------------------------------------------ bounds


def commit_often(session: LiveSession) -> None:
    """Ask for the end of ten utterances."""
    for _ in range(10):
        session.commit()


def test_F8_commits_that_nobody_acts_on_are_refused() -> None:
    """They hold no audio, but memory: 64 may wait for a session that waits for its reader."""
    limits = LiveLimits(max_events=2)
    with opened(desk(), limits=limits) as session:
        for _ in range(64):
            session.commit()
        with pytest.raises(Overloaded):
            commit_often(session)
        session.finish()
        assert isinstance(list(session.events())[-1], Ended)


def test_F7_audio_faster_than_the_engine_is_refused_and_none_of_it_is_lost() -> None:
    """At most 30 s are held; what was refused may be sent again, and the text is whole in the end."""
    service = desk(hold=True)
    audio = joined(*[joined(spoken(*range(n * 10, n * 10 + 10)), quiet(1.0)) for n in range(10)])
    with opened(service, LiveOptions(partials=False)) as session:
        refused_at = None
        for at in range(0, len(audio), 1600):
            try:
                session.feed(audio[at : at + 1600])
            except Overloaded:
                refused_at = at
                break
        assert refused_at is not None
        assert refused_at / SAMPLE_RATE_HZ == pytest.approx(30.0, abs=0.2)
        assert session.held_s <= 30.0
        service.hold = False
        service.release()
        feed(session, audio[refused_at:])
        session.finish()
        events = list(session.events())
    assert whole(events) == " ".join(text_of(range(n * 10, n * 10 + 10)) for n in range(10))


def test_F7_feeding_may_wait_for_room() -> None:
    """With a timeout, the caller is held back instead of refused."""
    service = desk(hold=True)
    with opened(service, LiveOptions(partials=False, max_utterance_s=2.0), LiveLimits(max_held_s=4.0)) as session:
        feed(session, joined(spoken(*range(3)), quiet(1.0)))
        eventually(lambda: service.open > 0)
        with pytest.raises(Overloaded, match="4 s"):
            session.feed(quiet(3.0), timeout_s=0.1)
        threading.Timer(0.2, service.release).start()
        session.feed(quiet(3.0), timeout_s=10.0)
    with pytest.raises(ValueError, match="longest utterance"):
        opened(service, limits=LiveLimits(max_held_s=10.0))


def test_partials_go_first_when_the_engine_is_slow() -> None:
    """One look at a time: while it takes long, audio is heard and finals are asked for, but no other looks."""
    service = desk(hold=True)
    with opened(service) as session:
        feed(session, joined(spoken(*range(10)), quiet(1.0), spoken(*range(10, 20)), quiet(1.0)))
        eventually(lambda: sum(task.params.beam_size > 1 for task in service.tasks) == 2)
        assert sum(task.params.beam_size == 1 for task in service.tasks) <= 2
        service.hold = False
        service.release()
        session.finish()
        events = list(session.events())
    assert whole(events) == text_of(range(20))


def test_partials_that_find_no_room_are_left_out() -> None:
    """A full queue costs partials, not the session."""
    service = desk(refusals=dict.fromkeys(range(1, 4), Overloaded()))
    session = opened(service)
    events = heard(session, joined(spoken(*range(12)), quiet(1.0)))
    assert whole(events) == text_of(range(12))
    assert session.stats.late_partials >= 1


def test_finals_that_find_no_room_are_asked_for_again() -> None:
    """No audio is lost to a full queue or an engine that is being loaded."""
    service = desk(refusals={1: Overloaded(), 2: Unavailable()})
    events = heard(opened(service, LiveOptions(partials=False)), ONE)
    assert service.submissions == 3
    assert whole(events) == text_of(range(1, 6))


def test_an_engine_that_stays_away_ends_the_session() -> None:
    """After the limit the reader is told why, and so is the feeder."""
    service = desk(refusals=dict.fromkeys(range(1, 1000), Unavailable("No engine.")))
    with opened(service, LiveOptions(partials=False), LiveLimits(engine_s=0.3)) as session:
        feed(session, ONE)
        with pytest.raises(Unavailable, match="No engine"):
            list(session.events())
        with pytest.raises(Unavailable, match="No engine"):
            session.feed(quiet(0.1))


def test_an_utterance_that_the_engine_fails_on_is_told_of_and_the_session_goes_on() -> None:
    """Its place in the audio is named."""

    def fails(task: WindowTask) -> WindowResult | BaseException:
        return EngineError("Out of luck.") if task.window.samples.max() < 2006 else read(task)

    events = heard(opened(desk(reply=fails)), TWO)
    in_order(events)
    (lost,) = [event for event in events if isinstance(event, Lost)]
    assert (lost.utterance, lost.error.message) == (0, "Out of luck.")
    assert 0.0 < lost.start_s < lost.end_s < 3.0
    assert whole(events) == "w6 w7 w8"


def test_a_mistake_of_ours_is_told_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever waits is told that something went wrong; nobody waits for ever."""

    def broken(task: WindowTask) -> WindowResult | BaseException:
        return RuntimeError("secret words")

    with opened(desk(reply=broken), LiveOptions(partials=False)) as session:
        session.feed(ONE)
        with pytest.raises(TympanError) as caught:
            list(session.events())
    assert type(caught.value) is TympanError
    assert "secret words" not in capsys.readouterr().out


def test_F8_a_reader_that_stalls_misses_partials_and_nothing_else() -> None:
    """The list of events is bounded: a newer partial takes the place of an older one."""
    limits = LiveLimits(max_events=8)
    with opened(desk(), limits=limits) as session:
        feed(session, joined(spoken(*range(20)), quiet(1.0)))
        eventually(lambda: session.stats.finals == 1)
        session.finish()
        eventually(lambda: not session.alive)
        events = list(session.events())
    assert [type(event) for event in events] == [SpeechStarted, Partial, SpeechStopped, Final, Ended]


def test_F8_a_reader_that_stays_away_ends_the_session() -> None:
    """Nothing piles up: with the list full for the limit's time, the session is over."""
    now_s = [0.0]
    limits = LiveLimits(max_events=4, reader_s=30.0)
    audio = joined(*[joined(spoken(n), quiet(1.0)) for n in range(6)])
    with opened(desk(), LiveOptions(partials=False), limits, clock=lambda: now_s[0]) as session:
        session.feed(audio)
        eventually(lambda: len(session._outbox) == 4)
        time.sleep(0.3)
        assert session.alive
        now_s[0] = 31.0
        eventually(lambda: not session.alive)
        with pytest.raises(RequestTimeout, match="Nobody has read"):
            list(session.events())


def test_F9_a_session_without_audio_ends() -> None:
    """Whoever vanished holds nothing for longer than the limit, by the caller's clock."""
    now_s = [0.0]
    with opened(desk(), limits=LiveLimits(idle_s=60.0), clock=lambda: now_s[0]) as session:
        feed(session, quiet(1.0))
        time.sleep(0.3)
        assert session.alive
        now_s[0] = 61.0
        eventually(lambda: not session.alive)
        with pytest.raises(RequestTimeout, match="No audio"):
            session.next_event(1.0)


def test_F9_whoever_vanishes_in_a_pause_is_missed_too() -> None:
    """What was decoded ahead of the pause's end is no reason to wait for ever."""
    now_s = [0.0]
    with opened(desk(), limits=LiveLimits(idle_s=60.0), clock=lambda: now_s[0]) as session:
        feed(session, joined(spoken(1, 2, 3), quiet(0.5)))
        eventually(lambda: session.stats.ahead == 1)
        now_s[0] = 61.0
        eventually(lambda: not session.alive)


def test_a_session_that_waits_for_the_engine_is_not_idle() -> None:
    """However long the engine takes, who has sent audio and waits for room or text is still there."""
    now_s, service = [0.0], desk(hold=True)
    with opened(service, LiveOptions(partials=False), clock=lambda: now_s[0]) as session:
        feed(session, ONE)
        eventually(lambda: service.open > 0)
        now_s[0] = 1000.0
        time.sleep(0.3)
        service.release()
        until(session, Final)
        session.finish()
        assert isinstance(list(session.events())[-1], Ended)


def test_F9_sessions_that_end_leave_no_thread_and_no_window() -> None:
    """Fifty sessions, dropped in the middle of a word."""
    before, service = threading.active_count(), desk(hold=True)
    sessions = [opened(service) for _ in range(50)]
    for session in sessions:
        session.feed(spoken(1, 2, 3))
    for session in sessions:
        session.close()
    assert threading.active_count() == before
    assert service.open == 0


def test_a_session_is_closed_in_the_middle_of_everything() -> None:
    """What is under way is withdrawn; feeding and finishing say so; reading just ends."""
    service = desk(hold=True)
    session = opened(service)
    feed(session, TWO)
    eventually(lambda: service.open > 0)
    session.close()
    session.close()
    assert not session.alive
    assert service.open == 0
    with pytest.raises(Cancelled):
        session.feed(quiet(0.1))
    with pytest.raises(Cancelled):
        session.commit()
    with pytest.raises(Cancelled):
        session.finish()
    for event in session.events():
        assert isinstance(event, SpeechStarted | SpeechStopped | Committed)
    assert session.over


def test_the_callers_cancel_and_deadline_end_a_session() -> None:
    """As they end any request."""
    context = RequestContext("r")
    with opened(desk(hold=True), context=context) as session:
        session.feed(spoken(1, 2, 3))
        context.cancel.set()
        with pytest.raises(Cancelled):
            list(session.events())
    late = RequestContext("r", deadline=time.monotonic() + 0.2)
    with opened(desk(), context=late) as session, pytest.raises(RequestTimeout):
        list(session.events())


def test_a_session_has_a_greatest_length() -> None:
    """Audio beyond it is refused, and what came before is finished."""
    with opened(desk(), context=RequestContext("r", max_audio_s=2.0)) as session:
        session.feed(spoken(1, 2, 3, 4, 5))
        with pytest.raises(TooLong, match="2 s"):
            session.feed(quiet(0.1))
        session.finish()
        assert whole(list(session.events())) == text_of(range(1, 6))


def test_audio_that_is_none_is_refused() -> None:
    """Wrong type, wrong shape, too much at a time, or after the end."""
    with opened(desk()) as session:
        for wrong in (np.zeros(10, np.float32), np.zeros((2, 10), np.int16)):
            with pytest.raises(InvalidRequest):
                session.feed(wrong)  # type: ignore[arg-type]
        with pytest.raises(TooLarge):
            session.feed(quiet(31.0))
        session.feed(quiet(0.0))
        session.finish()
        with pytest.raises(Conflict):
            session.feed(quiet(0.1))
        assert [type(event) for event in session.events()] == [Ended]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Turns(threshold=1.5),
        lambda: Turns(silence_ms=10),
        lambda: Turns(prefix_padding_ms=-1),
        lambda: LiveOptions(max_utterance_s=60.0),
        lambda: LiveOptions(partial_every_s=0.0),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object]) -> None:
    """With the name of the option."""
    with pytest.raises(InvalidRequest, match="between"):
        make()


def test_a_reader_may_be_told_instead_of_waiting() -> None:
    """The callback comes at once and with every event, so that an event loop never blocks."""
    told = threading.Semaphore(0)
    with opened(desk()) as session:
        session.subscribe(told.release)
        assert told.acquire(timeout=1.0)
        feed(session, ONE)
        session.finish()
        events: list[Event] = []
        while not session.over:
            assert told.acquire(timeout=10.0)
            while (event := session.next_event(0.0)) is not None:
                events.append(event)
    in_order(events)


def test_two_sessions_do_not_hear_each_other() -> None:
    """Each has its own words, though they share the engine."""
    service = desk()
    with opened(service) as one, opened(service) as other:
        for at in range(20):
            one.feed(spoken(at))
            other.feed(spoken(100 + at))
        one.finish()
        other.finish()
        assert whole(list(one.events())) == text_of(range(20))
        assert whole(list(other.events())) == text_of(range(100, 120))


def test_the_model_is_named() -> None:
    """In the transcript, as for a file."""
    last = heard(opened(desk()), ONE)[-1]
    assert isinstance(last, Ended)
    assert last.transcript.model == INFO.model
