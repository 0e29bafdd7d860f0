"""A contender's child process: one model, loaded once, jobs on standard input, outcomes on standard output."""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TextIO

from benchmarks.contenders import Item, Job, Outcome, Transcribe


def timed(transcribe: Transcribe, job: Job) -> Outcome:
    """Run a job in a pool of ``concurrency`` threads and time it as a whole and item by item."""

    def one(item: Item) -> tuple[str, str, float]:
        start = time.perf_counter()
        text = transcribe(item, job)
        return item.id, text, time.perf_counter() - start

    with ThreadPoolExecutor(job.concurrency) as pool:
        start = time.perf_counter()
        rows = list(pool.map(one, job.items))
        wall_s = time.perf_counter() - start
    return Outcome(wall_s, {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows})


def _contender(arguments: argparse.Namespace) -> AbstractContextManager[Transcribe]:
    if arguments.kind == "faster-whisper":
        from benchmarks.baselines import faster_whisper  # noqa: PLC0415 - each child loads only its own runtime

        return faster_whisper(arguments.model_dir)
    from benchmarks import inprocess  # noqa: PLC0415

    loops = {"pieces": inprocess.pieces, "words": inprocess.words}
    return loops.get(arguments.kind, inprocess.engine_loop)()


def _serve(transcribe: Transcribe, answers: TextIO) -> None:
    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({"ready": True})
    for line in sys.stdin:
        try:
            answer(asdict(timed(transcribe, Job.from_dict(json.loads(line)))))
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            answer({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Load the model that the arguments name, then answer jobs until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["faster-whisper", "in-process", "pieces", "words"])
    parser.add_argument("--model-dir", default="")
    arguments = parser.parse_args()
    # Libraries print to standard output at times; only outcomes may go to the parent.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with _contender(arguments) as transcribe:
        _serve(transcribe, answers)


if __name__ == "__main__":
    main()
