"""A request's way through: windows in order, languages, retries, refusals, cancelling, deadlines and bounds."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.pipeline_support import (
    INFO,
    SOURCE,
    ArraySource,
    HearsAll,
    Releasing,
    WindowDesk,
    answer,
    blocks,
    transcriber,
)
from tympan import fallback
from tympan.domain import (
    SAMPLE_RATE_HZ,
    Abilities,
    Lane,
    LanguageUse,
    Options,
    Piece,
    Progress,
    Samples,
    Segment,
    Suppression,
    Task,
    VadOptions,
    Window,
    WindowResult,
    WindowTask,
)
from tympan.errors import (
    Cancelled,
    EngineError,
    Overloaded,
    RequestTimeout,
    TympanError,
    Unavailable,
    UnsupportedLanguage,
    UnsupportedOption,
)
from tympan.pipeline import MAX_IN_FLIGHT, RequestContext, decoding
from tympan.pipeline.decoding import GATHERED_WINDOWS, Decoding

KEEP_ALL = Options(vad=None, language="en")
DETECT = Options(vad=None)
WHOLE = 30.0
"""Seconds of source that make six windows and a bit of a seventh at most."""


def ctx(deadline: float | None = None) -> RequestContext:
    """Return a context of its own."""
    return RequestContext("request", tenant="tenant", lane=Lane.BATCH, deadline=deadline)


def run_apart(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Run ``call`` in a thread; the list receives what it raises."""
    raised: list[BaseException] = []

    def body() -> None:
        try:
            call()
        except TympanError as error:
            raised.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread, raised


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for a condition, half a minute at most."""
    deadline = time.monotonic() + 30.0
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()


def expected_text(desk: WindowDesk) -> str:
    """Return the text of every window that was ever submitted, once each, in order."""
    indices = sorted({task.window.index for task in desk.tasks})
    assert indices == list(range(len(indices)))
    return " ".join(f"w{index}." for index in indices)


def test_every_window_is_in_the_text_once_and_in_order() -> None:
    """All audio is kept, so the windows hold every sample, and all have the same origin."""
    source, desk = ArraySource(blocks(WHOLE)), WindowDesk()
    transcript = transcriber(source, desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert sum(len(task.window.samples) for task in desk.tasks) == WHOLE * SAMPLE_RATE_HZ
    assert len(desk.tasks) >= 6
    assert transcript.text == expected_text(desk)
    assert transcript.stats.windows == len(desk.tasks)
    assert (transcript.model, transcript.language, transcript.language_probability) == ("demo", "en", 1.0)
    assert (transcript.accounting.audio_s, transcript.accounting.speech_s) == (WHOLE, WHOLE)
    assert transcript.accounting.dropped_s == 0
    assert transcript.processing_s > 0
    assert {(o.request_id, o.tenant, o.lane) for o in desk.origins} == {("request", "tenant", Lane.BATCH)}
    assert source.closed


def test_no_speech_means_no_windows() -> None:
    """With VAD, noise costs the engine nothing, and the account says where the audio went."""
    desk = WindowDesk()
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, Options(), ctx())
    assert desk.tasks == []
    assert (transcript.text, transcript.language, transcript.languages) == ("", None, ())
    assert transcript.accounting.dropped_s == transcript.accounting.audio_s == WHOLE


def test_replies_out_of_order_give_the_text_in_order() -> None:
    """Windows come back newest first; the text does not."""
    desk = WindowDesk(hold=True)
    with Releasing(desk):
        transcript = transcriber(ArraySource(blocks(60)), desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert desk.most_open > 1
    assert transcript.text == expected_text(desk)


def test_a_long_source_never_has_too_many_windows_under_way() -> None:
    """The bound is reached and kept, and nothing is decoded far ahead of it."""
    source, desk = ArraySource(blocks(300)), WindowDesk(hold=True)
    service = transcriber(source, desk, max_window_s=2.0)
    context = ctx()
    thread, raised = run_apart(lambda: service.transcribe(SOURCE, KEEP_ALL, context))
    wait_until(lambda: desk.open == MAX_IN_FLIGHT)
    given = source.given
    time.sleep(0.2)
    assert (desk.most_open, source.given) == (MAX_IN_FLIGHT, given)
    assert source.given < 60
    with Releasing(desk):
        thread.join(60.0)
    assert not thread.is_alive()
    assert not raised
    assert desk.most_open == MAX_IN_FLIGHT


def test_windows_of_an_idle_request_are_handed_over_together() -> None:
    """One alone would make a poor batch: four go at once, or what there is at the end of the source."""
    handed: list[int] = []

    def source() -> Iterator[Samples]:
        for block in blocks(WHOLE):
            handed.append(len(desk.tasks))
            yield block

    desk = WindowDesk(hold=True)
    with Releasing(desk):
        transcriber(ArraySource(source()), desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert next(count for count in handed if count) >= GATHERED_WINDOWS
    short = WindowDesk()
    transcriber(ArraySource(blocks(6.0)), short).transcribe(SOURCE, KEEP_ALL, ctx())
    assert len(short.tasks) == 2


def test_a_slow_source_does_not_keep_the_engine_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are handed over after a while even if they are few."""
    monkeypatch.setattr(decoding, "GATHER_S", 0.0)
    desk, seen = WindowDesk(), []

    def source() -> Iterator[Samples]:
        for block in blocks(WHOLE):
            seen.append(len(desk.tasks))
            yield block

    transcriber(ArraySource(source()), desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert 0 < next(count for count in seen if count) < GATHERED_WINDOWS


def test_windows_are_decoded_again_while_older_ones_are_still_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be done again joins the others in a batch instead of waiting for its turn to be read."""
    monkeypatch.setattr(fallback, "QUIET_PEAK", 0.0)  # The samples are no speech.

    def reply(task: WindowTask) -> WindowResult:
        return replace(answer(task), avg_logprob=-0.1 if task.params.full_context else -0.9, language="de")

    desk = WindowDesk(reply, hold=True)
    thread, raised = run_apart(
        lambda: transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(
            SOURCE, Options(vad=None, language="de", logprob_threshold=-0.5), ctx()
        )
    )
    wait_until(lambda: len(desk.tasks) >= 6)
    desk.release([3, 2])
    wait_until(lambda: len([task for task in desk.tasks if task.params.full_context]) == 2)
    assert desk.open >= 4
    again = [task.window.index for task in desk.tasks if task.params.full_context]
    assert sorted(again) == [2, 3]
    with Releasing(desk):
        thread.join(5.0)
    assert not thread.is_alive()
    assert not raised


def test_progress_only_grows_and_ends_with_the_whole() -> None:
    """The total is unknown until the end of the source."""
    seen: list[Progress] = []
    transcriber(ArraySource(blocks(WHOLE)), WindowDesk()).transcribe(SOURCE, KEEP_ALL, ctx(), seen.append)
    done = [progress.done_s for progress in seen]
    assert done == sorted(done)
    assert len(done) >= 6
    assert {progress.total_s for progress in seen[:-1]} == {None}
    assert seen[-1] == Progress(WHOLE, WHOLE)


# ------------------------------------------------------------------------------------------------ refusals, failures


@pytest.mark.parametrize("refusal", [Overloaded(), Unavailable()])
@pytest.mark.parametrize("options", [KEEP_ALL, DETECT])
def test_a_new_request_is_refused_at_once(refusal: TympanError, options: Options) -> None:
    """The first window is not accepted, so the caller hears it while it can still go elsewhere."""
    source, desk = ArraySource(blocks(WHOLE)), WindowDesk(refusals={1: refusal})
    with pytest.raises(type(refusal)):
        transcriber(source, desk).transcribe(SOURCE, options, ctx())
    assert desk.submissions == 1


def test_a_request_under_way_waits_for_room() -> None:
    """A queue that fills up midway delays it, and no window is lost."""
    desk = WindowDesk(refusals={n: Overloaded() for n in (3, 4, 6)})
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert transcript.text == expected_text(desk)
    assert desk.submissions == len(desk.tasks) + 3


@pytest.mark.parametrize("hold", [True, False])
def test_waiting_for_room_ends_with_the_deadline(hold: bool) -> None:  # noqa: FBT001
    """A queue that stays full does not hold a request for ever, and what it has waiting is withdrawn."""
    desk = WindowDesk(refusals={n: Overloaded() for n in range(2, 1000)}, hold=hold)
    with pytest.raises(RequestTimeout):
        transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, ctx(time.monotonic() + 0.4))
    assert desk.open == 0


@pytest.mark.parametrize("bad", [0, 3, 5])
def test_a_failed_window_fails_the_request_and_withdraws_the_rest(bad: int) -> None:
    """The engine's error reaches the caller as it is; nothing of the request waits on."""

    def reply(task: WindowTask) -> WindowResult | BaseException | None:
        return EngineError("broken") if task.window.index == bad else answer(task) if task.window.index < bad else None

    source, desk = ArraySource(blocks(60)), WindowDesk(reply)
    with pytest.raises(EngineError, match="broken"):
        transcriber(source, desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert len(desk.tasks) > bad
    assert desk.open == 0


@pytest.mark.parametrize("error", [EngineError("broken"), TimeoutError("of somebody else")])
def test_an_error_of_any_kind_is_not_waited_on(error: Exception) -> None:
    """Even one that looks like the wait's own time-out."""
    desk = WindowDesk(lambda _: error)
    with pytest.raises(type(error)):
        transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, ctx(time.monotonic() + 5.0))


def test_a_failed_request_lets_go_of_its_decoder_at_once() -> None:
    """The source is closed although the error, with all its frames, is still held by somebody."""
    source, desk = ArraySource(blocks(120)), WindowDesk(lambda _: EngineError())
    with pytest.raises(EngineError) as caught:
        transcriber(source, desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert caught.value.__traceback__ is not None
    assert source.closed
    assert source.given < 24


@pytest.mark.parametrize("options", [KEEP_ALL, DETECT])
def test_cancelling_ends_a_request_that_nobody_answers(options: Options) -> None:
    """Its windows vanish from the queue, soon."""
    desk, context = WindowDesk(hold=True), ctx()
    source = ArraySource(blocks(WHOLE))
    thread, raised = run_apart(lambda: transcriber(source, desk).transcribe(SOURCE, options, context))
    wait_until(lambda: desk.open > 0)
    context.cancel.set()
    thread.join(30.0)
    assert [type(error) for error in raised] == [Cancelled]
    assert all(future.cancelled() for future in desk.futures)
    assert source.closed


def test_a_cancelled_request_starts_nothing() -> None:
    """Cancelled before it began, it submits no window."""
    desk, context = WindowDesk(), ctx()
    context.cancel.set()
    with pytest.raises(Cancelled):
        transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, context)
    assert desk.tasks == []


def test_the_deadline_ends_a_request_that_nobody_answers() -> None:
    """In time, with a remedy, and leaving nothing behind."""
    desk, started = WindowDesk(hold=True), time.monotonic()
    with pytest.raises(RequestTimeout) as caught:
        transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, ctx(started + 1.0))
    assert time.monotonic() - started < 30.0
    assert caught.value.remedy
    assert desk.futures
    assert all(future.cancelled() for future in desk.futures)


