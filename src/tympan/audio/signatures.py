"""What a file's first bytes say it is: for error texts and refusals, never to decide how it is decoded."""

import struct

_PLAIN_PCM = 1

_SIGNATURES: tuple[tuple[int, bytes, str, bool], ...] = (
    (8, b"WAVE", "a WAV file", True),
    (0, b"riff\x2e\x91\xcf\x11", "a Wave64 file", True),
    (0, b"fLaC", "a FLAC file", True),
    (0, b"OggS", "an Ogg file", True),
    (0, b"ID3", "an MP3 file", True),
    (0, b"\xff\xfb", "an MP3 file", True),
    (0, b"\xff\xf3", "an MP3 file", True),
    (0, b"\xff\xf1", "an AAC file", True),
    (0, b"\xff\xf9", "an AAC file", True),
    (0, b"ADIF", "an AAC file", True),
    (4, b"ftyp", "an MP4 or M4A file", True),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file", True),
    (8, b"AIFF", "an AIFF file", True),
    (8, b"AIFC", "an AIFF file", True),
    (0, b"caff", "a CAF file", True),
    (0, b"#!AMR", "an AMR file", True),
    (0, b"wvpk", "a WavPack file", True),
    (0, b"TTA1", "a True Audio file", True),
    (0, b"MAC ", "a Monkey's Audio file", True),
    (0, b"MP+", "a Musepack file", True),
    (0, b"MPCK", "a Musepack file", True),
    (0, b".snd", "an AU file", True),
    (0, b"NIST_1A", "a SPHERE file", True),
    (0, b"FLV\x01", "an FLV file", True),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file", True),
    (8, b"AVI ", "an AVI file", False),
    (0, b"RIFF", "a truncated RIFF file", True),
    (0, b"#EXTM3U", "a playlist", False),
    (0, b"ffconcat", "a playlist", False),
    (0, b"[playlist]", "a playlist", False),
    (0, b"v=0", "a session description", False),
    (0, b"<?xml", "an XML document", False),
    (0, b"<html", "a web page", False),
    (0, b"<!DOCTYPE", "a web page", False),
    (0, b"<!doctype", "a web page", False),
    (0, b"{", "a JSON document", False),
    (0, b"%PDF", "a PDF document", False),
    (0, b"PK\x03\x04", "a ZIP archive", False),
    (0, b"\x1f\x8b", "a gzip archive", False),
    (257, b"ustar", "a tar archive", False),
    (0, b"\x89PNG", "a PNG image", False),
    (0, b"\xff\xd8\xff", "a JPEG image", False),
    (0, b"GIF8", "a GIF image", False),
    (0, b"MThd", "a MIDI file", False),
)


def describe(head: bytes) -> tuple[str, bool]:
    """Return what ``head``, a file's first bytes, looks like and whether that is a format of audio we read.

    The name is empty when nothing fits.
    """
    for offset, magic, name, is_audio in _SIGNATURES:
        if head[offset : offset + len(magic)] == magic:
            return name, is_audio
    return "", False


def wav_sample_bits(head: bytes) -> int | None:
    """Return the bits per sample that a WAV file of plain PCM declares; ``None`` for every other file."""
    at = head.find(b"fmt ")
    if head[8:12] != b"WAVE" or at < 0 or len(head) < at + 24:
        return None
    tag: int
    bits: int
    tag, bits = struct.unpack_from("<H12xH", head, at + 8)
    return bits if tag == _PLAIN_PCM else None
