"""Comparing results: what is called worse, how rarely that is a false alarm, and what cannot be compared."""

import math
from typing import Any

import numpy as np
import pytest

from tympan.bench import compare as judge
from tympan.bench.compare import Strictness, Verdict, errors_finding, is_worse, speed_finding
from tympan.errors import InvalidRequest

STRICT = Strictness(0.99, 0.02)
SEEDS = 300


def _pairs(seed: int, slowdown: float, cells: int = 3, rounds: int = 6, noise: float = 0.04) -> list[list[float]]:
    """Return logarithms of ratios as a busy machine gives them: noise with outliers, over a slow drift."""
    rng = np.random.default_rng(seed)
    drift = np.sin(np.linspace(0.0, 3.0, rounds) + rng.uniform(0, 6)) * noise / 2
    scatter = rng.normal(0.0, noise, (cells, rounds)) + rng.standard_t(3, (cells, rounds)) * noise / 4
    return [list(row) for row in scatter + drift - math.log(slowdown)]


def _alarms(slowdown: float) -> int:
    found = [speed_finding("speed", _pairs(seed, slowdown), STRICT) for seed in range(SEEDS)]
    return sum(finding.verdict is Verdict.WORSE for finding in found)


def test_equal_speed_hardly_ever_raises_an_alarm() -> None:
    """At 99 % confidence and 2 % tolerance, at most 1 % of 300 comparisons of equals."""
    assert _alarms(1.0) <= 3


def test_a_real_loss_is_found() -> None:
    """A loss of 15 % is found in at least 95 % of 300 comparisons, at 4 % noise and 18 pairs."""
    assert _alarms(1.15) >= 0.95 * SEEDS


def test_a_loss_within_the_tolerance_is_no_alarm() -> None:
    """However many pairs prove it: 1 % is below what is asked about."""
    many = [list(np.full(200, -0.01) + np.random.default_rng(1).normal(0, 0.001, 200))]
    assert speed_finding("speed", many, STRICT).verdict is Verdict.SAME
    assert speed_finding("speed", many, Strictness(0.99, 0.0)).verdict is Verdict.WORSE


def test_a_gain_is_told_and_few_pairs_are_not_judged() -> None:
    """Better is better; four pairs are too little to say anything."""
    assert speed_finding("speed", _pairs(1, 0.7), STRICT).verdict is Verdict.BETTER
    assert speed_finding("speed", [[-5.0] * 4], STRICT).verdict is Verdict.UNKNOWN
    assert speed_finding("speed", [], STRICT).verdict is Verdict.UNKNOWN


def test_word_errors_are_worse_when_many_recordings_say_so() -> None:
    """One recording that went wrong is chance; most of them are not."""
    equal = [((20, 1), (20, 1))] * 30
    assert errors_finding("errors", equal, STRICT).verdict is Verdict.SAME
    assert errors_finding("errors", [*equal[:-1], ((20, 1), (20, 9))], STRICT).verdict is Verdict.SAME
    assert errors_finding("errors", [((20, 1), (20, 3))] * 30, STRICT).verdict is Verdict.WORSE
    assert errors_finding("errors", [((20, 3), (20, 1))] * 30, STRICT).verdict is Verdict.BETTER
    assert errors_finding("errors", [((20, 1), (20, 9))] * 2, STRICT).verdict is Verdict.UNKNOWN
    assert errors_finding("errors", [((0, 0), (0, 0))] * 9, STRICT).verdict is Verdict.UNKNOWN


def _engine(slowdown: float = 1.0, extra_errors: int = 0, seed: int = 0, **changes: Any) -> dict[str, Any]:
    rng, rows = np.random.default_rng(seed), []
    for threads in (1, 2):
        runs = [{"total_ms": 100.0 * slowdown * math.exp(rng.normal(0, 0.02)), "processed_s": 5.0} for _ in range(6)]
        rows.append(
            {"asked": {"engine": "auto", "compute_type": "int8"}, "model": "base", "threads": threads, "replicas": 1,
             "batch": 4, "audio_file": "x", "audio_duration_s": 5.0, "runs": runs,
             "errors_by_recording": [[20, 1 + extra_errors]] * 30}
        )  # fmt: skip
    return {"kind": "tympan.bench.engine", "options": {"beam_size": 5, "rounds": 6}, "rows": rows, **changes}


def test_engine_results_are_compared_cell_by_cell() -> None:
    """The whole first, then word errors, then every cell."""
    findings = judge.compare(_engine(seed=1), _engine(1.2, seed=2), STRICT)
    assert [finding.verdict for finding in findings] == [Verdict.WORSE, Verdict.SAME, Verdict.WORSE, Verdict.WORSE]
    assert findings[0].about == "speed, 2 cells"
    assert "base int8 (auto), 2 threads x 1, batch 4, x" in judge.page(findings)
    assert is_worse(findings) is True
    assert is_worse(judge.compare(_engine(seed=1), _engine(seed=2), STRICT)) is False
    assert is_worse(judge.compare(_engine(seed=1), _engine(extra_errors=2, seed=2), STRICT)) is True


def test_cells_of_one_side_alone_are_counted() -> None:
    """They are not compared, and that is said."""
    fewer = _engine()
    fewer["rows"] = fewer["rows"][:1]
    assert judge.compare(_engine(), fewer, STRICT)[0].about == "speed, 1 cells (1 in one of them only)"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"kind": "tympan.bench.load"}, "One is an engine"),
        ({"options": {"beam_size": 1}}, "other options"),
        ({"rows": []}, "no cell in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(other: dict[str, Any], words: str) -> None:
    """Two kinds, two settings, nothing in common."""
    with pytest.raises(InvalidRequest, match=words):
        judge.compare(_engine(), _engine(**other), STRICT)


def _load(slowdown: float = 1.0, failed: int = 0, seed: int = 0, **asked: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    requests = [
        {"number": n, "item": 0, "latency_s": float(slowdown * rng.gamma(4.0, 0.1)),
         "error": "timeout" if n < failed else None}
        for n in range(400)
    ]  # fmt: skip
    return {
        "kind": "tympan.bench.load",
        "asked": {"loop": "open", "rate_per_s": 1.0, "users": None, "seed": 1, "max_in_flight": 9, **asked},
        "items": [{"duration_s": 5.0}],
        "requests": requests,
        "figures": {"requests": 400, "answered": 400 - failed, "throughput_audio_s_per_s": 9.0},
    }


def test_loads_are_compared_request_by_request() -> None:
    """Latency of the same requests, and shares of errors; throughput is shown beside them."""
    verdicts = [finding.verdict for finding in judge.compare(_load(seed=1), _load(1.4, seed=2), STRICT)]
    assert verdicts == [Verdict.WORSE, Verdict.SAME, Verdict.UNKNOWN]
    verdicts = [finding.verdict for finding in judge.compare(_load(seed=1), _load(failed=60, seed=2), STRICT)]
    assert verdicts == [Verdict.SAME, Verdict.WORSE, Verdict.UNKNOWN]
    assert is_worse(judge.compare(_load(seed=1), _load(seed=2), STRICT)) is False


def test_another_load_is_not_compared() -> None:
    """Another rate is another question."""
    with pytest.raises(InvalidRequest, match="not the same load"):
        judge.compare(_load(), _load(rate_per_s=2.0), STRICT)
