"""Results that a cluster keeps for equal calls, in Redis: shared while it is there, no loss but time when it is not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.api.support import make_transcript
from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.cluster.test_D_redis import _away
from tests.cluster.test_K7_erasure import _in_redis, _service
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tympan.domain import Options
from tympan.engine.base import EngineInfo
from tympan.jobs.redis_shelf import RedisShelf
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.sealing import Sealer
from tympan.jobs.shelves import MemoryShelf, Shelf, ShelfAway

INFO = EngineInfo("onnx", "base", "r1", "cpu", "int8", 2, ("en",), multilingual=True)
_SEALER = Sealer(["k" * 32])
_QUICK_S, _SLOW_S = 0.002, 0.06
_CALL = {"vad": "false", "language": "en", "response_format": "verbose_json"}  # With times, as those of jobs are.


def _shelf(redis: RedisServer, max_bytes: int = 1_000_000, sealer: Sealer = _SEALER) -> RedisShelf:
    return RedisShelf(redis.url(), max_bytes, sealer, open_s=0.5)


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Callable[[int], Shelf]:
    """Return a function that makes a shelf of so many bytes, of each kind there is."""
    if request.param == "memory":
        return MemoryShelf
    redis: RedisServer = request.getfixturevalue("redis")
    return lambda max_bytes: _shelf(redis, max_bytes)


def _settled(shelf: Shelf, *what: tuple[str, str]) -> list[bytes | None]:
    """Return what is on a shelf, which may be away for a moment on a machine that is busy elsewhere."""
    found: list[bytes | None] = []

    def look() -> bool:
        try:
            found[:] = [shelf.find(*each) for each in what]
        except ShelfAway:
            return False
        return True

    wait_until(look, 15)
    return found


def _surely(work: Callable[[], object]) -> None:
    """Do ``work``, again where the shelf is away for a moment."""

    def done() -> bool:
        try:
            work()
        except ShelfAway:
            return False
        return True

    wait_until(done, 15)


def test_both_shelves_keep_find_and_forget_alike(make: Callable[[int], Shelf]) -> None:
    """By tenant and key; replaced, forgotten, run out."""
    shelf = make(1_000_000)
    for tenant, key, data in (("a", "k", b"old"), ("a", "k", b"new"), ("b", "k", b"\0\xff"), ("a", "l", b"x")):
        _surely(lambda t=tenant, k=key, d=data: shelf.put(t, k, d, 60.0))  # type: ignore[misc]
    assert _settled(shelf, ("a", "k"), ("b", "k"), ("a", "l"), ("c", "k")) == [b"new", b"\0\xff", b"x", None]
    _surely(lambda: shelf.forget("a", ["k", "unknown"]))
    assert _settled(shelf, ("a", "k"), ("b", "k"), ("a", "l")) == [None, b"\0\xff", b"x"]
    _surely(lambda: shelf.forget_tenant("a"))
    assert _settled(shelf, ("a", "l"), ("b", "k")) == [None, b"\0\xff"]
    _surely(lambda: shelf.put("b", "k", b"short", 0.05))
    wait_until(lambda: _settled(shelf, ("b", "k")) == [None], 10)
    wait_until(lambda: shelf.sweep() == 0, 10)
    shelf.close()


def test_both_shelves_take_from_who_has_the_most(make: Callable[[int], Shelf]) -> None:
    """The oldest first; what is larger than an eighth of the shelf is not taken."""
    shelf = make(40_000)
    _surely(lambda: shelf.put("small", "one", b"x" * 1000, 60.0))
    for number in range(60):
        _surely(lambda n=number: shelf.put("large", str(n), b"x" * 1000, 60.0))  # type: ignore[misc]
    assert _settled(shelf, ("small", "one"), ("large", "59")) == [b"x" * 1000] * 2
    assert _settled(shelf, ("large", "0")) == [None]
    _surely(lambda: shelf.put("large", "huge", b"x" * 6000, 60.0))
    assert _settled(shelf, ("large", "huge")) == [None]
    assert 20_000 < shelf.sweep() <= 40_000
    shelf.close()


def test_what_lies_in_redis_is_sealed_and_of_another_key_is_damaged(redis: RedisServer) -> None:
    """Another installation's key opens nothing: a miss, and what cannot be opened is removed."""
    shelf, other = _shelf(redis), _shelf(redis, sealer=Sealer(["o" * 32]))
    cache, stranger = (ResultCache(each, lambda _: 60.0) for each in (shelf, other))
    key = cache.key("0" * 64, Options(), INFO)
    transcript = make_transcript(Options())

    def is_kept() -> bool:
        cache.keep("acme", key, INFO, transcript)
        return cache.find("acme", key, 100.0) is not None

    wait_until(is_kept, 15)
    assert _in_redis([key[1:]], redis)  # The search finds what is there,
    assert not _in_redis([transcript.text, "Hello"], redis)  # and there is no text.
    wait_until(lambda: cache.find("acme", key, 100.0) is not None, 10)
    assert stranger.find("acme", key, 100.0) is None
    wait_until(lambda: _settled(shelf, ("acme", key[1:])) == [None], 10)