def test_a_source_that_fails_midway_fails_the_request() -> None:
    """The decoder's error reaches the caller, and the windows already sent are withdrawn."""

    def broken() -> Iterator[Samples]:
        yield from blocks(20)
        raise Unavailable("no more")

    desk = WindowDesk(hold=True)
    with pytest.raises(Unavailable, match="no more"):
        transcriber(ArraySource(broken()), desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert desk.futures
    assert all(future.cancelled() for future in desk.futures)


# --------------------------------------------------------------------------------------------------------- fallback


def test_a_bad_window_is_decoded_again_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The retry's text is used, in its place, and the statistics tell."""
    monkeypatch.setattr(fallback, "QUIET_PEAK", 0.0)  # The samples are no speech, and a loop over silence ends sooner.

    def reply(task: WindowTask) -> WindowResult:
        good = answer(task)
        bad = task.window.index == 1 and task.params.temperature < 0.3
        return replace(good, compression_ratio=3.0, text=" bad", words=()) if bad else good

    desk = WindowDesk(reply)
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, ctx())
    tries = [(t.params.full_context, t.params.temperature) for t in desk.tasks if t.window.index == 1]
    assert tries == [(False, 0.0), (True, 0.0), (True, 0.2), (True, 0.4)]
    assert transcript.text == expected_text(desk)
    assert transcript.stats.fallbacks == 3
    assert transcript.stats.full_context == 1
    assert transcript.stats.windows == len({task.window.index for task in desk.tasks})


