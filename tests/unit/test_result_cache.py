"""Results that are kept for equal calls: what is equal, for how long, how many, and nothing that is damaged."""

import threading
import zlib
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest

from tests.api.support import make_transcript
from tympan import telemetry
from tympan.domain import DiarizeBy, Options, Segment, Suppression, Task, Timestamps, Transcript, VadOptions
from tympan.engine.base import EngineInfo
from tympan.jobs.result_cache import LONGEST_S, ResultCache, served
from tympan.jobs.shelves import MemoryShelf, ShelfAway
from tympan.options import KnownVoice

INFO = EngineInfo("onnx", "base", "r1", "cpu", "int8", 2, ("en",), multilingual=True)
SHA = "a" * 64
OTHERS: MappingProxyType[str, Any] = MappingProxyType(
    {
        "task": Task.TRANSLATE,
        "language": "de",
        "prompt": "Dear",
        "hotwords": "Tympan",
        "beam_size": 1,
        "best_of": 2,
        "temperature": 0.2,
        "temperature_fallback": False,
        "timestamps": Timestamps.WORD,
        "vad": VadOptions(min_silence_ms=500),
        "compression_ratio_threshold": 2.0,
        "logprob_threshold": -0.5,
        "no_speech_threshold": 0.5,
        "speaker_turns": True,
        "diarize": True,
        "diarize_by": DiarizeBy.VOICES,
        "min_speakers": 2,
        "max_speakers": 3,
        "known_voices": (KnownVoice("Bob", "5" * 64, "voice"),),
        "multilingual": True,
        "languages": ("en", "de"),
        "suppression": Suppression(tokens=(13,)),
        "start_s": 1.0,
        "length_s": 5.0,
        "token_chances": True,
        "language_only": True,
    }
)


