"""``python -m benchmarks CORPUS [COMMAND...] [OPTION...]``: what ``make bench`` calls; see ``benchmarks/run.py``."""

import sys

from benchmarks.run import main

if __name__ == "__main__":
    corpus = sys.argv[1:2]
    is_folder = bool(corpus) and not corpus[0].startswith("-")
    sys.exit(main([*sys.argv[2:], "--corpus", corpus[0]] if is_folder else sys.argv[1:]))