def test_text_over_silence_is_rejected() -> None:
    """Nobody speaks in faint noise: text that is not sure of itself is dropped and counted."""
    desk = WindowDesk(lambda task: replace(answer(task), avg_logprob=-0.5 if task.window.index == 2 else -0.1))
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, ctx())
    assert transcript.text == expected_text(desk).replace("w2. ", "")
    assert transcript.stats.rejected == 1


# --------------------------------------------------------------------------------------------------------- language


def votes(*heard: tuple[tuple[str, float], ...]) -> Callable[[WindowTask], WindowResult]:
    """Return a service that hears these languages in its first windows, and in the rest what it is told."""

    def reply(task: WindowTask) -> WindowResult:
        good = answer(task)
        if task.params.language is not None:
            return good
        probabilities = heard[task.window.index]
        return replace(good, language=probabilities[0][0], language_probabilities=probabilities)

    return reply


def test_a_sure_first_window_settles_the_language() -> None:
    """One detection; all later windows are told the language."""
    desk = WindowDesk(votes((("de", 0.8), ("en", 0.1))))
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, DETECT, ctx())
    assert [task.params.language for task in desk.tasks] == [None] + ["de"] * (len(desk.tasks) - 1)
    assert transcript.languages == (("de", 0.8), ("en", 0.1))
    assert (transcript.language, transcript.language_probability) == ("de", 0.8)


