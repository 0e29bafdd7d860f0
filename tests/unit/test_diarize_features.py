"""Filter banks, against the definition written down once more without NumPy's shortcuts."""

import itertools
import math

import numpy as np
import pytest

from tympan.diarize.features import N_BANDS, filter_banks

_RATE = 16_000


def _noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-8_000, 8_000, n).astype(np.int16)


def _one_frame(samples: list[float]) -> list[float]:
    """Return the 80 numbers of one frame as Kaldi defines them."""
    mean = sum(samples) / len(samples)
    plain = [value - mean for value in samples]
    sharp = [plain[0] - 0.97 * plain[0]] + [after - 0.97 * before for before, after in itertools.pairwise(plain)]
    n = len(sharp)
    shaped = [v * (0.5 - 0.5 * math.cos(2 * math.pi * i / (n - 1))) ** 0.85 for i, v in enumerate(sharp)]
    power = np.abs(np.fft.fft(shaped, 512)) ** 2

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    step = (mel(8_000) - mel(20)) / (N_BANDS + 1)
    found = []
    for band in range(N_BANDS):
        left, middle, right = (mel(20) + step * (band + k) for k in range(3))
        total = 0.0
        for place in range(256):
            at = mel(place * _RATE / 512)
            if left < at <= middle:
                total += power[place] * (at - left) / (middle - left)
            elif middle < at < right:
                total += power[place] * (right - at) / (right - middle)
        found.append(math.log(max(total, float(np.finfo(np.float32).eps))))
    return found


def test_every_frame_has_the_numbers_of_its_definition() -> None:
    """The first, one in the middle and the last."""
    samples = _noise(4_000)
    found = filter_banks(samples)
    assert found.shape == (1 + (4_000 - 400) // 160, N_BANDS)
    for frame in (0, 11, len(found) - 1):
        wanted = _one_frame([float(value) for value in samples[frame * 160 : frame * 160 + 400]])
        assert found[frame] == pytest.approx(wanted, abs=2e-3)


def test_a_louder_recording_is_the_same_but_for_a_constant() -> None:
    """Which goes with the mean over time."""
    quiet, loud = filter_banks(_noise(8_000)), filter_banks(2 * _noise(8_000))
    assert loud - quiet == pytest.approx(np.full(quiet.shape, 2 * math.log(2.0)), abs=1e-3)


@pytest.mark.parametrize("n", [0, 1, 399])
def test_less_than_a_frame_has_no_features(n: int) -> None:
    """And silence has the floor, not minus infinity."""
    assert filter_banks(_noise(n)).shape == (0, N_BANDS)
    assert np.isfinite(filter_banks(np.zeros(400, np.int16))).all()
