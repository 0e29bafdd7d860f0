"""What the benchmark of the machine's limit counts."""

import pytest

from benchmarks.limits import body, encoder_work, step_bytes
from tympan.engine.onnx.dimensions import Dimensions

BASE = Dimensions(layers=6, heads=8, width=512)


def test_work_of_an_encoder_is_that_of_its_matrices() -> None:
    """Linear layers grow with the length, attention faster; counted by hand for base."""
    whole = encoder_work(BASE, 80, 1500)
    half = encoder_work(BASE, 80, 750)
    assert whole.whole == pytest.approx(6 * 12 * 2 * 1500 * 512 * 512 / 1e9)
    assert whole.whole == pytest.approx(2 * half.whole)
    attention = 6 * 4 * 1500 * 1500 * 512 / 1e9
    assert whole.real == pytest.approx(attention + (3000 * 80 * 3 * 512 * 2 + 1500 * 512 * 3 * 512 * 2) / 1e9)
    assert whole.real > 2.5 * half.real


def test_a_step_reads_each_weight_once_and_what_is_heard() -> None:
    """Attention to itself has four matrices, that to the speech two, the feed-forward layers eight."""
    assert step_bytes(BASE, 51_865, 0) == 6 * 14 * 512 * 512 + 51_865 * 512
    assert step_bytes(BASE, 51_865, 1000) - step_bytes(BASE, 51_865, 0) == 1000


def test_the_page_has_a_row_for_each_measurement() -> None:
    """Whatever threads, lengths and groups were measured."""
    encoder = {"seconds": 5.0, "gflop": 1.0, "alone_ms": 2.0, "side_by_side_ms": 1.5, "gflops": 600, "share": 0.5}
    decoder = {"windows": 1, "beam": 5, "step_ms": 3.0, "mb": 50.0, "gbs": 16.0, "share": 0.6}
    row = {"threads": 1, "peak_gflops": {"float32": 250.0, "int8": 900.0}, "read_gbs": 25.0, "encoder": [encoder] * 2,
           "decoder": [decoder], "parts_ms": {"features": 1.0}}  # fmt: skip
    tables = body({"rows": [row, {**row, "threads": 2}]})
    assert [len(rows) for _, _, rows in tables] == [2, 4, 2, 2]
    assert all(len(cells) == len(head) for _, head, rows in tables for cells in rows)