UNSURE = ((("de", 0.4), ("en", 0.3)), (("en", 0.45), ("de", 0.2)), (("en", 0.4), ("de", 0.1)))


def test_unsure_windows_vote_and_the_outvoted_is_decoded_again() -> None:
    """Three windows, the mean decides, and the German one is told to be English."""
    seen: list[Progress] = []
    desk = WindowDesk(votes(*UNSURE))
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, DETECT, ctx(), seen.append)
    order = [(task.window.index, task.params.language) for task in desk.tasks]
    assert order[:4] == [(0, None), (1, None), (2, None), (0, "en")]
    assert {language for _, language in order[4:]} == {"en"}
    assert Counter(index for index, _ in order)[0] == 2
    assert transcript.text == expected_text(desk)
    assert transcript.language == "en"
    assert transcript.language_probability == pytest.approx((0.3 + 0.45 + 0.4) / 3)
    assert (transcript.stats.windows, transcript.stats.fallbacks) == (len({index for index, _ in order}), 1)
    done = [progress.done_s for progress in seen]
    assert done == sorted(done)


def test_a_window_that_is_decoded_again_votes_as_it_was_heard_first() -> None:
    """Its second decoding is told the language; taking that for a sure vote would settle on a guess."""
    hear = votes(*UNSURE)

    def reply(task: WindowTask) -> WindowResult:
        heard = hear(task)
        told = task.params.language
        if told is not None:
            return replace(heard, language_probabilities=((told, 1.0),))
        return replace(heard, avg_logprob=-0.35, text=" As long as these ten seconds.")

    desk = WindowDesk(reply)
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, DETECT, ctx())
    order = [(task.window.index, task.params.language) for task in desk.tasks]
    assert order[:5] == [(0, None), (0, "de"), (1, None), (2, None), (0, "en")]
    assert transcript.language == "en"
    assert transcript.language_probability == pytest.approx((0.3 + 0.45 + 0.4) / 3)


