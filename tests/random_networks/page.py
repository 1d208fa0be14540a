"""The page of the documentation with the counts."""

from pathlib import Path

from random_networks.tables import Result, kind_counts, summary, table

TEXT = """# Random networks

`tests/random_networks` draws networks from a grammar of {spellings} spellings: {gates} statistics
and contacts of gates, and {blocks} whole blocks. A network has 1 to 4 blocks between convolutions,
with skips, shared modules and blocks at half the size. Each spelling has a second form: a slow
reference that follows the law of windows pixel by pixel. A converted network has to

- equal the original where the windows cover the map, with and without gradients and through
  `glocal.restore`, within 1e-8 in float64;
- equal the slow reference at a larger, odd, non-square size; or, for tiles and grids, be finite
  there, and change nothing beyond its reach on a long strip.

`make test` runs 40 networks, `make test-long` 500, and prints their counts.
`python tests/random_networks/run.py --seed 17` shows one network, its outcome, and which of its
spellings fail alone.

{summary}.

"Refused" is an error of glocal's own that gives the reason; "without need" means that every
spelling of the network should convert. A network counts for each of its spellings; what it becomes
may be due to another one.

{table}

Written by `python tests/random_networks/run.py --seeds {count} --write-docs`.
"""


def write_page(page: Path, results: list[Result]) -> None:
    """Write the page."""
    kinds = kind_counts()
    page.write_text(
        TEXT.format(
            spellings=sum(kinds.values()),
            gates=kinds["parts of gates"],
            blocks=kinds["blocks"],
            count=len(results),
            summary=summary(results),
            table=table(results),
        )
    )
