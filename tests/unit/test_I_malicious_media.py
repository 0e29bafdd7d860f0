"""Hostile media: files that name others, lie about themselves, or expand without end."""

import contextlib
import http.server
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import media
from tympan.audio.decode import Decoder
from tympan.errors import (
    CorruptMedia,
    InvalidRequest,
    MediaError,
    NotFound,
    TooLong,
    UnsupportedMedia,
)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """A running decoder."""
    with Decoder(max_children=4) as running:
        assert running.sandbox.lines  # the start is over before anything is timed
        yield running


@pytest.fixture
def canary() -> Iterator[http.server.ThreadingHTTPServer]:
    """A loopback web server that serves audio and counts who asks."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.hits += 1  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(media.wav(media.tone(1.0), 16_000))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hits = 0  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def seconds(decoder: Decoder, path: Path, data: bytes | None = None, max_audio_s: float = 60.0) -> float:
    """Return the length of what was decoded."""
    if data is not None:
        path.write_bytes(data)
    return sum(len(block) for block in decoder.stream(path, max_audio_s=max_audio_s)) / 16_000


def peak_memory_bytes(decoder: Decoder, path: Path, max_audio_s: float) -> int:
    """Return the peak resident memory of the child that decodes ``path``."""
    job = decoder._job(max_audio_s)
    descriptor = os.open(path, os.O_RDONLY)
    child = decoder.launch(job, descriptor)
    os.close(descriptor)
    while child.read_frame(lambda _: None) is not None:
        pass
    end = child.wait()
    child.close()
    return end.peak_memory_bytes


@pytest.mark.parametrize("suffix", ["", ".wav", ".mp3"])
@pytest.mark.parametrize("where", ["relative", "sub-directory", "absolute", "http"])
@pytest.mark.parametrize("head", ["ffconcat version 1.0\n", "ffconcat version 1.0\nstream\nexact_stream_id 0x1\n"])
def test_I1_ffconcat_is_refused(
    decoder: Decoder, tmp_path: Path, canary: http.server.ThreadingHTTPServer, suffix: str, where: str, head: str
) -> None:
    """A concatenation script reads no other file and fetches no address, under any name."""
    (tmp_path / "sub").mkdir()
    for secret in (tmp_path / "secret.wav", tmp_path / "sub" / "secret.wav"):
        secret.write_bytes(media.wav(media.tone(1.0), 16_000))
    target = {
        "relative": "secret.wav",
        "sub-directory": "sub/secret.wav",
        "absolute": f"{tmp_path}/secret.wav",
        "http": f"http://127.0.0.1:{canary.server_port}/secret.wav",
    }[where]
    with pytest.raises(UnsupportedMedia, match="playlist"):
        seconds(decoder, tmp_path / f"in{suffix}", f"{head}file '{target}'\n".encode())
    assert canary.hits == 0  # type: ignore[attr-defined]


def _references(target: str) -> dict[str, bytes]:
    """Return files of kinds that make a media library open ``target``."""
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()
    subtitles = b"GAB2\0\2\0" + bytes(8) + struct.pack("<HI", 4, len(playlist)) + playlist
    avi_list = b"movi" + b"00tx" + struct.pack("<I", len(subtitles)) + subtitles
    m4a = media.sample("m4a")
    alias = bytes(4) + struct.pack(">I", 1) + media.box(b"alis", bytes(160) + target.encode())
    return {
        "m3u8": playlist,
        "avi-gab2": b"RIFF"
        + struct.pack("<I", len(avi_list) + 12)
        + b"AVI LIST"
        + struct.pack("<I", len(avi_list))
        + avi_list,
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "lavfi": b"sine=frequency=440:duration=5",
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>{target}</BaseURL></MPD>'.encode(),
        "svg": f'<svg><image href="{target}"/></svg>'.encode(),
        "playlist": f"[playlist]\nFile1={target}\n".encode(),
        "mov-dref": media.grown(m4a, (b"moov", b"trak", b"mdia", b"minf", b"dinf"), media.box(b"dref", alias)),
    }


@pytest.mark.parametrize("kind", _references("x"))
@pytest.mark.parametrize("suffix", ["", ".wav", ".mp3"])
def test_I2_files_that_refer_to_others_open_nothing(
    decoder: Decoder, tmp_path: Path, canary: http.server.ThreadingHTTPServer, kind: str, suffix: str
) -> None:
    """Playlists, descriptions and external tracks are refused or played without what they refer to."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(media.wav(media.tone(9.0), 16_000))
    for target in (str(secret), f"file://{secret}", f"http://127.0.0.1:{canary.server_port}/secret.wav"):
        try:
            length_s = seconds(decoder, tmp_path / f"in{suffix}", _references(target)[kind])
        except MediaError:
            continue
        assert kind == "mov-dref"
        assert length_s == pytest.approx(2.0, abs=0.1)  # its own track, not the 9 seconds it points to
    assert canary.hits == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["concat:in", "-i", "pipe:0", "%d.wav", "a\nb", "x" * 255, "data:audio", "https:"])