def test_unsure_windows_vote_even_when_the_source_ends_early() -> None:
    """Two windows are all there is: their mean decides."""
    desk = WindowDesk(votes((("de", 0.4), ("en", 0.1)), (("en", 0.45), ("de", 0.3))))
    transcript = transcriber(ArraySource(blocks(6.0)), desk).transcribe(SOURCE, DETECT, ctx())
    assert [(task.window.index, task.params.language) for task in desk.tasks] == [(0, None), (1, None), (1, "de")]
    assert transcript.language == "de"
    assert transcript.text == "w0. w1."


def test_a_full_queue_does_not_refuse_the_second_decoding() -> None:
    """The request has begun, so decoding its first window again waits like everything else."""
    desk = WindowDesk(votes(*UNSURE), refusals={4: Overloaded()})
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, DETECT, ctx())
    assert transcript.text == expected_text(desk)


def test_options_that_the_model_cannot_honour_are_refused_before_any_work() -> None:
    """Unknown languages, and translation by an English model; the source is not even opened."""
    source = ArraySource(blocks(5.0))
    with pytest.raises(UnsupportedLanguage):
        transcriber(source, WindowDesk()).transcribe(SOURCE, Options(language="xx"), ctx())
    english = WindowDesk(info=replace(INFO, languages=("en",), multilingual=False))
    with pytest.raises(UnsupportedOption):
        transcriber(source, english).transcribe(SOURCE, Options(task=Task.TRANSLATE), ctx())
    assert source.given == 0


@pytest.mark.parametrize(("known", "heard"), [(("ru",), "ru"), (("de", "en"), None), ((), None)])
def test_a_model_that_does_not_tell_languages_is_not_asked(known: tuple[str, ...], heard: str | None) -> None:
    """Its windows travel together at once; the language is the only one it knows, or unknown; nothing is guessed."""
    can = Abilities(LanguageUse.HEARS, temperatures=False)
    desk = WindowDesk(
        lambda task: replace(answer(task), language="", language_probabilities=(), avg_logprob=-1.5, full_context=True),
        hold=True,
        info=replace(INFO, languages=known, multilingual=len(known) != 1, can=can),
    )
    service = transcriber(ArraySource(blocks(WHOLE)), desk, detector=HearsAll())
    with Releasing(desk):
        transcript = service.transcribe(SOURCE, DETECT, ctx())
    assert (transcript.language, transcript.languages) == (heard, ((heard, 1.0),) if heard else ())
    assert {task.params.language for task in desk.tasks} == {heard}
    assert len(desk.tasks) == transcript.stats.windows
    assert desk.most_open > 1
    asked = len(desk.tasks)
    if heard:
        assert service.rank_languages([], ctx()) == ((heard, 1.0),)
    else:
        assert service.rank_languages([], ctx()) == ()
    with pytest.raises(UnsupportedOption):
        service.detect_language(SOURCE, ctx())
    assert len(desk.tasks) == asked


# ---------------------------------------------------------------------------------------------- language detection