@dataclass(slots=True)
class Clock:
    """Time that a test sets."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def _cache(shelf: MemoryShelf | None = None, ttl_s: float = 60.0, software: str = "") -> ResultCache:
    return ResultCache(shelf or MemoryShelf(1_000_000), lambda _: ttl_s, software)


def _counted(outcome: str) -> float:
    return telemetry.REGISTRY.get_sample_value("tympan_result_cache_total", {"outcome": outcome}) or 0.0


def test_what_was_kept_is_found_whole() -> None:
    """To the last digit, infinite numbers included; only that it was kept is new."""
    cache, transcript = _cache(), make_transcript(Options(timestamps=Timestamps.WORD, token_chances=True))
    odd = replace(transcript.segments[0], avg_logprob=float("-inf"), start_s=0.1 + 0.2)
    transcript = replace(transcript, segments=(odd, *transcript.segments[1:]))
    key = cache.key(SHA, Options(), INFO)
    assert cache.find("a", key, 100.0) is None
    cache.keep("a", key, INFO, transcript)
    found = cache.find("a", key, 100.0)
    assert found == replace(transcript, is_cached=True)


def test_every_option_is_in_the_key() -> None:
    """Whoever adds one adds another value for it here."""
    cache = _cache()
    assert OTHERS.keys() == {each.name for each in fields(Options)}
    keys = {cache.key(SHA, replace(Options(), **{name: value}), INFO) for name, value in OTHERS.items()}
    assert len(keys | {cache.key(SHA, Options(), INFO)}) == len(OTHERS) + 1


def test_everything_about_audio_engine_and_software_is_in_the_key() -> None:
    """Other bytes, another revision, number format, device, count of threads, another version."""
    changes: list[dict[str, Any]] = [
        {"engine": "ct2"}, {"model": "small"}, {"revision": "r2"}, {"device": "cuda"}, {"compute_type": "float32"},
        {"threads": 1}, {"languages": ("en", "de")}, {"multilingual": False},
    ]  # fmt: skip
    cache = _cache()
    keys = {cache.key(SHA, Options(), replace(INFO, **change)) for change in changes}
    keys |= {cache.key("b" * 64, Options(), INFO), _cache(software="2").key(SHA, Options(), INFO)}
    assert len(keys | {cache.key(SHA, Options(), INFO)}) == len(changes) + 3
    assert {len(key) for key in keys} == {64}
    assert cache.key(SHA, Options(), INFO).endswith(INFO.digest)


def test_tenants_have_nothing_in_common() -> None:
    """K3: what one has is not found by another, nor forgotten with it."""
    cache = _cache()
    key = cache.key(SHA, Options(), INFO)
    cache.keep("a", key, INFO, make_transcript(Options()))
    assert cache.find("b", key, 100.0) is None
    cache.forget("b", [key])
    cache.forget_tenant("b")
    assert cache.find("a", key, 100.0) is not None
    cache.forget_tenant("a")
    assert cache.find("a", key, 100.0) is None


@pytest.mark.parametrize("as_served", [False, True])
def test_what_is_equal_to_an_erased_job_goes(as_served: bool) -> None:  # noqa: FBT001
    """Whether the job made its result itself or was given it."""
    cache = _cache()
    key = cache.key(SHA, Options(), INFO)
    cache.keep("a", key, INFO, make_transcript(Options()))
    cache.forget("a", [None, served(key) if as_served else key])
    assert cache.find("a", key, 100.0) is None
    assert served(key) != key


def test_an_entry_that_was_moved_or_damaged_is_removed() -> None:
    """Under another tenant's or another call's name, cut off, or no text of ours at all."""
    shelf = MemoryShelf(1_000_000)
    cache = _cache(shelf)
    key, other = cache.key(SHA, Options(), INFO), cache.key(SHA, Options(language="en"), INFO)
    cache.keep("a", key, INFO, make_transcript(Options()))
    data = shelf.find("a", key[1:]) or b""
    before = _counted("damaged")
    wrong = [("b", key, data), ("a", other, data), ("a", other, data[:-9]), ("a", other, b""), ("a", other, b"x" * 99),
             ("a", other, zlib.compress(b"{}"))]  # fmt: skip
    for tenant, name, found in wrong:
        shelf.put(tenant, name[1:], found, 60.0)
        assert cache.find(tenant, name, 100.0) is None
        assert shelf.find(tenant, name[1:]) is None
    assert _counted("damaged") == before + len(wrong)
    assert cache.find("a", key, 100.0) is not None


def test_nothing_is_kept_for_longer_than_the_tenant_s_time() -> None:
    """Also when that is made shorter afterwards; and never for longer than a day."""
    clock, times = Clock(), {"a": 60.0, "day": 10 * LONGEST_S, "none": 0.0}
    shelf = MemoryShelf(1_000_000, clock)
    cache = ResultCache(shelf, times.__getitem__)
    key = cache.key(SHA, Options(), INFO)
    for tenant in times:
        cache.keep(tenant, key, INFO, make_transcript(Options()))
    assert [cache.find(tenant, key, 100.0) is not None for tenant in times] == [True, True, False]
    clock.now_s += 61
    assert [cache.find(tenant, key, 100.0) is not None for tenant in times] == [False, True, False]
    clock.now_s += LONGEST_S
    assert cache.find("day", key, 100.0) is None
    cache.keep("a", key, INFO, make_transcript(Options()))
    times["a"] = 1e-9
    assert cache.find("a", key, 100.0) is None


def test_audio_that_is_too_long_now_is_not_answered() -> None:
    """A limit that was set since is not got round."""
    cache = _cache()
    key = cache.key(SHA, Options(), INFO)
    cache.keep("a", key, INFO, make_transcript(Options()))  # 4.2 s
    assert cache.find("a", key, 4.0) is None
    assert cache.find("a", key, 4.3) is not None


def _drawn(transcript: Transcript) -> Transcript:
    first: Segment = transcript.segments[0]
    return replace(transcript, segments=(replace(first, temperature=0.2), *transcript.segments[1:]))


@pytest.mark.parametrize(("engine", "kept"), [("onnx", True), ("ct2", False), ("whispercpp", False), ("fake", True)])
def test_a_text_that_was_drawn_is_kept_where_it_would_be_drawn_again(engine: str, kept: bool) -> None:  # noqa: FBT001
    """Else equal callers would be told that chance has no part in it."""
    info = replace(INFO, engine=engine)
    rejected = replace(make_transcript(Options()), stats=replace(make_transcript(Options()).stats, rejected=1))
    for transcript in (_drawn(make_transcript(Options())), rejected):
        cache = _cache()
        key = cache.key(SHA, Options(), info)
        cache.keep("a", key, info, transcript)
        assert (cache.find("a", key, 100.0) is not None) is kept
    cache.keep("a", key, info, make_transcript(Options()))
    assert cache.find("a", key, 100.0) is not None


def test_what_another_model_made_or_was_kept_already_is_not_kept() -> None:
    """A stand-in's text is not the model's; and what was found does not live on by being found."""
    cache = _cache()
    key = cache.key(SHA, Options(), INFO)
    cache.keep("a", key, INFO, replace(make_transcript(Options()), model="tiny"))
    cache.keep("a", key, INFO, replace(make_transcript(Options()), is_cached=True))
    cache.keep("a", key, INFO, replace(make_transcript(Options()), text="\ud800"))  # Cannot be written down.
    assert cache.find("a", key, 100.0) is None


def test_without_a_shelf_nothing_is_kept() -> None:
    """But what is equal is known all the same."""
    cache = ResultCache()
    key = cache.key(SHA, Options(), INFO)
    cache.keep("a", key, INFO, make_transcript(Options()))
    cache.forget("a", [key])
    cache.forget_tenant("a")
    cache.sweep()
    cache.close()
    assert not cache.is_on
    assert cache.find("a", key, 100.0) is None


class _Away(MemoryShelf):
    """A shelf that does not answer."""

    def find(self, tenant: str, key: str) -> bytes | None:
        raise ShelfAway

    def put(self, tenant: str, key: str, data: bytes, ttl_s: float) -> int:
        raise ShelfAway

    def forget_tenant(self, tenant: str) -> None:
        raise ShelfAway

    def sweep(self) -> int:
        raise ShelfAway


def test_a_shelf_that_is_away_is_a_miss() -> None:
    """And no error of anybody's."""
    cache = _cache(_Away(1_000_000))
    key, before = cache.key(SHA, Options(), INFO), _counted("away")
    cache.keep("a", key, INFO, make_transcript(Options()))
    assert cache.find("a", key, 100.0) is None
    assert _counted("away") == before + 1
    cache.forget_tenant("a")
    cache.sweep()


