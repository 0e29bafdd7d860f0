"""The cost model learns what batches take."""

import pytest

from tympan.batching.cost import CostModel, paid_s
from tympan.domain import DecodeParams


def test_padding_counts_as_audio() -> None:
    """Three windows cost three times the longest; the full context costs 30 s each."""
    assert paid_s(DecodeParams(), [1.0, 2.0, 4.0]) == 7.0
    assert paid_s(DecodeParams(full_context=True), [1.0, 2.0]) == 60.0


def test_it_finds_constant_and_slope_of_a_machine() -> None:
    """After a varied hundred batches the prediction is within a tenth, for other sizes too."""
    cost = CostModel()
    for round_ in range(100):
        length_s, count = 1.0 + (round_ * 7) % 29, 1 + round_ % 8
        cost.observe(DecodeParams(), [length_s] * count, 50.0 + 8.0 * length_s * count)
    assert cost.predict_ms(DecodeParams(), [10.0] * 4) == pytest.approx(370.0, rel=0.1)
    assert cost.predict_ms(DecodeParams(), [30.0] * 8) == pytest.approx(1970.0, rel=0.1)


def test_the_first_batch_sets_the_scale() -> None:
    """One observation on a machine ten times slower is enough to be right at that size."""
    cost = CostModel()
    cost.observe(DecodeParams(), [10.0], 3200.0)
    assert cost.predict_ms(DecodeParams(), [10.0]) == pytest.approx(3200.0)
    assert cost.ms_per_audio_s == pytest.approx(320.0)


def test_ways_of_decoding_are_told_apart() -> None:
    """Greedy batches do not make beam batches look cheap."""
    cost = CostModel()
    for _ in range(30):
        cost.observe(DecodeParams(beam_size=5), [10.0], 1000.0)
        cost.observe(DecodeParams(beam_size=1), [10.0], 100.0)
    assert cost.predict_ms(DecodeParams(beam_size=5), [10.0]) == pytest.approx(1000.0, rel=0.05)
    assert cost.predict_ms(DecodeParams(beam_size=1), [10.0]) == pytest.approx(100.0, rel=0.05)


def test_it_forgets_ways_of_decoding_nobody_uses() -> None:
    """A thousand beam sizes do not grow the model."""
    cost = CostModel()
    for beam_size in range(1, 1000):
        cost.observe(DecodeParams(beam_size=beam_size), [1.0], 10.0)
    assert len(cost._lines) <= 32


def test_it_recovers_from_contradictory_observations() -> None:
    """Noise never turns a prediction negative, and a few dozen sane batches bring it back."""
    cost = CostModel()
    for round_ in range(500):
        cost.observe(DecodeParams(), [0.1 + round_ % 30] * (1 + round_ % 16), 5.0 if round_ % 2 else 5000.0)
        assert cost.predict_ms(DecodeParams(), [30.0] * 16) >= 0.0
    for round_ in range(60):
        length_s, count = 1.0 + (round_ * 7) % 29, 1 + round_ % 8
        cost.observe(DecodeParams(), [length_s] * count, 50.0 + 8.0 * length_s * count)
    assert cost.predict_ms(DecodeParams(), [10.0] * 4) == pytest.approx(370.0, rel=0.25)


def test_one_hiccup_does_not_change_the_picture() -> None:
    """A batch that took a hundred times longer, once, moves the prediction by less than a factor of two."""
    cost = CostModel()
    for _ in range(20):
        cost.observe(DecodeParams(), [10.0], 100.0)
    cost.observe(DecodeParams(), [10.0], 10_000.0)
    assert cost.predict_ms(DecodeParams(), [10.0]) < 200.0
