"""Models that are no Whisper, exported to ONNX: Parakeet, Canary, GigaAM, Moonshine and others.

Not to be confused with ``tympan.engine.onnx``, which runs CTranslate2's Whisper weights on the same runtime.
"""