def test_a_full_shelf_takes_from_who_has_the_most() -> None:
    """The oldest first; a tenant that keeps little loses nothing to one that keeps much."""
    shelf = MemoryShelf(20_000)
    shelf.put("small", "one", b"x" * 1000, 60.0)
    evicted = [shelf.put("large", str(number), b"x" * 1000, 60.0) for number in range(50)]
    assert shelf.find("small", "one") == b"x" * 1000
    assert sum(evicted) == 50 - sum(shelf.find("large", str(number)) is not None for number in range(50))
    assert [shelf.find("large", str(number)) is not None for number in (0, 49)] == [False, True]
    assert shelf.sweep() <= 20_000
    assert shelf.put("large", "huge", b"x" * 2500, 60.0) == 0
    assert shelf.find("large", "huge") is None


def test_a_shelf_s_books_are_right_whatever_is_done() -> None:
    """Replaced, run out, forgotten: at the end nothing is left, of names either."""
    clock = Clock()
    shelf = MemoryShelf(1_000_000, clock)
    shelf.put("a", "k", b"x" * 100, 10.0)
    shelf.put("a", "k", b"x" * 300, 10.0)
    shelf.put("b", "k", b"x" * 100, 20.0)
    sizes = [shelf.sweep()]
    clock.now_s += 10
    assert shelf.find("a", "k") is None
    sizes.append(shelf.sweep())
    clock.now_s += 10
    sizes.append(shelf.sweep())
    assert all(one > other for one, other in pairwise(sizes))
    assert (sizes[-1], shelf._sections) == (0, {})
    shelf.put("a", "k", b"x", 10.0)
    shelf.forget("a", ["k", "unknown"])
    shelf.forget_tenant("nobody")
    assert (shelf.sweep(), shelf._sections) == (0, {})


def test_a_shelf_is_shared_between_threads() -> None:
    """Eight of them at once leave the books right."""
    shelf = MemoryShelf(50_000)

    def work(number: int) -> None:
        for turn in range(300):
            shelf.put(f"t{turn % 3}", f"{turn % 7}", b"x" * (100 + turn), 60.0)
            shelf.find(f"t{turn % 3}", f"{(turn + number) % 7}")
            if turn % 50 == 0:
                shelf.forget_tenant(f"t{number % 3}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tenant in ("t0", "t1", "t2"):
        shelf.forget_tenant(tenant)
    assert (shelf.sweep(), shelf._sections) == (0, {})
