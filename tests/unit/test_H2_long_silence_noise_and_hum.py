"""Hours in which nobody speaks: they end, cost the engine nothing, give no text, and need flat memory."""

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.pipeline_support import SOURCE, ArraySource, WindowDesk, answer, transcriber
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Transcript, WindowResult, WindowTask
from tympan.pipeline import MAX_IN_FLIGHT, RequestContext

BLOCK_S = 5
TWO_HOURS_S = 7200
MINUTES_S = 240
SPARE_BYTES = 1_000_000


def silence(n: int) -> Samples:
    """Return a block of digital silence."""
    return np.zeros(BLOCK_S * SAMPLE_RATE_HZ, np.int16)


def noise(n: int) -> Samples:
    """Return a block of white noise, another one each time."""
    drawn = np.random.default_rng(n).normal(0, 1000, BLOCK_S * SAMPLE_RATE_HZ)
    return drawn.clip(-32768, 32767).astype(np.int16)


def hum(n: int) -> Samples:
    """Return a block of a 50 Hz hum; its periods fit the block."""
    t = np.arange(BLOCK_S * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return (8000 * np.sin(2 * np.pi * 50 * t)).astype(np.int16)


Make = Callable[[int], Samples]
NOBODY_SPEAKS = [silence, noise, hum]


def listen(make: Make, seconds: int, desk: WindowDesk, options: Options | None = None) -> tuple[Transcript, int]:
    """Return the transcript of generated audio and the most memory that getting it took, in bytes."""

    def blocks() -> Iterator[Samples]:
        return (make(n) for n in range(seconds // BLOCK_S))

    service = transcriber(ArraySource(blocks()), desk, max_window_s=28.0)
    tracemalloc.start()
    try:
        transcript = service.transcribe(SOURCE, options or Options(), RequestContext("long"))
        return transcript, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check_nobody_speaks(make: Make, seconds: int) -> None:
    """Hold that so many seconds give no text, no window and no growth over a sixth of them."""
    desk = WindowDesk()
    _, memory_of_a_part = listen(make, seconds // 6, desk)
    transcript, memory = listen(make, seconds, desk)
    assert (transcript.text, transcript.segments) == ("", ())
    assert desk.tasks == []
    assert transcript.accounting.audio_s == transcript.accounting.dropped_s == seconds
    assert memory < memory_of_a_part + SPARE_BYTES


@pytest.mark.parametrize("make", NOBODY_SPEAKS)
def test_H2_minutes_without_speech_end_empty_in_flat_memory(make: Make) -> None:
    """Four minutes, for every run of the tests."""
    check_nobody_speaks(make, MINUTES_S)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("make", NOBODY_SPEAKS)
def test_H2_two_hours_without_speech_end_empty_in_flat_memory(make: Make) -> None:
    """The whole two hours."""
    check_nobody_speaks(make, TWO_HOURS_S)


def makes_things_up(task: WindowTask) -> WindowResult:
    """Say what Whisper says over silence: something short, often the same, and never quite sure."""
    words = answer(task).words
    made_up = [type(word)(" Thank you.", word.start_s, word.end_s, word.probability, word.tokens) for word in words]
    return WindowResult(
        text=" Thank you.",
        tokens=(1, 2),
        language="en",
        language_probabilities=(("en", 0.6),),
        avg_logprob=-0.6,
        no_speech_prob=0.3,
        compression_ratio=0.6,
        temperature=task.params.temperature,
        full_context=task.params.full_context,
        words=tuple(made_up),
    )


def test_H2_silence_without_vad_gives_no_made_up_text() -> None:
    """Every window is decoded because the caller asked for it, and what is said over nothing is dropped."""
    desk = WindowDesk(makes_things_up)
    transcript, _ = listen(silence, MINUTES_S, desk, Options(vad=None))
    assert (transcript.text, transcript.segments) == ("", ())
    assert len(desk.tasks) == transcript.stats.rejected == transcript.stats.windows >= MINUTES_S // 28
    assert transcript.accounting.dropped_s == 0


def test_H2_a_loop_over_noise_costs_a_bounded_number_of_attempts() -> None:
    """An engine that loops on every window is asked twice for each, the request ends, and the loops are not text."""

    def loops(task: WindowTask) -> WindowResult:
        good = answer(task)
        return WindowResult(
            " la" * 60, (7,) * 60, "en", good.language_probabilities, -0.2, 0.0, 9.0, task.params.temperature,
            task.params.full_context, hit_token_cap=True,
        )  # fmt: skip

    desk = WindowDesk(loops)
    transcript, _ = listen(noise, 60, desk, Options(vad=None, language="en"))
    assert transcript.stats.windows >= 2
    assert len(desk.tasks) == 2 * transcript.stats.windows
    assert transcript.text == ""
    assert desk.most_open <= MAX_IN_FLIGHT
