"""Two channels: mixed to one that never cancels, measured in steps, and the names that follow from it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline_support import SOURCE, ArraySource, HearsAll, WindowDesk, answer, transcriber
from tympan.audio.stereo import LEVEL_SAMPLES, LevelMeter, Stereo, StereoMixer
from tympan.audio.windows import SampleBuffer, WindowPacker
from tympan.domain import (
    SAMPLE_RATE_HZ,
    Levels,
    Options,
    Piece,
    Samples,
    Span,
    Timestamps,
    Window,
    WindowResult,
    WindowTask,
    Word,
)
from tympan.pipeline import RequestContext
from tympan.pipeline.speakers import told_apart
from tympan.pipeline.speech import Speech

CONTEXT = RequestContext("test")


def tone(seconds: float, gain: float = 1.0, pitch_hz: float = 300.0) -> Samples:
    """Return a tone at a share of half of full scale."""
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (16_384 * gain * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.int16)


def pair(left: Samples, right: Samples) -> Stereo:
    """Return two channels side by side."""
    return np.column_stack([left, right])


def mixed(*blocks: Stereo) -> Samples:
    """Return what a mixer makes of blocks."""
    mixer = StereoMixer()
    return np.concatenate([*(mixer.push(block) for block in blocks), mixer.finish()])


def loudness(samples: Samples) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(samples.astype(float)))))


def test_two_channels_become_their_mean() -> None:
    """Sounds of both channels are heard, each at half its size."""
    left, right = tone(1.05), tone(1.05, 0.5, 700.0)
    np.testing.assert_allclose(mixed(pair(left, right)), (left.astype(float) + right) / 2, atol=0.51)


def test_one_channel_beside_silence_stays_at_half() -> None:
    """It is the usual mean: nothing is louder than it was before there was a second thought."""
    np.testing.assert_allclose(mixed(pair(tone(1.0), tone(1.0, 0.0))), tone(1.0) / 2, atol=0.51)


@pytest.mark.parametrize("gain", [1.0, 0.8, 1.25])
def test_channels_of_opposite_phase_do_not_cancel(gain: float) -> None:
    """Where the mean would be next to silence, one channel is heard alone, from the first sample on."""
    left = tone(1.0, 0.6)
    found = mixed(pair(left, (-gain * left).astype(np.int16)))
    assert loudness(found[1600:]) > 0.95 * loudness(left)
    assert loudness(found[:1600]) > 0.3 * loudness(left)


def test_a_recording_that_turns_round_is_heard_throughout() -> None:
    """In phase, then against it, then in phase: half a second after each turn it is as loud as one channel."""
    left = tone(6.0)
    right = left * np.repeat(np.array([1, -1, 1], np.int16), 2 * SAMPLE_RATE_HZ)
    found = mixed(pair(left, right))
    for start_s in (0.5, 2.5, 4.5):
        at = round(start_s * SAMPLE_RATE_HZ)
        assert loudness(found[at : at + SAMPLE_RATE_HZ]) == pytest.approx(loudness(left), rel=0.02)


def test_a_way_between_mixtures_does_not_click() -> None:
    """No step between two samples is larger than the tone's own ones."""
    left = tone(4.0)
    right = left * np.repeat(np.array([1, -1], np.int16), 2 * SAMPLE_RATE_HZ)
    turn = 2 * SAMPLE_RATE_HZ
    steps = np.abs(np.diff(mixed(pair(left, right)).astype(int)))
    assert steps[: turn - 1].max() <= np.abs(np.diff(left.astype(int))).max() + 1
    assert steps[turn + 1 :].max() <= np.abs(np.diff(left.astype(int))).max() + 200


def test_of_two_that_cancel_the_louder_takes_over_when_it_is_much_louder() -> None:
    """What was chosen stays, so that the sound does not jump to and fro, until the other is twice its size."""
    left_first = pair(tone(1.0, 0.5), -tone(1.0, 0.4))
    stays = mixed(left_first, pair(tone(1.0, 0.4), -tone(1.0, 0.5)))
    assert loudness(stays[-8000:]) == pytest.approx(loudness(tone(1.0, 0.4)), rel=0.02)
    moves = mixed(left_first, pair(tone(1.0, 0.2), -tone(1.0, 0.45)))
    assert loudness(moves[-8000:]) == pytest.approx(loudness(tone(1.0, 0.45)), rel=0.02)