def test_detecting_asks_one_sure_window_and_stops() -> None:
    """The rest of the source is never decoded, the decoder is let go, and no window waits."""
    source, desk = ArraySource(blocks(300)), WindowDesk(votes((("de", 0.8), ("en", 0.1))))
    service = transcriber(source, desk, detector=HearsAll())
    found = service.detect_language(SOURCE, ctx())
    assert found.languages == (("de", 0.8), ("en", 0.1))
    assert (found.text, found.language, found.language_probability) == ("", "de", 0.8)
    assert 0 < found.accounting.speech_s <= found.accounting.audio_s < 60
    assert len(desk.tasks) == 1
    assert source.given <= 3
    assert source.closed
    (params,) = (task.params for task in desk.tasks)
    assert (params.beam_size, params.align, params.temperature) == (1, False, 0.0)
    assert params.language_only


def test_detecting_takes_the_mean_of_three_unsure_windows_and_decodes_none_again() -> None:
    """Nobody reads the text, so it may be in the wrong language."""
    source, desk = ArraySource(blocks(300)), WindowDesk(votes(*UNSURE))
    languages = transcriber(source, desk, detector=HearsAll()).detect_language(SOURCE, ctx()).languages
    assert [name for name, _ in languages] == ["en", "de"]
    assert languages[0][1] == pytest.approx((0.3 + 0.45 + 0.4) / 3)
    assert len(desk.tasks) == 3
    assert source.given < 10


def test_detecting_in_noise_names_no_language() -> None:
    """Nobody speaks, so no window is asked."""
    desk = WindowDesk()
    found = transcriber(ArraySource(blocks(WHOLE)), desk).detect_language(SOURCE, ctx())
    assert (found.language, found.languages, found.accounting.speech_s) == (None, (), 0.0)
    assert found.accounting.audio_s == pytest.approx(WHOLE)
    assert desk.tasks == []


def test_detecting_ends_when_cancelled() -> None:
    """Its window vanishes from the queue, and the decoder is let go."""
    source, desk, context = ArraySource(blocks(WHOLE)), WindowDesk(hold=True), ctx()
    service = transcriber(source, desk, detector=HearsAll())
    thread, raised = run_apart(lambda: service.detect_language(SOURCE, context))
    wait_until(lambda: desk.open > 0)
    context.cancel.set()
    thread.join(30.0)
    assert [type(error) for error in raised] == [Cancelled]
    assert desk.open == 0
    assert source.closed


@pytest.mark.parametrize("vad", [None, Options().vad])
def test_a_part_of_the_source_keeps_its_times(vad: VadOptions | None) -> None:
    """What lies before and behind is not heard; the source is closed where the part ends."""
    source, desk = ArraySource(blocks(300)), WindowDesk()
    options = Options(start_s=12.5, length_s=40.0, vad=vad, language="en")
    found = transcriber(source, desk, detector=HearsAll()).transcribe(SOURCE, options, ctx())
    assert found.segments[0].start_s == pytest.approx(12.5)
    assert sum(task.window.duration_s for task in desk.tasks) == pytest.approx(40.0)
    assert found.segments[-1].end_s <= 52.5
    assert found.accounting.audio_s == pytest.approx(52.5)
    assert found.accounting.speech_s == pytest.approx(40.0)
    assert source.closed
    assert source.given < 15


def test_a_part_behind_the_end_is_empty() -> None:
    """Nothing is heard, and no window is asked."""
    desk = WindowDesk()
    found = transcriber(ArraySource(blocks(10)), desk, detector=HearsAll()).transcribe(
        SOURCE, Options(start_s=60.0, language="en"), ctx()
    )
    assert (found.text, found.accounting.speech_s, desk.tasks) == ("", 0.0, [])
    assert found.accounting.audio_s == pytest.approx(10.0)


def test_a_finished_window_keeps_its_place_but_not_its_audio() -> None:
    """What is left of a decoded window does not grow with the file."""
    window = Window(0, np.ones(16_000, dtype=np.int16), (Piece(0, 32_000, 16_000),))
    lean = window.without_samples()
    assert len(lean.samples) == 0
    assert (lean.index, lean.pieces) == (window.index, window.pieces)


