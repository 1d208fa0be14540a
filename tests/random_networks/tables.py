"""Run many seeds, and count what became of them."""

import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from random_networks.judge import Outcome, judge
from random_networks.networks import SPELLINGS, Made, draw_network, network_of
from random_networks.spelling import Block

HEAD = ("spelling", "networks", "right", "refused", "without need", "wrong", "crash")


@dataclass(frozen=True)
class Result:
    """The outcome of one network.

    Attributes:
        name: the seed, or the spelling.
        spellings: names of what it is made of.
        must_convert: whether every spelling converts.
        outcome: the verdict.
    """

    name: str
    spellings: tuple[str, ...]
    must_convert: bool
    outcome: Outcome

    @property
    def without_need(self) -> bool:
        """Refused although every spelling converts."""
        return self.outcome.verdict == "refused" and self.must_convert

    def line(self) -> str:
        """One line for people."""
        o = self.outcome
        need = " without need" if self.without_need else ""
        made = ", ".join(self.spellings)
        return f"{self.name}: {o.verdict}{need} ({o.seconds:.1f} s) [{made}] {o.detail}".rstrip()


def run_seed(seed: int) -> Result:
    """Judge the network of a seed."""
    return _result(str(seed), draw_network(seed), seed)


def run_spelling(name: str) -> Result:
    """Judge two small networks with one block of a spelling; the worse outcome counts."""
    results = [_result(name, network_of(name, seed=seed), seed) for seed in (0, 1)]
    order = ("crash", "wrong", "refused", "right")
    return min(results, key=lambda r: order.index(r.outcome.verdict))


def guilty(result: Result) -> list[Result]:
    """What the spellings of a network do alone, where they have the network's verdict."""
    alone = [run_spelling(name) for name in dict.fromkeys(result.spellings)]
    return [r for r in alone if r.outcome.verdict == result.outcome.verdict]


def run_all(run: Callable, names: Iterable, jobs: int) -> Iterator[Result]:
    """Results in order, from several processes."""
    if jobs == 1:
        yield from map(run, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run, names)


def summary(results: list[Result]) -> str:
    """The counts in total, and the time of `localize`."""
    count = Counter(r.outcome.verdict for r in results)
    without = sum(r.without_need for r in results)
    times = [r.outcome.seconds for r in results] or [0.0]
    return (
        f"{len(results)} networks: {count['right']} converted and right, "
        f"{count['refused']} refused ({without} without need), "
        f"{count['wrong']} silently wrong, {count['crash']} crashes; "
        f"localize takes {statistics.median(times):.1f} s of processor time in the median, "
        f"{max(times):.1f} s at most"
    )


def table(results: list[Result]) -> str:
    """The counts of each spelling, as Markdown.

    A network counts for each of its spellings; a refused one may be refused for another of them.
    """
    rows = []
    for name in SPELLINGS:
        of = [r for r in results if name in r.spellings]
        count = Counter(r.outcome.verdict for r in of)
        without = sum(r.without_need for r in of)
        numbers = (
            len(of),
            count["right"],
            count["refused"],
            without,
            count["wrong"],
            count["crash"],
        )
        rows.append((name, *map(str, numbers)))
    lines = ["| " + " | ".join(row).replace("|s|", r"\|s\|") + " |" for row in (HEAD, *rows)]
    return "\n".join([lines[0], "|---" * len(HEAD) + "|", *lines[1:]])


def kind_counts() -> dict[str, int]:
    """The number of spellings of statistics and contacts, and of whole blocks."""
    blocks = sum(isinstance(s, Block) for s in SPELLINGS.values())
    return {"blocks": blocks, "parts of gates": len(SPELLINGS) - blocks}


def _result(name: str, made: Made, seed: int) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # plans warn of small windows
        outcome = judge(made, seed)
    return Result(name, tuple(made.spellings), made.must_convert(), outcome)
