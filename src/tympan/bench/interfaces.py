"""Interfaces of servers that can be measured."""

from enum import StrEnum


class Api(StrEnum):
    """Which interface a server speaks: OpenAI's, that of whisper.cpp's server, that of whisper-asr-webservice."""

    OPENAI = "openai"
    INFERENCE = "inference"
    ASR = "asr"


ROUTES = {Api.OPENAI: "/v1/audio/transcriptions", Api.INFERENCE: "/inference", Api.ASR: "/asr"}
"""Where recordings are posted to."""

FILE_FIELDS = {Api.OPENAI: "file", Api.INFERENCE: "file", Api.ASR: "audio_file"}
"""What the recording is called in the form."""