def test_with_many_languages_every_window_has_its_own() -> None:
    """None waits for a vote, each is asked for its language, and segments tell which it was."""

    def reply(task: WindowTask) -> WindowResult:
        code = ("de", "en", "fr")[task.window.index % 3]
        return replace(answer(task), language=code, language_probabilities=((code, 0.9),))

    desk = WindowDesk(reply)
    options = replace(DETECT, multilingual=True)
    transcript = transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, options, ctx())
    assert {task.params.language for task in desk.tasks} == {None}
    assert [segment.language for segment in transcript.segments] == ["de", "en", "fr"] * 3
    assert dict(transcript.languages) == pytest.approx({"de": 0.3, "en": 0.3, "fr": 0.3})


def test_segments_are_told_while_the_rest_is_under_way_and_are_those_of_the_result() -> None:
    """Replies come in any order, segments are told in theirs, once each, before the source has been read to its end."""
    told: list[Segment] = []
    heard: list[int] = []
    source = ArraySource(blocks(600.0))

    def tell(news: Sequence[Segment]) -> None:
        told.extend(news)
        heard.append(source.given)

    desk = WindowDesk(hold=True)
    with Releasing(desk):
        transcript = transcriber(source, desk).transcribe(SOURCE, KEEP_ALL, replace(ctx(), on_segments=tell))
    assert tuple(told) == transcript.segments
    assert heard[0] < source.given


def test_who_hears_of_segments_does_not_wait_for_a_batch() -> None:
    """The first window goes alone, although the language is known; without a listener four go together."""

    def handed_over(context: RequestContext) -> int:
        desk = WindowDesk(hold=True)
        decoding = Decoding(desk, KEEP_ALL, context)
        decoding.take(Window(0, np.zeros(SAMPLE_RATE_HZ, np.int16), (Piece(0, 0, SAMPLE_RATE_HZ),)))
        return len(desk.tasks)

    assert handed_over(ctx()) == 0
    assert handed_over(replace(ctx(), on_segments=lambda _news: None)) == 1


def test_a_window_that_is_decoded_again_is_not_told_before() -> None:
    """Nothing is told while the vote on the language may still change it."""
    told: list[str] = []
    hear = votes(*UNSURE)

    def spoken(task: WindowTask) -> WindowResult:
        heard = hear(task)
        return replace(heard, text=f" {heard.language}{task.window.index}.", words=())

    context = replace(ctx(), on_segments=lambda news: told.extend(one.text for one in news))
    transcript = transcriber(ArraySource(blocks(WHOLE)), WindowDesk(spoken)).transcribe(SOURCE, DETECT, context)
    assert told == [segment.text for segment in transcript.segments]
    assert told[0] == " en0."


def test_who_hears_of_segments_may_end_the_work() -> None:
    """What is raised there is raised by the call, and nothing waits on."""
    desk = WindowDesk()

    def refuse(_news: Sequence[Segment]) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        transcriber(ArraySource(blocks(WHOLE)), desk).transcribe(SOURCE, KEEP_ALL, replace(ctx(), on_segments=refuse))
    assert desk.open == 0


def test_one_language_for_all_is_not_told_by_segments() -> None:
    """The transcript says it once."""
    transcript = transcriber(ArraySource(blocks(WHOLE)), WindowDesk()).transcribe(SOURCE, DETECT, ctx())
    assert {segment.language for segment in transcript.segments} == {None}


def test_languages_and_tokens_left_out_go_along_with_every_window() -> None:
    """As they were asked for, also where a window is decoded again."""
    unsure = WindowDesk(lambda task: replace(answer(task), avg_logprob=-2.0))
    options = replace(DETECT, languages=("de", "en"), suppression=Suppression((7,), numerals=True))
    transcriber(ArraySource(blocks(WHOLE)), unsure).transcribe(SOURCE, options, ctx())
    assert len(unsure.tasks) > 3
    assert {task.params.languages for task in unsure.tasks} == {("de", "en")}
    assert {task.params.suppression for task in unsure.tasks} == {Suppression((7,), numerals=True)}