def test_books_that_redis_has_lost_are_begun_anew(redis: RedisServer) -> None:
    """A Redis that throws keys away by itself does not make a shelf smaller, or larger."""
    shelf = _shelf(redis, 40_000)
    for number in range(20):
        _surely(lambda n=number: shelf.put("a", str(n), b"x" * 1000, 60.0))  # type: ignore[misc]
    redis.ask("DEL", "tympan:results:{a}:ends")
    _surely(shelf.sweep)
    assert shelf.sweep() == 0
    for number in range(60):
        _surely(lambda n=number: shelf.put("b", str(n), b"x" * 1000, 60.0))  # type: ignore[misc]
    assert 20_000 < shelf.sweep() <= 40_000


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["kill", "stop", "full"])
def test_D1_D2_D3_a_redis_that_is_away_is_a_miss_that_costs_50_ms_now_and_then(redis: RedisServer, fault: str) -> None:
    """Looking and keeping are bounded, then free; what comes afterwards is kept again."""
    cache = ResultCache(_shelf(redis), lambda _: 60.0)
    key, transcript = cache.key("0" * 64, Options(), INFO), make_transcript(Options())

    def is_kept() -> bool:
        cache.keep("a", key, INFO, transcript)
        return cache.find("a", key, 100.0) is not None

    def took_s() -> float:
        began = time.monotonic()
        cache.find("a", key, 100.0)
        cache.keep("a", key, INFO, transcript)
        cache.forget("a", [key])
        return time.monotonic() - began

    def costs_little() -> bool:
        wait_until(is_kept, 15)
        with _away(redis, fault):
            took = sorted(took_s() for _ in range(200))
        return took[-1] < 2 * _SLOW_S and took[len(took) // 2] < _QUICK_S

    wait_until(costs_little, 40)
    wait_until(is_kept, 15)


@contextmanager
def _keeping(site: Site, load: Load, redis: RedisServer) -> Iterator[None]:
    """Let an api and a worker that keep results take the place of those that do not."""
    more = {"REDIS_URL": redis.url(), "RESULT_CACHE_MB": "8", "RESULT_TTL_S": "600"}
    api, worker = (site.cluster.add(kind, **more) for kind in ("api", "worker"))
    try:
        for node in (api, worker):
            node.wait_ready()
        site.worker.freeze()
        load.api = api
        yield
    finally:
        site.worker.go_on()
        for node in (api, worker):
            node.kill()
            site.cluster.nodes.remove(node)


@pytest.mark.long
def test_K7_D1_equal_calls_of_a_cluster_are_worked_on_once(site: Site, load: Load, redis: RedisServer) -> None:
    """Through any api; without Redis each is worked on; what is erased is gone from Redis too."""
    audio = clip(2.0, 523.0)

    def call() -> httpx.Response:
        answer = httpx.post(f"{load.api.url}/v1/audio/transcriptions", files={"file": audio}, data=_CALL, timeout=60)
        assert answer.status_code == 200, answer.text + site.cluster.logs()
        return answer

    def is_hit() -> bool:
        return str(call().headers.get("tympan-cache")) == "hit"

    with _keeping(site, load, redis):
        first = call()
        assert first.headers.get("tympan-cache") is None
        wait_until(is_hit, 30, site.cluster.logs)
        assert call().content == first.content
        assert not _in_redis([first.json()["text"][:40]], redis)
        job_id = load.submit("twin", audio).told[0]
        load.settle()
        result = httpx.get(f"{load.api.url}/v1/jobs/{job_id}/result", timeout=30)
        assert result.json()["text"] == first.json()["text"]
        assert result.headers["tympan-cache"] == "hit"
        redis.kill()
        assert call().content
        redis.start()
        wait_until(is_hit, 30, site.cluster.logs)
        shelf = _shelf(redis)
        assert shelf.sweep() > 0
        cache = ResultCache(shelf)
        _service(site, load, cache).erase_tenant("default")
        assert shelf.sweep() == 0
        assert redis.ask("KEYS", "tympan:results:*") == "*0"
