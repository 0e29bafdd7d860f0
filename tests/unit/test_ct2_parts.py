"""What the CTranslate2 engine works out for itself, without a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.domain import DecodeParams, Window, WindowTask
from tympan.engine.base import EngineSpec
from tympan.engine.ct2 import _best, _deal, _replicas, _search, create
from tympan.errors import EngineError

# --------------------------------------------------------------------------------------------------------- dealing


def tasks(lengths: Sequence[int]) -> list[WindowTask]:
    """Return windows of these lengths in samples."""
    return [WindowTask(Window(i, np.zeros(n, np.int16), ()), DecodeParams()) for i, n in enumerate(lengths)]


@given(lengths=st.lists(st.integers(0, 400), max_size=40), hands=st.integers(1, 8))
def test_every_window_is_dealt_once_to_groups_of_like_work(lengths: list[int], hands: int) -> None:
    """No window is lost or doubled, no group is larger than its share, and each has its part of the long ones."""
    groups = _deal(tasks(lengths), hands)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert len(groups) <= hands
    assert all(0 < len(group) <= -(-len(lengths) // min(hands, len(lengths))) for group in groups)
    firsts = [lengths[group[0]] for group in groups]
    assert firsts == sorted(lengths, reverse=True)[: len(groups)]


def test_the_long_windows_are_spread() -> None:
    """Two long and two short windows for two hands: one of each for both, so that neither core waits long."""
    assert _deal(tasks([400, 10, 300, 20]), 2) == [[0, 3], [2, 1]]


def test_as_many_hands_as_windows_take_one_each() -> None:
    """Hands without a window are left out."""
    assert _deal(tasks([5, 6]), 4) == [[1], [0]]
    assert _deal([], 4) == []


def test_dealing_does_not_depend_on_the_order_of_arrival() -> None:
    """The same windows make the same groups, whichever came first; that keeps batches alike."""
    lengths = [331, 155, 402, 50, 74, 808, 97, 941, 592, 766, 12, 640]
    turned = lengths[::-1]

    def groups_of(some: list[int]) -> list[list[int]]:
        return [[some[i] for i in group] for group in _deal(tasks(some), 3)]

    assert groups_of(lengths) == groups_of(turned)


# --------------------------------------------------------------------------------------------------------- replicas


@pytest.mark.parametrize(
    ("device", "threads", "replicas"), [("cpu", 0, 1), ("cpu", 1, 1), ("cpu", 3, 3), ("cpu", 64, 4), ("cuda", 64, 1)]
)
def test_a_cpu_gets_a_replica_per_thread_up_to_four(device: str, threads: int, replicas: int) -> None:
    """A GPU runs one batch at a time."""
    assert _replicas(EngineSpec("ct2", "any", device=device, threads=threads)) == replicas


# ----------------------------------------------------------------------------------------------------------- search


def test_temperature_zero_searches_with_beams() -> None:
    """The beam size is the caller's, and nothing is sampled."""
    assert _search(DecodeParams(beam_size=3, best_of=7), deterministic=False) == {"beam_size": 3}


def test_a_temperature_draws_best_of_samples_from_the_whole_distribution() -> None:
    """Above 0 the beam is off, ``best_of`` texts are drawn, and no word is excluded beforehand."""
    assert _search(DecodeParams(beam_size=3, best_of=7, temperature=0.6), deterministic=False) == {
        "beam_size": 1,
        "num_hypotheses": 7,
        "sampling_topk": 0,
        "sampling_temperature": 0.6,
    }


def test_a_deterministic_search_draws_nothing_at_any_temperature() -> None:
    """Beams at 0 as ever; above it as many beams as samples, and less and less repetition."""
    params = DecodeParams(beam_size=3, best_of=7)
    assert _search(params, deterministic=True) == {"beam_size": 3}
    penalties = [_search(replace(params, temperature=t), deterministic=True) for t in (0.2, 0.6, 1.0)]
    assert penalties == [{"beam_size": 7, "repetition_penalty": pytest.approx(1 + t / 2)} for t in (0.2, 0.6, 1.0)]


@dataclass(frozen=True)
class Generated:
    """What the runtime answers for one window."""

    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float = 0.25


def test_the_likeliest_text_is_taken_wherever_it_stands() -> None:
    """Samples come in any order; the highest score wins."""
    best = _best(Generated([[1, 2], [3, 4, 5], [6]], [-0.9, -0.4, -2.0]), 20)
    assert best.tokens == [3, 4, 5]
    assert best.no_speech_prob == 0.25
    assert not best.hit_cap


def test_the_mean_log_probability_counts_the_end_token() -> None:
    """A sum of -1.2 over three tokens and the end is -0.3 each, as in Whisper."""
    assert _best(Generated([[3, 4, 5]], [-0.4]), 20).avg_logprob == pytest.approx(-0.3)


def test_no_text_has_a_mean_of_zero() -> None:
    """Nothing said: no division by zero."""
    best = _best(Generated([[]], [-0.4]), 20)
    assert (best.tokens, best.avg_logprob, best.hit_cap) == ([], 0.0, False)


@given(length=st.integers(0, 40), cap=st.integers(1, 30))
def test_a_text_is_cut_at_its_own_cap_and_says_so(length: int, cap: int) -> None:
    """A window in a batch with longer ones keeps to what it would have been allowed alone."""
    best = _best(Generated([list(range(length))], [-0.5]), cap)
    assert best.tokens == list(range(min(length, cap)))
    assert best.hit_cap == (length >= cap)


# ----------------------------------------------------------------------------------------------------------- errors


def test_a_folder_without_a_model_is_an_engine_error() -> None:
    """What the runtime says about a model that it cannot load comes out typed, with the cause attached."""
    with pytest.raises(EngineError, match="/nonexistent") as caught:
        create(EngineSpec("ct2", "none", path="/nonexistent"))
    assert isinstance(caught.value.__cause__, RuntimeError)
