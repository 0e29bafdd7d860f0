"""Pictures of audio: right, small, made once, in turns, and gone with the audio."""

import threading
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.jobs_support import TENANT, PcmFiles, Shop, in_thread, open_shop
from tests.pipeline_support import never
from tympan.domain import SAMPLE_RATE_HZ, Job, Samples
from tympan.errors import Cancelled, CorruptMedia, MediaMissing, NotFound, Overloaded
from tympan.jobs.peaks import MOST, PeakMeter, Waveform
from tympan.jobs.waveforms import MOST_OF_A_TENANT, MOST_WAITING, Waveforms


def _metered(samples: Samples, block: int = 80_000) -> Waveform:
    meter = PeakMeter()
    for start in range(0, len(samples), block):
        meter.add(samples[start : start + block])
    return meter.finish()


@pytest.mark.parametrize("block", [1, 159, 160, 161, 7_777, 80_000])
@pytest.mark.parametrize("n_samples", [0, 1, 159, 160, 161, 16_001])
def test_each_peak_is_the_loudest_sample_of_its_time(n_samples: int, block: int) -> None:
    """Whatever the blocks that the samples come in."""
    samples = np.random.default_rng(n_samples).integers(-32_768, 32_768, n_samples).astype(np.int16)
    found = _metered(samples, block)
    size = np.abs(samples.astype(np.int64))
    expected = [min(255, (int(size[at : at + 160].max()) * 255 + 16_384) // 32_768) for at in range(0, n_samples, 160)]
    assert (list(found.peaks), found.n_samples, found.step_samples) == (expected, n_samples, 160)


def test_full_scale_is_255_and_silence_is_0() -> None:
    """Also the one sample that has no positive counterpart."""
    assert list(_metered(np.repeat(np.array([0, 32_767, -32_768], np.int16), 160)).peaks) == [0, 255, 255]


def test_longer_audio_has_longer_steps_not_more_peaks() -> None:
    """A click is seen in the picture of an hour, where it was."""
    samples = np.zeros(3_600 * SAMPLE_RATE_HZ, np.int16)
    samples[1_800 * SAMPLE_RATE_HZ] = 32_767
    found = _metered(samples)
    assert MOST // 2 <= len(found.peaks) <= MOST
    assert found.duration_s == 3_600
    at = found.peaks.index(255)
    assert at * found.step_s <= 1_800 < (at + 1) * found.step_s
    assert sum(found.peaks) == 255


def test_ten_hours_take_no_more_memory_than_one() -> None:
    """What is kept is bounded, and so is what is held while the samples come."""
    block = np.full(5 * SAMPLE_RATE_HZ, 1000, np.int16)
    tracemalloc.start()
    meter = PeakMeter()
    for _ in range(7_200):
        meter.add(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = meter.finish()
    assert found.duration_s == 36_000
    assert len(found.peaks) <= MOST
    assert set(found.peaks) == {8}
    assert peak < 4 << 20


@pytest.mark.parametrize(("n_peaks", "points"), [(0, 100), (1, 100), (100, 100), (101, 100), (39_999, 2_000), (250, 1)])
def test_a_picture_is_reduced_to_so_many_points(n_peaks: int, points: int) -> None:
    """No more than were asked for, none of the peaks lost, the same length of time."""
    found = Waveform(160, n_peaks * 160, bytes(np.arange(n_peaks) % 251 if n_peaks else b""))
    less = found.reduced(points)
    assert len(less.peaks) <= points
    assert max(less.peaks, default=0) == max(found.peaks, default=0)
    assert less.duration_s == found.duration_s
    assert len(less.peaks) * less.step_s >= found.duration_s


def test_a_picture_is_stored_and_read() -> None:
    """What is not one is made anew."""
    found = Waveform(320, 12_345, b"\0\1\xff")
    assert Waveform.unpack(found.pack()) == found
    for data in (b"", b"TWF1", b"x" * 100, b"TWF1" + bytes(12)):
        assert Waveform.unpack(data) is None


class Slow(PcmFiles):
    """A decoder that counts, and that can be held or fail."""

    def __init__(self) -> None:
        """Go on at once."""
        self.calls, self.blocks, self.closed = 0, 0, 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.failure: Exception | None = None
        self.between: Callable[[], object] = lambda: None

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, None]:
        """Yield the samples in blocks, each when it may."""
        self.calls += 1
        try:
            for block in super().stream(path, max_audio_s=max_audio_s, cancelled=cancelled):
                while not self.go_on.wait(0.01):
                    if cancelled():
                        raise Cancelled
                self.blocks += 1
                yield block
            self.between()
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed += 1


@contextmanager
def _desk(shop: Shop, decoder: Slow) -> Iterator[Waveforms]:
    waveforms = Waveforms(shop.service.recordings, shop.blobs, shop.folder, decoder, 1e6)
    try:
        yield waveforms
    finally:
        decoder.go_on.set()
        waveforms.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return a shop of the test's own."""
    with open_shop(tmp_path / "shop") as opened:
        yield opened


def _made(desk: Waveforms, job: Job) -> Waveform:
    return desk.make(TENANT, job.id, threading.Event()).result(30)


def test_a_waveform_is_made_once_and_goes_with_its_job(shop: Shop) -> None:
    """Who asks again reads what is kept; when the job is erased nothing is left."""
    decoder, job = Slow(), shop.submit(12.0)
    with _desk(shop, decoder) as desk:
        assert desk.kept(TENANT, job.id) is None
        first = _made(desk, job)
        assert first.duration_s == 12.0
        assert first == _made(desk, job) == desk.kept(TENANT, job.id)
        assert decoder.calls == 1
        with pytest.raises(NotFound):
            desk.kept("other", job.id)
        shop.service.erase(TENANT, job.id)
        assert list(shop.blobs.list("")) == []
        with pytest.raises(NotFound):
            desk.kept(TENANT, job.id)


def test_K8_a_waveform_goes_with_the_audio_when_its_time_is_over(shop: Shop) -> None:
    """Text stays longer; the picture of the sound does not."""
    job = shop.submit(8.0)
    shop.work_off()
    with _desk(shop, Slow()) as desk:
        _made(desk, job)
        shop.database.write(lambda tx: tx.exec_driver_sql("update jobs set audio_until = 1"))
        shop.janitor().retain()
        assert list(shop.blobs.list("")) == []
        with pytest.raises(MediaMissing, match="no longer stored"):
            desk.kept(TENANT, job.id)


def test_K7_a_waveform_that_is_stored_after_its_job_was_erased_is_removed(shop: Shop) -> None:
    """By who stored it; the search for orphans comes once an hour."""
    decoder, job = Slow(), shop.submit(8.0)
    decoder.between = lambda: shop.database.write(lambda tx: shop.store.erase_in(tx, TENANT, job.id))
    with _desk(shop, decoder) as desk:
        with pytest.raises(NotFound):
            _made(desk, job)
        assert list(shop.blobs.list("")) == []


def test_a_caller_who_goes_ends_the_decoding(shop: Shop) -> None:
    """At the next block, and nothing is stored; who waited behind is served."""
    decoder, job, other = Slow(), shop.submit(60.0), shop.submit(6.0, 2)
    decoder.go_on.clear()
    with _desk(shop, decoder) as desk:
        gone = threading.Event()
        making, waiting = desk.make(TENANT, job.id, gone), desk.make(TENANT, other.id, threading.Event())
        gone.set()
        with pytest.raises(Cancelled):
            making.result(30)
        decoder.go_on.set()
        assert waiting.result(30).duration_s == 6.0
        assert desk.kept(TENANT, job.id) is None
    assert (decoder.calls, decoder.closed) == (2, 2)


def test_what_cannot_be_decoded_is_not_kept(shop: Shop) -> None:
    """The next caller hears the same, from the file itself."""
    decoder, job = Slow(), shop.submit(6.0)
    decoder.failure = CorruptMedia()
    with _desk(shop, decoder) as desk:
        for _ in range(2):
            with pytest.raises(CorruptMedia):
                _made(desk, job)
        assert decoder.calls == 2
        assert desk.kept(TENANT, job.id) is None


def test_so_many_wait_and_no_more(shop: Shop) -> None:
    """Of one tenant fewer than of all; who has been served makes room."""
    decoder = Slow()
    decoder.go_on.clear()
    with _desk(shop, decoder) as desk:
        jobs = {name: shop.submit(6.0, tenant=name) for name in "abcde"}
        cancel = threading.Event()
        waiting = [desk.make(name, jobs[name].id, cancel) for name in "abcd" for _ in range(MOST_OF_A_TENANT)]
        assert len(waiting) == MOST_WAITING
        for name in "ae":
            with pytest.raises(Overloaded) as refused:
                desk.make(name, jobs[name].id, cancel)
            assert refused.value.retry_after_s
        decoder.go_on.set()
        for future in waiting:
            future.result(30)
        assert desk.make("e", jobs["e"].id, cancel).result(30).duration_s == 6.0
        assert decoder.calls == 5


def test_closing_ends_what_is_being_made(shop: Shop) -> None:
    """It does not wait for the end of a long file."""
    decoder, job = Slow(), shop.submit(60.0)
    decoder.go_on.clear()
    with _desk(shop, decoder) as desk:
        making = desk.make(TENANT, job.id, threading.Event())
        closing = in_thread(desk.close)
        closing.join(30)
        assert not closing.is_alive()
        with pytest.raises(Cancelled):
            making.result(1)
