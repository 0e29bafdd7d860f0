"""Whisper models in ggml files on whisper.cpp: on processors, and on whatever GPU its library was built for."""