@given(st.lists(st.integers(0, 5000), max_size=12), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_mixture_does_not_depend_on_how_it_is_cut(sizes: list[int], seed: int) -> None:
    """The decoder's blocks have other lengths for one channel than for two, and the text must not show it."""
    rng = np.random.default_rng(seed)
    left = rng.integers(-20_000, 20_000, 24_000).astype(np.int16)
    whole = pair(left, (left * rng.choice([-1, 1], 15).repeat(1600)).astype(np.int16))
    cuts = np.cumsum([0, *sizes]).clip(max=len(whole))
    blocks = [whole[a:b] for a, b in zip(cuts, [*cuts[1:], len(whole)], strict=True)]
    np.testing.assert_array_equal(mixed(*blocks), mixed(whole))


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_levels_are_those_of_the_steps_however_they_came(sizes: list[int]) -> None:
    """Each step has the mean size of its samples; the last is filled up with silence."""
    rng = np.random.default_rng(1)
    whole = rng.integers(-30_000, 30_000, (sum(sizes), 2)).astype(np.int16)
    meter = LevelMeter()
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        meter.push(whole[end - size : end])
    meter.finish()
    found = meter.cut(Span(0, len(whole)))
    assert len(found) == -(-len(whole) // LEVEL_SAMPLES)
    for step, levels in enumerate(found):
        part = whole[step * LEVEL_SAMPLES : (step + 1) * LEVEL_SAMPLES].astype(float)
        np.testing.assert_allclose(levels, np.abs(part).sum(axis=0) / LEVEL_SAMPLES, rtol=1e-3)


def test_what_is_forgotten_takes_no_memory_and_moves_nothing() -> None:
    """Positions are the source's; an hour of audio leaves no more behind than its last seconds."""
    meter = LevelMeter()
    block = pair(tone(4.992), tone(4.992, 0.5))
    for n in range(720):
        meter.push(block)
        meter.forget(n * len(block))
        assert meter.kept_steps <= 2 * len(block) // LEVEL_SAMPLES
    levels = meter.cut(Span(719 * len(block), 719 * len(block) + 5 * LEVEL_SAMPLES))
    assert levels.shape == (5, 2)
    np.testing.assert_allclose(levels[:, 0], 2 * levels[:, 1], rtol=0.01)


def heard(*words: Word, text: str | None = None) -> WindowResult:
    """Return what an engine said."""
    whole = "".join(word.text for word in words) if text is None else text
    return WindowResult(whole, (1,), "en", (), -0.1, 0.0, 1.0, 0.0, full_context=False, words=words)


def window(levels: Levels | None) -> Window:
    """Return a second of audio with these levels."""
    return Window(0, np.zeros(SAMPLE_RATE_HZ, np.int16), (Piece(0, 0, SAMPLE_RATE_HZ),), 1.0, levels)


def levels_of(*steps: tuple[float, float]) -> Levels:
    """Return the levels of a second: these, one after the other, for equal times."""
    return np.repeat(np.array(steps, np.float16), -(-63 // len(steps)), axis=0)[:63]


def test_a_word_belongs_to_the_channel_that_is_louder_meanwhile() -> None:
    """A tenth more is enough, as in whisper.cpp."""
    halves = levels_of((112.0, 100.0), (100.0, 112.0))
    said = heard(Word(" one", 0.0, 0.4, 0.9), Word(" two", 0.6, 1.0, 0.9))
    assert told_apart(window(halves), said).speakers == ("A", "B")


def test_a_word_of_both_goes_to_whoever_spoke_before() -> None:
    """Where neither channel is a tenth louder, the one before goes on, at the beginning the one after."""
    thirds = levels_of((105.0, 100.0), (10.0, 90.0), (100.0, 95.0))
    said = heard(*(Word(f" {n}", n / 3, (n + 0.9) / 3, 0.9) for n in range(3)))
    assert told_apart(window(thirds), said).speakers == ("B", "B", "B")


def test_nobody_is_named_where_both_channels_are_alike() -> None:
    """The same sound on both sides tells nothing, nor does silence."""
    said = heard(Word(" one", 0.0, 0.4, 0.9), Word(" two", 0.6, 1.0, 0.9))
    assert told_apart(window(levels_of((50.0, 50.0))), said).speakers == (None, None)
    assert told_apart(window(levels_of((0.0, 0.0))), said).speakers == (None, None)


def test_a_word_without_length_or_beyond_the_end_has_a_speaker_too() -> None:
    """Alignment gives such words."""
    said = heard(Word(" one", 0.5, 0.5, 0.9), Word(" two", 1.2, 1.3, 0.9))
    assert told_apart(window(levels_of((5.0, 50.0))), said).speakers == ("B", "B")


def test_a_text_without_word_times_has_the_speaker_of_its_window() -> None:
    """For engines that give no times; without text there is nobody."""
    assert told_apart(window(levels_of((5.0, 50.0))), heard(text=" Hello.")).speakers == ("B",)
    assert told_apart(window(levels_of((5.0, 50.0))), heard(text=" ")).speakers == ()


def test_without_levels_a_result_is_left_alone() -> None:
    """As long as nobody asked."""
    said = heard(Word(" one", 0.0, 0.4, 0.9))
    assert told_apart(window(None), said) is said


def talk(seconds: float, turn_s: float = 5.0) -> list[Stereo]:
    """Return two people who take turns of ``turn_s``, left first, in blocks that turns do not end at."""
    rng = np.random.default_rng(3)
    noise = rng.integers(-4000, 4000, round(seconds * SAMPLE_RATE_HZ))
    left_speaks = (np.arange(len(noise)) // round(turn_s * SAMPLE_RATE_HZ)) % 2 == 0
    whole = np.column_stack([noise * np.where(left_speaks, 1.0, 0.3), noise * np.where(left_speaks, 0.3, 1.0)])
    return [whole[at : at + 37_777].astype(np.int16) for at in range(0, len(whole), 37_777)]


def each_second(task: WindowTask) -> WindowResult:
    """Say a word in every second."""
    words = tuple(Word(f" w{n}", n + 0.1, n + 0.8, 0.9, (n,)) for n in range(int(task.window.duration_s)))
    return replace(answer(task), text="".join(word.text for word in words), tokens=tuple(range(20)), words=words)


def test_segments_have_one_speaker_each_across_windows() -> None:
    """Windows of 9 s over turns of 5 s: segments are cut where the turn passes, at the source's times."""
    source, desk = ArraySource(talk(40.0)), WindowDesk(each_second)
    options = Options(diarize=True, timestamps=Timestamps.WORD, temperature_fallback=False)
    found = transcriber(source, desk, 9.0, HearsAll()).transcribe(SOURCE, options, CONTEXT)
    assert source.closed
    words = [(word.start_s, segment.speaker) for segment in found.segments for word in segment.words]
    assert len(words) >= 35
    # A word that a turn falls into may be either's.
    clear = [(at_s, name) for at_s, name in words if at_s % 5.0 < 4.6]
    assert [name for _, name in clear] == ["AB"[int(at_s // 5.0) % 2] for at_s, _ in clear]


def test_removed_silence_moves_no_speaker() -> None:
    """Two spans with half a minute between them in one window: each part of it has its own levels."""
    buffer, meter = SampleBuffer(), LevelMeter()
    packer = WindowPacker(28.0, 60.0, meter)
    for block in talk(40.0, 20.0):
        buffer.push(mixed(block))
        meter.push(block)
    spans = [Span(512 * 10, 512 * 73), Span(512 * 1100, 512 * 1163)]
    (one,) = packer.add(spans, buffer) + packer.finish()
    assert one.levels is not None
    assert len(one.levels) * LEVEL_SAMPLES == len(one.samples)
    said = heard(Word(" one", 1.0, 1.9, 0.9), Word(" two", 2.1, 3.0, 0.9))
    assert told_apart(one, said).speakers == ("A", "B")


def test_the_mixture_is_the_same_whether_speakers_are_told_apart_or_not() -> None:
    """What the engine hears does not depend on ``diarize``."""
    blocks = talk(12.0)
    apart = Speech(ArraySource(blocks), HearsAll(), Options(diarize=True), 5.0)
    found = np.concatenate([one.samples for one in apart.windows(SOURCE, CONTEXT)])
    np.testing.assert_array_equal(found, mixed(*blocks)[: len(found)])
    assert apart.audio_samples == sum(len(block) for block in blocks)


def test_words_are_aligned_to_find_speakers_even_where_no_times_are_wanted() -> None:
    """Without times of words a speaker would have whole windows."""
    desk = WindowDesk(each_second)
    options = Options(diarize=True, timestamps=Timestamps.NONE, temperature_fallback=False)
    found = transcriber(ArraySource(talk(20.0)), desk, 9.0, HearsAll()).transcribe(SOURCE, options, CONTEXT)
    assert all(task.params.align for task in desk.tasks)
    assert {segment.speaker for segment in found.segments} == {"A", "B"}
    assert found.words == ()


def test_nothing_is_measured_unless_asked() -> None:
    """Off, which is the default, windows carry no levels and segments no speaker."""
    mono = [block[:, 0].copy() for block in talk(10.0)]
    desk = WindowDesk(each_second)
    found = transcriber(ArraySource(mono), desk, 9.0, HearsAll()).transcribe(SOURCE, Options(), CONTEXT)
    assert [task.window.levels for task in desk.tasks] == [None] * len(desk.tasks)
    assert {segment.speaker for segment in found.segments} == {None}
