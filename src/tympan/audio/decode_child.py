"""What runs inside a decoder child: media bytes on one descriptor in, 16-bit mono samples on another out.

This is the only code that hands untrusted bytes to a media library, and it assumes that the library may do anything.
It bounds what is tried (containers, codecs, streams, rates, channels) and counts what comes out; the sandbox around it
and the server at the other end of the pipe bound the rest.
"""

import contextlib
import importlib
import io
import itertools
import pkgutil
import wave
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph

from tympan.audio import template
from tympan.audio.child_io import MIN_OUTPUT_S, MediaFile, Output, send_frame
from tympan.audio.signatures import describe, wav_sample_bits
from tympan.audio.stereo import StereoMixer
from tympan.audio.template import Job
from tympan.errors import CorruptMedia, EmptyAudio, NoAudioStream, NotStereo, TympanError, UnsupportedMedia

CONTAINERS = (
    "wav,w64,aiff,caf,au,flac,mp3,ogg,mov,matroska,aac,amr,asf,flv,mpegts,wv,tta,ape,mpc,mpc8,gsm,nistsphere,ac3,eac3"
)
"""Demuxers that may be tried; none of them opens another file or address."""

CODECS = frozenset({
    "aac", "aac_latm", "alac", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "flac", "vorbis",
    "opus", "libopus", "speex", "libspeex", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "gsm",
    "gsm_ms", "ac3", "eac3", "wavpack", "tta", "ape", "mpc7", "mpc8", "wmav1", "wmav2", "wmapro", "wmalossless",
    "wmavoice", "nellymoser", "g722", "g726", "g726le", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt",
    "adpcm_swf", "adpcm_yamaha", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s8_planar", "pcm_u16le",
    "pcm_u16be", "pcm_s16le", "pcm_s16be", "pcm_s16le_planar", "pcm_s16be_planar", "pcm_u24le", "pcm_u24be",
    "pcm_s24le", "pcm_s24be", "pcm_s24le_planar", "pcm_u32le", "pcm_u32be", "pcm_s32le", "pcm_s32be",
    "pcm_s32le_planar", "pcm_s64le", "pcm_s64be", "pcm_f16le", "pcm_f24le", "pcm_f32le", "pcm_f32be",
    "pcm_f64le", "pcm_f64be",
})  # fmt: skip
"""Decoders that may be run."""

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = 8
MIN_SAMPLE_BITS = 8
MAX_STREAMS = 64
_MAX_BAD_PACKETS = 200
_READ_BYTES = 65_536
_NOT_NEEDED = frozenset({"av.__main__", "av.datasets"})
_FRAME_BYTES = template.MAX_PCM_BYTES
_PAIR = 2
_FLOAT_FORMATS: dict[str, type[np.floating]] = {
    "flt": np.float32,
    "fltp": np.float32,
    "dbl": np.float64,
    "dblp": np.float64,
}
# Codecs whose file can spell out a NaN; the others compute their floats.
_RAW_FLOATS = ("pcm_f", "wavpack")
# How the library says no; a stream that appears in mid-file ends in an IndexError.
_REFUSALS = (av.FFmpegError, OSError, ValueError, OverflowError, IndexError)
_OPTIONS = {
    "format_whitelist": CONTAINERS,
    "codec_whitelist": ",".join(sorted(CODECS)),
    "protocol_whitelist": "none",
    "max_streams": str(MAX_STREAMS),
}


def prepare() -> str:
    """Load everything a child will need, and use it once, because a child can open no file; return the versions."""
    av.logging.set_level(None)
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in _NOT_NEEDED:
            importlib.import_module(module.name)
    for rate_hz in (8_000, 44_100):
        _decode(io.BytesIO(_silent_wav(rate_hz)), Output(_discard, rate_hz=16_000, max_samples=rate_hz * 2))
    return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"


