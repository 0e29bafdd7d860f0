"""Whisper in int8 on ONNX Runtime: the engine for processors. Graphs are made from a converted model when it loads."""
