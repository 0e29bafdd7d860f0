"""``python -m benchmarks.scale [measure]``: compute and simulate, after measuring if asked to, and write the page."""

import sys

from benchmarks.scale.document import FIGURES, PAGE, RESULTS, build, engine_rates, load, save
from benchmarks.scale.measure import measure
from benchmarks.scale.report import fill, parts_table


def main(arguments: list[str]) -> int:
    """Write the figures and the page's tables; return 2 for words it does not know."""
    if arguments not in ([], ["measure"]):
        print(__doc__, file=sys.stderr)
        return 2
    measured = {**measure(), **engine_rates(RESULTS)} if arguments else load()["measured"]
    document = build(measured)
    save(document)
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), document), encoding="utf-8")
    print(f"{parts_table(document)}\n\nwrote {FIGURES} and {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
