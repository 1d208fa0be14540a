"""Convert random networks, and print what became of them.

python tests/random_networks/run.py --seed 17        one seed, with its network and its traceback
python tests/random_networks/run.py --seeds 500      the counts; --write-docs writes the page
python tests/random_networks/run.py --alone          each spelling in a small network
python tests/random_networks/run.py --spelling NAME  one of them
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "random-networks.md"

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(ROOT / "tests"))
sys.path[:] = [p for p in sys.path if p != str(Path(__file__).parent)]  # it has a statistics.py

from random_networks.networks import SPELLINGS, draw_network, network_of  # noqa: E402
from random_networks.page import write_page  # noqa: E402
from random_networks.tables import (  # noqa: E402
    guilty,
    run_all,
    run_seed,
    run_spelling,
    summary,
    table,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, help="one seed, verbosely")
    parser.add_argument("--seeds", type=int, help="seeds 0 to this number")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--spelling", help="one spelling in a small network, verbosely")
    parser.add_argument("--alone", action="store_true", help="every spelling in a small network")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=Path, help="file for all lines")
    parser.add_argument("--write-docs", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    if options.seed is not None or options.spelling:
        _show(options)
        return
    names = list(SPELLINGS) if options.alone else range(options.first, options.seeds or 500)
    results, lines = [], []
    for result in run_all(run_spelling if options.alone else run_seed, names, options.jobs):
        results.append(result)
        lines.append(result.line())
        print(lines[-1], flush=True)
        if options.output:
            options.output.write_text("\n".join(lines) + "\n")
    if not options.alone:
        print(table(results))
    print(summary(results))
    if options.write_docs:
        write_page(PAGE, results)


def _show(options: argparse.Namespace) -> None:
    """Print one network, its outcome, and which of its spellings fail alone."""
    if options.spelling:
        print(network_of(options.spelling))
        result = run_spelling(options.spelling)
    else:
        print(draw_network(options.seed))
        result = run_seed(options.seed)
    print(result.line())
    print(result.outcome.trace)
    if not options.spelling and result.outcome.verdict != "right":
        for alone in guilty(result):
            print("alone:", alone.line())


if __name__ == "__main__":
    main()