def _silent_wav(rate_hz: int) -> bytes:
    wav = io.BytesIO()
    with wave.open(wav, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(bytes(rate_hz))
    return wav.getvalue()


def _discard(kind: bytes, body: bytes) -> None:
    """Take a frame that nobody wants."""


def run(job: Job) -> None:
    """Decode the file on ``MEDIA_FD`` into frames on ``OUTPUT_FD``; the last frame says how it ended."""
    output = Output(send_frame, job.sample_rate_hz, job.max_samples, job.channels)
    try:
        end = _decode(MediaFile(), output)
    except TympanError as error:
        output.refuse(error)
    except MemoryError:
        output.refuse(UnsupportedMedia("Decoding this file needs more memory than one file may use."))
    else:
        output.finish(end)


class Mixer:
    """Any audio frames to one rate, and to one channel or to left and right.

    Of two channels the one is their mean, unless they cancel (see ``stereo``); of any other number always the mean.
    """

    def __init__(self, sample_rate_hz: int, channels: int = 1) -> None:
        """Mix to ``sample_rate_hz`` and ``channels``, 1 or 2."""
        self._rate_hz = sample_rate_hz
        self._channels = channels
        self._shape: tuple[str, str, int] | None = None
        self._graph: Graph | None = None
        self._pair: StereoMixer | None = None

    def mix(self, frame: AudioFrame) -> Iterator[bytes]:
        """Take one frame; yield the blocks of 16-bit samples that are complete.

        Raises ``NotStereo`` when two channels are wanted of a frame that has any other number.
        """
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # some streams change their shape on the way
            yield from self.flush()
        if self._graph is None:
            self._shape = shape
            self._start(frame)
        frame.pts = None
        yield from self._passed(frame)

    def flush(self) -> Iterator[bytes]:
        """Yield what is left and start anew."""
        if self._graph is not None:
            yield from self._passed(None)
        if self._pair is not None:
            yield self._pair.finish().tobytes()
        self._graph = self._shape = self._pair = None

    def _start(self, frame: AudioFrame) -> None:
        found = frame.layout.nb_channels
        if self._channels == _PAIR and found != _PAIR:
            raise NotStereo(
                f"To tell speakers apart, each needs a channel of a stereo recording; this one has {found}.",
                remedy="Leave diarize_by out to tell speakers apart by voice, or send one speaker on each channel.",
            )
        self._graph = _build_graph(frame, self._rate_hz)
        self._pair = StereoMixer() if found == _PAIR and self._channels == 1 else None

    def _passed(self, frame: AudioFrame | None) -> Iterator[bytes]:
        assert self._graph is not None  # noqa: S101 - the caller has seen to it
        for block in _pass_through(self._graph, frame):
            yield (
                block
                if self._pair is None
                else self._pair.push(np.frombuffer(block, np.int16).reshape(-1, _PAIR)).tobytes()
            )


def _build_graph(frame: AudioFrame, rate_hz: int) -> Graph:
    channels = frame.layout.nb_channels
    is_pair = channels == _PAIR
    mean = "+".join(f"{1 / channels:.9f}*c{channel}" for channel in range(channels))
    layout = "stereo" if is_pair else "mono"
    graph = Graph()
    graph.threads = 1
    with _conversion():
        steps = [
            graph.add(
                "abuffer",
                sample_rate=str(frame.sample_rate),
                sample_fmt=frame.format.name,
                channel_layout=frame.layout.name,
                time_base=f"1/{frame.sample_rate}",
            ),
            graph.add("pan", "stereo|c0=c0|c1=c1" if is_pair else f"mono|c0={mean}"),
            graph.add("aformat", sample_rates=str(rate_hz), sample_fmts="s16", channel_layouts=layout),
            graph.add("abuffersink"),
        ]
        for step, following in itertools.pairwise(steps):
            step.link_to(following)
        graph.configure()
        graph.set_audio_frame_size(_FRAME_BYTES // (4 if is_pair else 2))
    return graph


def _pass_through(graph: Graph, frame: AudioFrame | None) -> list[bytes]:
    """Push a frame, or ``None`` for the end; return the blocks that are complete."""
    blocks: list[bytes] = []
    with _conversion(), contextlib.suppress(av.BlockingIOError, av.EOFError):
        graph.push(frame)
        while True:
            mixed = cast("AudioFrame", graph.pull())
            size = 2 * mixed.layout.nb_channels * mixed.samples
            blocks.append(bytes(memoryview(mixed.planes[0])[:size]))
    return blocks


@contextlib.contextmanager
def _conversion() -> Iterator[None]:
    """Turn the library's refusal to convert into ``UnsupportedMedia``."""
    try:
        yield
    except MemoryError:
        raise
    except _REFUSALS as error:
        raise UnsupportedMedia(
            f"This audio cannot be converted to 16 kHz mono ({_text(error)}).",
            remedy="Convert the file to WAV, FLAC or MP3.",
        ) from error


def _decode(source: MediaFile | io.BytesIO, output: Output) -> dict[str, object]:
    """Decode everything that can be decoded; return the facts for the end frame."""
    head = source.read(512)
    source.seek(0)
    bits = wav_sample_bits(head)
    if bits is not None and bits < MIN_SAMPLE_BITS:  # played as if it were 8-bit otherwise
        raise UnsupportedMedia(f"The WAV file declares {bits}-bit samples.", remedy="Convert it to 16-bit samples.")
    container = _open(source, head)
    stream = _first_audio(container)
    frames = Frames(container, stream)
    mixer = Mixer(output.rate_hz, output.channels)
    for frame in frames:
        for pcm in mixer.mix(frame):
            output.write(pcm)
    for pcm in mixer.flush():
        output.write(pcm)
    _check_result(output, frames)
    context = stream.codec_context
    return {"codec": context.name, "rate_hz": context.sample_rate, "channels": context.layout.nb_channels}


def _check_result(output: Output, frames: "Frames") -> None:
    if output.samples and frames.only_nonsense:
        raise CorruptMedia("The audio holds no finite sample, only NaN or infinity.", remedy="Export it again.")
    if not output.is_too_short:
        return
    if frames.bad_packets:
        raise CorruptMedia(remedy="Check that the upload is complete, or convert the file again.")
    if not output.samples and frames.declared:
        raise CorruptMedia("The file declares audio, but none of it could be decoded.", remedy="Convert it again.")
    if not output.samples:
        raise EmptyAudio("The file has an audio stream, but no samples in it.", remedy="Check the recording.")
    found_ms = 1000 * output.samples / output.rate_hz
    cause = f"The audio is {found_ms:.0f} ms long; speech needs at least {MIN_OUTPUT_S * 1000:.0f} ms."
    raise EmptyAudio(cause, remedy="Send a longer recording.")


def _open(source: MediaFile | io.BytesIO, head: bytes) -> InputContainer:
    try:
        container: InputContainer = av.open(
            source,
            "r",
            options=_options(head),
            io_open=_open_nothing,
            buffer_size=_READ_BYTES,
            metadata_errors="replace",
        )
    except MemoryError:
        raise
    except _REFUSALS as error:
        _refuse_unopened(head, error)
    return container


def _options(head: bytes) -> dict[str, str]:
    # In every WAV the library looks for other codings disguised as samples; it takes longer than decoding the samples.
    return _OPTIONS | ({"max_probe_packets": "1"} if head[8:12] == b"WAVE" else {})


def _open_nothing(*_: object) -> NoReturn:
    """Refuse every file or address that a media file asks to have opened."""
    raise PermissionError("a media file may not open another")


def _refuse_unopened(head: bytes, error: Exception) -> NoReturn:
    kind, is_audio = describe(head)
    if is_audio:
        raise CorruptMedia(
            f"This looks like {kind}, but it is damaged or of a variant that cannot be read ({_text(error)}).",
            remedy="Check that the upload is complete, or convert the file to WAV, FLAC or MP3.",
        ) from error
    cause = f"This looks like {kind}, not audio." if kind else "The file is not audio in a known format."
    raise UnsupportedMedia(cause, remedy="Send WAV, FLAC, MP3, M4A, OGG, WebM or another common format.") from error


def _first_audio(container: InputContainer) -> AudioStream:
    """Return the first audio stream, with its declared rate, channels and codec checked."""
    if not container.streams.audio:
        raise NoAudioStream(remedy="Send a file with an audio track.")
    stream = container.streams.audio[0]
    context = cast("AudioCodecContext | None", stream.codec_context)  # none where the library has no decoder
    if context is None or context.name not in CODECS:
        cause = f"The audio codec ({context.name if context else 'unknown'}) is not supported."
        raise UnsupportedMedia(cause, remedy="Convert the file to WAV, FLAC or MP3.")
    if context.sample_rate:
        _check_shape(context.sample_rate, context.layout.nb_channels)
    context.thread_count = 1
    return stream


def _check_shape(rate_hz: int, channels: int) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise UnsupportedMedia(
            f"The sample rate is {rate_hz} Hz; rates from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are accepted.",
            remedy="Resample the file, for example to 16000 Hz.",
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnsupportedMedia(
            f"The audio has {channels} channels; 1 to {MAX_CHANNELS} are accepted.", remedy="Mix it down to mono."
        )


class Frames:
    """The decoded frames of one stream, past damage where the format allows it."""

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        """Iterate over ``stream``."""
        self._container = container
        self._stream = stream
        self._check_floats = stream.codec_context.name.startswith(_RAW_FLOATS)
        self._finite = not self._check_floats
        self.bad_packets = 0

    @property
    def declared(self) -> bool:
        """Whether the file says that there are frames; it need not be true."""
        return self._stream.frames > 0

    @property
    def only_nonsense(self) -> bool:
        """Whether not a single sample was a finite number."""
        return not self._finite

    def __iter__(self) -> Iterator[AudioFrame]:
        """Yield frames of an accepted shape. Raises ``UnsupportedMedia`` at the first one that is not."""
        for frame in self._decoded():
            _check_shape(frame.sample_rate, frame.layout.nb_channels)
            if self._check_floats:
                self._clean(frame)
            yield frame

    def _decoded(self) -> Iterator[AudioFrame]:
        bad_in_a_row = 0
        for decode in self._packets():
            try:
                frames = decode()
            except av.EOFError:
                return
            except MemoryError:
                raise
            except _REFUSALS:
                self.bad_packets += 1
                bad_in_a_row += 1
                if bad_in_a_row > _MAX_BAD_PACKETS:
                    return
                continue
            bad_in_a_row = 0
            yield from frames

    def _packets(self) -> Iterator[Callable[[], Iterable[AudioFrame]]]:
        """Yield one call per packet; where the container breaks off, end with the call that drains the decoder."""
        try:
            for packet in self._container.demux(self._stream):
                yield packet.decode
        except MemoryError:
            raise
        except _REFUSALS:
            self.bad_packets += 1
            yield lambda: self._stream.codec_context.decode(None)

    def _clean(self, frame: AudioFrame) -> None:
        kind = _FLOAT_FORMATS.get(frame.format.name)
        if kind is None:
            self._finite = True
            return
        for plane in frame.planes:
            values = np.frombuffer(memoryview(plane), kind)
            finite = np.isfinite(values)
            self._finite = self._finite or bool(finite.any())
            plane.update(np.clip(np.where(finite, values, 0), -4, 4).astype(kind).tobytes())


def _text(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]
