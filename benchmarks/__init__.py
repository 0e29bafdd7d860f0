"""The figures Tympan is judged by: speed against bare faster-whisper, word errors, invented text, memory, start time.

Run ``python -m benchmarks.run --help`` from the repository root; ``docs/benchmarks/README.md`` states the method.
"""