def test_I3_file_names_mean_nothing(decoder: Decoder, tmp_path: Path, name: str) -> None:
    """A file is read whatever it is called."""
    assert seconds(decoder, tmp_path / name, media.wav(media.tone(1.0), 16_000)) == 1.0


@pytest.mark.parametrize("name", ["concat:/etc/passwd", "http://127.0.0.1/x", "../" * 60 + "x", "y" * 4096, "a\0b"])
def test_I3_names_of_nothing_are_typed_errors(decoder: Decoder, name: str) -> None:
    """A string that is no file is an error about the file, never an address or an option."""
    with pytest.raises((NotFound, InvalidRequest)):
        seconds(decoder, Path(name))


def _bombs() -> dict[str, bytes]:
    silence = np.zeros((20 * 60 * 48_000, 1))
    return {
        "m4a": media.silent_m4a(2 * 3600 * 16_000 // 1024),
        "adts": media.silent_adts(10 * 3600),
        "flac": media.encode(silence, "flac", "flac", 48_000),
        "opus": media.encode(silence[: 10 * 60 * 48_000], "ogg", "libopus", 48_000),
    }


def test_I4_bombs_stop_at_the_limit(decoder: Decoder, tmp_path: Path) -> None:
    """Files that expand hundreds of times are cut off by what came out, fast and in little memory."""
    for name, data in _bombs().items():
        path = tmp_path / name
        path.write_bytes(data)
        started = time.monotonic()
        with pytest.raises(TooLong):
            seconds(decoder, path, max_audio_s=300)
        assert time.monotonic() - started <= 5.0, name
        assert peak_memory_bytes(decoder, path, 300) <= 150 << 20, name


def test_I4_an_index_too_big_for_memory_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    """25 MB that index 111 hours of silence are refused, not loaded."""
    path = tmp_path / "in"
    path.write_bytes(media.silent_m4a(6_250_000))
    started = time.monotonic()
    with pytest.raises((MediaError, TooLong)):
        seconds(decoder, path, max_audio_s=300)
    assert time.monotonic() - started <= 5.0
    assert peak_memory_bytes(decoder, path, 300) <= 200 << 20


@pytest.mark.parametrize(
    ("rate_hz", "channels", "bits"),
    [
        *((rate_hz, 1, 16) for rate_hz in (0, 1, 7_999, 192_001, 655_350, 2**31, 2**32 - 1)),
        *((16_000, channels, 16) for channels in (0, 9, 64, 65_535)),
        *((16_000, 1, bits) for bits in (0, 1)),
    ],
)
def test_I5_impossible_shapes_are_refused_at_once(
    decoder: Decoder, tmp_path: Path, rate_hz: int, channels: int, bits: int
) -> None:
    """Rates, channels and widths out of range never reach the resampler."""
    path = tmp_path / "in"
    path.write_bytes(media.wav_header(200_000, rate_hz, channels, bits) + bytes(200_000))
    started = time.monotonic()
    with pytest.raises((UnsupportedMedia, CorruptMedia)) as caught:
        seconds(decoder, path)
    assert time.monotonic() - started <= 0.5
    assert caught.value.code in ("unsupported_media", "corrupt_media")


@pytest.mark.parametrize("declared_samples", [10 * 16_000, 2**36 - 1, 0])
def test_I6_flac_header_length_is_ignored(decoder: Decoder, tmp_path: Path, declared_samples: int) -> None:
    """A FLAC of 60 s that declares 10 s or a thousand hours is 60 s long, and limited as such."""
    data = media.encode(media.tone(60.0), "flac", "flac", 16_000)
    word = struct.unpack(">Q", data[18:26])[0]
    lying = media.patched(data, 18, struct.pack(">Q", word & ~(2**36 - 1) | declared_samples))
    assert seconds(decoder, tmp_path / "in", lying, max_audio_s=100) == pytest.approx(60, rel=0.01)
    with pytest.raises(TooLong):
        seconds(decoder, tmp_path / "in", lying, max_audio_s=30)


@pytest.mark.parametrize("declared", [1, 0x7FFFFFFF])
def test_I6_mp4_header_length_is_ignored(decoder: Decoder, tmp_path: Path, declared: int) -> None:
    """The durations in an MP4's headers decide nothing."""
    data = media.encode(media.tone(60.0), "mp4", "aac", 16_000, {"use_editlist": "0"})
    for name in (b"mvhd", b"mdhd"):
        data = media.patched(data, data.index(name) + 20, struct.pack(">I", declared))
    data = media.patched(data, data.index(b"tkhd") + 24, struct.pack(">I", declared))
    assert seconds(decoder, tmp_path / "in", data, max_audio_s=100) == pytest.approx(60, rel=0.01)
    with pytest.raises(TooLong):
        seconds(decoder, tmp_path / "in", data, max_audio_s=30)


def test_I6_wav_that_claims_everything_has_what_it_has(decoder: Decoder, tmp_path: Path) -> None:
    """A WAV header that claims 4 GiB does not change the 3 seconds behind it."""
    body = media.wav(media.tone(3.0), 16_000)[44:]
    for claimed in (0xFFFFFFFF, 0xFFFFFFF0):
        assert seconds(decoder, tmp_path / "in", media.wav_header(claimed, 16_000, 1, 16) + body) == 3.0


def test_I7_thousands_of_streams_attachments_and_chapters(decoder: Decoder, tmp_path: Path) -> None:
    """Ten thousand of anything cost no more than the probe limits."""
    attachment = media.ebml(
        "61A7",
        media.ebml("466E", b"x"),
        media.ebml("4660", b"image/png"),
        media.ebml("465C", bytes(100)),
        media.ebml("46AE", b"\1"),
    )
    chapter = media.ebml("B6", media.ebml("73C4", b"\1"), media.ebml("91", b"\0"), media.ebml("92", b"\1"))
    tracks = media.ebml("1654AE6B", *(media.matroska_track(number + 1) for number in range(10_000)))
    one_track = media.ebml("1654AE6B", media.matroska_track(1))
    files = {
        "streams": media.matroska(tracks),
        "attachments": media.matroska(one_track, media.ebml("1941A469", *[attachment] * 10_000)),
        "chapters": media.matroska(one_track, media.ebml("1043A770", media.ebml("45B9", *[chapter] * 10_000))),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        started = time.monotonic()
        with pytest.raises(MediaError):
            seconds(decoder, path)
        assert time.monotonic() - started <= 5.0, name
        assert peak_memory_bytes(decoder, path, 60) <= 200 << 20, name


def test_I7_half_a_gigabyte_of_cover_art(decoder: Decoder, tmp_path: Path) -> None:
    """A picture of 500 MB does not get into memory; nothing but a typed error or the audio comes out."""
    size = 500_000_000
    data_box = struct.pack(">I", size + 16) + b"data" + struct.pack(">II", 13, 0)
    cover = struct.pack(">I", size + 24) + b"covr" + data_box
    handler = media.box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    item_list = struct.pack(">I", size + 32) + b"ilst" + cover
    meta = struct.pack(">I", size + 32 + len(handler) + 12) + b"meta" + bytes(4) + handler + item_list
    user_data = struct.pack(">I", size + 32 + len(handler) + 20) + b"udta" + meta
    song = media.encode(media.tone(1.0), "ipod", "aac", 16_000)
    movie_at = song.rindex(b"moov") - 4
    movie_size = struct.unpack(">I", song[movie_at : movie_at + 4])[0]
    path = tmp_path / "in"
    path.write_bytes(media.patched(song, movie_at, struct.pack(">I", movie_size + len(user_data) + size)) + user_data)
    os.truncate(path, path.stat().st_size + size)  # a hole: the picture is all zeros
    started = time.monotonic()
    with contextlib.suppress(MediaError):
        assert seconds(decoder, path) == pytest.approx(1.0, abs=0.1)
    assert time.monotonic() - started <= 5.0
    assert peak_memory_bytes(decoder, path, 60) <= 200 << 20
