"""A consumer of doorbells whose work takes long: ``python -m tests.cluster.slow_consumer BROKER HOLD_S WORK_S``.

It writes ``done`` for each piece of work, and ends on SIGTERM.
"""

import sys
import time

from tympan.jobs.celery_app import Hands, make_celery, run_consumer

_NEVER_S = 3600.0


def main(broker: str, hold_s: float, work_s: float) -> None:
    """Consume from ``broker``; a message is kept for ``hold_s`` at most, and stands for work of ``work_s``."""

    def work() -> None:
        time.sleep(work_s)
        print("done", flush=True)  # noqa: T201 (it is what the test waits for)

    run_consumer(make_celery(broker), Hands(work, 1, hold_s=hold_s), 1, look_s=_NEVER_S, on_stop=lambda: None)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
