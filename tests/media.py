"""Media files made from nothing: good ones in every format, lying ones, and bombs."""

import io
import struct
from collections.abc import Iterable
from fractions import Fraction
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float64]
"""Samples between -1 and 1, shape ``[n_samples, n_channels]``."""

RECIPES: dict[str, tuple[str, str, int]] = {
    "wav": ("wav", "pcm_s16le", 44_100),
    "w64": ("w64", "pcm_s16le", 44_100),
    "aiff": ("aiff", "pcm_s16be", 44_100),
    "caf": ("caf", "pcm_s16be", 44_100),
    "au": ("au", "pcm_s16be", 44_100),
    "flac": ("flac", "flac", 44_100),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "opus": ("ogg", "libopus", 48_000),
    "m4a": ("ipod", "aac", 44_100),
    "alac": ("ipod", "alac", 44_100),
    "mp4": ("mp4", "aac", 48_000),
    "mov": ("mov", "pcm_s16le", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "mkv": ("matroska", "flac", 48_000),
    "aac": ("adts", "aac", 44_100),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "wv": ("wv", "wavpack", 44_100),
    "tta": ("tta", "tta", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "flv": ("flv", "libmp3lame", 44_100),
    "ts": ("mpegts", "aac", 44_100),
}
"""Format name -> container, codec and sample rate to make it with."""


def tone(seconds: float, rate_hz: int = 16_000, channels: int = 1, pitch_hz: float = 440.0) -> Audio:
    """Return a sine tone at half scale, the same in all channels."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.repeat(0.5 * np.sin(2 * np.pi * pitch_hz * time_s)[:, None], channels, axis=1)


def wav(audio: Audio, rate_hz: int, kind: str = "s16") -> bytes:
    """Return a WAV file; ``kind`` is u8, s16, s24, s32, f32 or f64."""
    bits = int(kind[1:])
    body = _pcm(audio, kind)
    return wav_header(len(body), rate_hz, audio.shape[1], bits, tag=3 if kind[0] == "f" else 1) + body


def _pcm(audio: Audio, kind: str) -> bytes:
    if kind[0] == "f":
        return audio.astype(f"<f{int(kind[1:]) // 8}").tobytes()
    if kind == "u8":
        return np.round(audio * 127 + 128).astype(np.uint8).tobytes()
    scaled = np.round(audio * (2 ** (int(kind[1:]) - 1) - 1)).astype("<i4")
    if kind == "s24":
        return bytes(scaled.reshape(-1, 1).view(np.uint8)[:, :3].tobytes())
    return bytes(scaled.astype(f"<i{int(kind[1:]) // 8}").tobytes())


def wav_header(body_bytes: int, rate_hz: int, channels: int, bits: int, *, tag: int = 1) -> bytes:
    """Return a WAV header that may say anything."""
    frame = channels * bits // 8
    return b"".join(
        (
            b"RIFF" + struct.pack("<I", min(body_bytes + 36, 0xFFFFFFFF)) + b"WAVEfmt ",
            struct.pack("<IHHIIHH", 16, tag, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame & 0xFFFF, bits),
            b"data" + struct.pack("<I", min(body_bytes, 0xFFFFFFFF)),
        )
    )


def encode(audio: Audio, container: str, codec: str, rate_hz: int, options: dict[str, str] | None = None) -> bytes:
    """Return ``audio`` in a container, coded."""
    buffer = io.BytesIO()
    layouts = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
    layout = layouts[audio.shape[1]]
    with av.open(buffer, "w", format=container, options=options or {}) as output:
        stream = cast("av.AudioStream", output.add_stream(codec, rate=rate_hz, layout=layout))
        if codec.startswith("wma"):
            stream.bit_rate = 64_000
        for frame in _frames(audio, rate_hz, layout):
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return buffer.getvalue()


def _frames(audio: Audio, rate_hz: int, layout: str) -> Iterable[av.AudioFrame]:
    pcm = np.round(audio * 32767).astype(np.int16)
    for start in range(0, len(pcm), 65_536):
        block = pcm[start : start + 65_536]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.reshape(1, -1)), format="s16", layout=layout)
        frame.sample_rate = rate_hz
        frame.pts = start
        frame.time_base = Fraction(1, rate_hz)
        yield frame


def sample(name: str, seconds: float = 2.0) -> bytes:
    """Return a tone in one of the formats of ``RECIPES``."""
    container, codec, rate_hz = RECIPES[name]
    return encode(tone(seconds, rate_hz), container, codec, rate_hz)


def video(seconds: float, *, audio: bool, container: str = "mp4") -> bytes:
    """Return a film of grey frames, with a tone if ``audio``."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        picture = output.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        sound = output.add_stream("aac", rate=48_000, layout="mono") if audio else None
        for index in range(round(seconds * 10)):
            grey = np.full((64, 64, 3), index % 256, np.uint8)
            output.mux(picture.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        output.mux(picture.encode(None))
        if sound is not None:
            for frame in _frames(tone(seconds, 48_000), 48_000, "mono"):
                output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
    return buffer.getvalue()


def silent_adts(seconds: float) -> bytes:
    """Return silence as raw AAC, hundreds of times smaller than its samples."""
    return _silent_aac_frame() * round(seconds * 16_000 / 1024)


def _silent_aac_frame() -> bytes:
    """Return 64 ms of silence as one AAC frame with its ADTS header of 7 bytes."""
    clip = encode(np.zeros((16_000, 1)), "adts", "aac", 16_000)
    starts = [0]
    while starts[-1] < len(clip):
        at = starts[-1]
        starts.append(at + ((clip[at + 3] & 3) << 11 | clip[at + 4] << 3 | clip[at + 5] >> 5))
    return clip[starts[-3] : starts[-2]]


def silent_m4a(n_frames: int) -> bytes:
    """Return an M4A of ``n_frames`` AAC frames of silence (64 ms each), with an index of a few bytes."""
    frame = _silent_aac_frame()[7:]
    rate_hz = 16_000
    audio_config = bytes.fromhex("1408")  # AAC-LC, 16 kHz, mono
    esds = b"\x03\x19\0\0\0\x04\x11\x40\x15" + bytes(11) + b"\x05\x02" + audio_config + b"\x06\x01\x02"
    mp4a = bytes(6) + b"\0\1" + bytes(8) + struct.pack(">HHIHH", 1, 16, 0, rate_hz, 0) + box(b"esds", bytes(4) + esds)
    ftyp = box(b"ftyp", b"M4A \0\0\0\0M4A mp42isom")
    sample_table = (
        box(b"stsd", bytes(4) + struct.pack(">I", 1) + box(b"mp4a", mp4a)),
        box(b"stts", bytes(4) + struct.pack(">III", 1, n_frames, 1024)),
        box(b"stsc", bytes(4) + struct.pack(">IIII", 1, 1, n_frames, 1)),
        box(b"stsz", bytes(4) + struct.pack(">II", len(frame), n_frames)),
        box(b"stco", bytes(4) + struct.pack(">II", 1, len(ftyp) + 8)),
    )
    reference = box(b"dinf", box(b"dref", bytes(4) + struct.pack(">I", 1) + box(b"url ", b"\0\0\0\1")))
    duration = min(n_frames * 1024, 0xFFFFFFFF)
    media = box(
        b"mdia",
        box(b"mdhd", bytes(12) + struct.pack(">IIHH", rate_hz, duration, 0x55C4, 0)),
        box(b"hdlr", bytes(8) + b"soun" + bytes(13)),
        box(b"minf", box(b"smhd", bytes(8)), reference, box(b"stbl", *sample_table)),
    )
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    track_header = box(
        b"tkhd", b"\0\0\0\7" + bytes(8) + struct.pack(">III", 1, 0, duration) + bytes(16) + matrix + bytes(8)
    )
    movie_header = box(
        b"mvhd",
        bytes(12)
        + struct.pack(">IIIH", rate_hz, duration, 0x10000, 0x100)
        + bytes(10)
        + matrix
        + bytes(24)
        + b"\0\0\0\2",
    )
    movie = box(b"moov", movie_header, box(b"trak", track_header, media))
    return ftyp + box(b"mdat", frame * n_frames) + movie


def box(name: bytes, *parts: bytes) -> bytes:
    """Return an MP4 box."""
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + name + body


def patched(data: bytes, offset: int, replacement: bytes) -> bytes:
    """Return ``data`` with some bytes replaced."""
    return data[:offset] + replacement + data[offset + len(replacement) :]


def grown(data: bytes, path: tuple[bytes, ...], extra: bytes) -> bytes:
    """Return an MP4 file with ``extra`` appended inside the first box at ``path``, all sizes corrected."""
    start, end, sizes_at = 0, len(data), []
    for name in path:
        while data[start + 4 : start + 8] != name:
            start += struct.unpack(">I", data[start : start + 4])[0]
            assert start < end, f"no box {name!r}"
        sizes_at.append(start)
        end = start + struct.unpack(">I", data[start : start + 4])[0]
        start += 8
    for at in sizes_at:
        data = patched(data, at, struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + len(extra)))
    return data[:end] + extra + data[end:]


def ebml(identifier: str, *parts: bytes) -> bytes:
    """Return a Matroska element; ``identifier`` is its id in hex."""
    body = b"".join(parts)
    return bytes.fromhex(identifier) + struct.pack(">Q", len(body) | 1 << 56) + body


def matroska(*top_level: bytes) -> bytes:
    """Return a Matroska file with these elements in its segment."""
    head = ebml("1A45DFA3", ebml("4282", b"matroska"), ebml("4287", b"\4"), ebml("4285", b"\2"))
    return head + ebml("18538067", ebml("1549A966", ebml("2AD7B1", b"\x0f\x42\x40")), *top_level)


def matroska_track(number: int) -> bytes:
    """Return the header of a 16-kHz mono PCM track."""
    sound = ebml("E1", ebml("B5", struct.pack(">d", 16_000.0)), ebml("9F", b"\1"), ebml("6264", b"\x10"))
    ids = (ebml("D7", struct.pack(">H", number)), ebml("73C5", struct.pack(">H", number)), ebml("83", b"\2"))
    return ebml("AE", *ids, ebml("86", b"A_PCM/INT/LIT"), sound)
