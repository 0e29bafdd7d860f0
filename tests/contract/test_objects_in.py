"""Audio that a user keeps: only what the operator allows is read, whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.http_faults import Answer, FaultyHttp, cut_short
from tests.servers.s3 import S3Bucket
from tympan.errors import AddressRefused, Cancelled, MediaChanged, MediaMissing, StorageUnavailable, TooLarge
from tympan.storage import objects_in
from tympan.storage.objects import RequestLimits
from tympan.storage.objects_in import ObjectSource

DATA = os.urandom(9 << 20)
QUICK = RequestLimits(connect_s=1, stall_s=1, request_s=5, pause_s=0.01, max_pause_s=0.05)


def fetch(source: ObjectSource, url: str, target: Path, max_bytes: int = 1 << 30) -> int:
    """Copy without cancelling."""
    return source.fetch(url, target, max_bytes, lambda: False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an allowed folder that holds one file, beside a secret."""
    folder = tmp_path / "allowed"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a b.wav").write_bytes(DATA)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "allowed-not").mkdir()
    (tmp_path / "allowed-not" / "x").write_bytes(b"secret")
    return folder


@pytest.fixture
def bucket(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """Return a bucket whose service the environment names, with one object."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_bucket.server.endpoint)
    s3_bucket.put("calls/one two.wav", DATA)
    return s3_bucket


def test_a_file_below_an_allowed_folder_is_copied(root: Path, tmp_path: Path) -> None:
    """Its address may be percent-encoded, and a link inside the folder may lead elsewhere inside it."""
    source = ObjectSource((root,))
    (root / "link.wav").symlink_to(root / "sub" / "a b.wav")
    for name in ("sub/a%20b.wav", "sub/../link.wav", "link.wav"):
        assert fetch(source, f"file://{root}/{name}", tmp_path / "out") == len(DATA)
        assert (tmp_path / "out").read_bytes() == DATA


def test_a_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    """An allowed folder counts where it leads."""
    (tmp_path / "alias").symlink_to(root)
    source = ObjectSource((tmp_path / "alias",))
    assert fetch(source, f"file://{tmp_path}/alias/sub/a%20b.wav", tmp_path / "out") == len(DATA)


def _outside(root: Path) -> list[str]:
    above = root.parent
    (root / "out").symlink_to(above / "secret")
    (root / "up").symlink_to(above)
    return [
        f"file://{above}/secret",
        f"file://{above}/absent",
        f"file://{root}/../secret",
        f"file://{root}/%2e%2e/secret",
        f"file://{root}/out",
        f"file://{root}/up/secret",
        f"file://{above}/allowed-not/x",
        f"file://{root}/sub",
        "file:///proc/self/environ",
        "file:///dev/zero",
        "file:relative",
        f"file://host{root}/sub/a%20b.wav",
        f"file://{root}/sub/a%00b",
        f"file://{root}/sub/a%20b.wav?x=1",
    ]


@pytest.mark.parametrize("number", range(14))
def test_a_file_elsewhere_is_refused(root: Path, tmp_path: Path, number: int) -> None:
    """No spelling and no link leads out of the folder, and whether the file exists is not told."""
    url = _outside(root)[number]
    with pytest.raises(AddressRefused) as caught:
        fetch(ObjectSource((root,)), url, tmp_path / "out")
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()
    with pytest.raises(AddressRefused):
        fetch(ObjectSource(), f"file://{root}/sub/a%20b.wav", tmp_path / "out")


def test_a_link_swapped_in_after_the_check_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the file that was opened, not what its name led to a moment before."""
    path = root / "sub" / "swapped.wav"
    path.write_bytes(b"harmless")
    really = objects_in._opened

    def swap(name: str) -> object:
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        return really(name)

    monkeypatch.setattr(objects_in, "_opened", swap)
    with pytest.raises(AddressRefused):
        fetch(ObjectSource((root,)), f"file://{path}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pipe_is_refused_without_waiting(root: Path, tmp_path: Path) -> None:
    """Opening a pipe for reading would wait for a writer for ever."""
    os.mkfifo(root / "pipe")
    with pytest.raises(AddressRefused, match="regular"):
        fetch(ObjectSource((root,)), f"file://{root}/pipe", tmp_path / "out")


def test_descriptors_are_closed(root: Path, tmp_path: Path) -> None:
    """Neither good nor refused files leave a descriptor open."""
    source = ObjectSource((root,))
    os.mkfifo(root / "pipe")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        fetch(source, f"file://{root}/sub/a%20b.wav", tmp_path / "out")
        with pytest.raises(AddressRefused):
            fetch(source, f"file://{root}/pipe", tmp_path / "out")
        with pytest.raises(TooLarge):
            fetch(source, f"file://{root}/sub/a%20b.wav", tmp_path / "out", 10)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_missing_large_and_cancelled_files(root: Path, tmp_path: Path) -> None:
    """Each ends in its own error and leaves no target."""
    source, url = ObjectSource((root,)), f"file://{root}/sub/a%20b.wav"
    with pytest.raises(MediaMissing):
        fetch(source, f"file://{root}/absent.wav", tmp_path / "out")
    with pytest.raises(TooLarge):
        fetch(source, url, tmp_path / "out", len(DATA) - 1)
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        source.fetch(url, tmp_path / "out", 1 << 30, lambda: next(answers))
    assert not (tmp_path / "out").exists()


def test_a_file_that_grows_while_it_is_read_stays_limited(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts what is read, not what the file's size was."""
    monkeypatch.setattr(objects_in, "_read", lambda _: b"x" * 1000)
    with pytest.raises(TooLarge):
        fetch(ObjectSource((root,)), f"file://{root}/sub/a%20b.wav", tmp_path / "out", len(DATA))
    assert not (tmp_path / "out").exists()


def test_an_object_of_an_allowed_bucket_is_copied(bucket: S3Bucket, tmp_path: Path) -> None:
    """A whole bucket, or a folder of one, may be allowed."""
    url = f"s3://{bucket.name}/calls/one two.wav"
    for allowed in (f"s3://{bucket.name}", f"s3://{bucket.name}/", f"s3://{bucket.name}/calls"):
        assert fetch(ObjectSource(allowed=(allowed,)), url, tmp_path / "out") == len(DATA)
        assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize(
    "address",
    [
        "s3://{}x/calls/one",
        "s3://other/calls/one",
        "s3://{}/callsx/one",
        "s3://{}/calls/../other",
        "s3://{}/calls//one",
        "s3://{}/calls/",
        "s3://{}",
        "s3://user@{}/calls/one",
        "gs://{}/calls/one",
        "http://{}/calls/one",
        "s3://{}/calls/one\ntwo",
        "s3://{}/calls/" + "x" * 3000,
    ],
)
def test_other_objects_are_refused(bucket: S3Bucket, tmp_path: Path, address: str) -> None:
    """What is not allowed is refused before anything is asked of the storage."""
    source = ObjectSource(allowed=(f"s3://{bucket.name}/calls",))
    with pytest.raises(AddressRefused) as caught:
        fetch(source, address.format(bucket.name), tmp_path / "out")
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()


def test_missing_large_and_cancelled_objects(bucket: S3Bucket, tmp_path: Path) -> None:
    """Each ends in its own error and leaves no target; a bucket that does not exist is a failure."""
    url = f"s3://{bucket.name}/calls/one two.wav"
    source = ObjectSource(allowed=(f"s3://{bucket.name}", "s3://no-such-bucket"))
    with pytest.raises(MediaMissing):
        fetch(source, f"s3://{bucket.name}/absent", tmp_path / "out")
    with pytest.raises(TooLarge):
        fetch(source, url, tmp_path / "out", len(DATA) - 1)
    with pytest.raises(StorageUnavailable):
        fetch(source, "s3://no-such-bucket/x", tmp_path / "out")
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        source.fetch(url, tmp_path / "out", 1 << 30, lambda: next(answers))
    assert not (tmp_path / "out").exists()


def _with_proxy(bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> FaultyHttp:
    proxy = FaultyHttp(bucket.server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    return proxy


def test_an_object_that_changes_while_it_is_read_is_refused(
    bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one recording and half of another never become one."""
    source, url = ObjectSource(allowed=(f"s3://{bucket.name}",), limits=QUICK), f"s3://{bucket.name}/calls/one two.wav"
    ranges = 0

    def replaced(method: str, path: str, answer: Answer) -> Answer | None:
        nonlocal ranges
        ranges += method == "GET"
        if ranges == 1 and method == "GET":
            bucket.put("calls/one two.wav", DATA[::-1])
        return answer

    with _with_proxy(bucket, monkeypatch) as proxy:
        proxy.fault = replaced
        with pytest.raises(MediaChanged):
            fetch(source, url, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("times", [2, 1_000])
def test_E6_broken_connections_give_the_whole_object_or_an_error(
    bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Answers that break off are asked for again; after five tries it is an error."""
    source, url = ObjectSource(allowed=(f"s3://{bucket.name}",), limits=QUICK), f"s3://{bucket.name}/calls/one two.wav"
    ask: Callable[[], int] = lambda: fetch(source, url, tmp_path / "out")  # noqa: E731
    with _with_proxy(bucket, monkeypatch) as proxy:
        proxy.fault = cut_short(times)
        if times == 2:
            assert ask() == len(DATA)
            assert (tmp_path / "out").read_bytes() == DATA
        else:
            with pytest.raises(StorageUnavailable):
                ask()
            assert proxy.methods.count("GET") == 5
            assert not (tmp_path / "out").exists()
