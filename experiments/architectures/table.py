"""Write results.json as the page docs/architectures.md."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]

INTRODUCTION = """\
# Architectures

<!-- made by experiments/architectures/run.py: edit that -->

What `glocal.localize` makes of the field's networks, with `allow_global=True`. The networks have
random weights, fewer blocks and channels than published, and the same structure.

- **crop**: side of the training crops in pixels (of the low-resolution crops for super-resolution),
  from memory of papers and training options, not checked one by one; 64? where unknown.
- **rule**, **rewrite**: global operations converted by a rule of `DEFAULT_RULES`, or by rewriting
  the graph of the block around them; operations that are converted together count as one.
  **left**: operations that stayed global; the reasons are below.
- **equal**: largest difference of the converted network from the original at the training size,
  where every window covers its map, relative to the largest value, in float64 (float32, marked *,
  where the network's code requires it). Passed at {float64} ({float32} in float32).
- **effect**: the same at twice the height, which is the effect of the windows.
- **theirs**: the largest difference from the authors' own local version at twice the height; what
  that version leaves global is left global here too.
- **s**: processor seconds for scan, conversion and proof, one thread.
"""

OFFICIAL = """
## From the authors' repositories

`experiments/architectures/official.py` names the file, the class and the arguments; the source is
read from a checkout that you have. The commit is the one that was read. To be quick, larger crops
than 128 pixels were measured at 128.
"""

SPANDREL = """
## From spandrel

Every architecture of [spandrel](https://github.com/chaiNNer-org/spandrel) and
spandrel_extra_arches.
"""

COLUMNS = "network purpose crop operations rule rewrite left equal effect s".split()
OUTCOMES = {
    "all": "all global operations local",
    "part": "some",
    "none": "none",
    "nothing": "no global operation: nothing to convert",
    "fixed": "of one input size, where windows have no effect",
    "unscanned": "not converted, with an error",
    "unbuilt": "not built or not in time",
}


def outcome(record: Record) -> str:
    """One of `OUTCOMES`."""
    if record["stage"] in ("build", "time"):
        return "unbuilt"
    if "rows" not in record:
        return "fixed" if record.get("fixed_size") else "unscanned"
    status = Counter(row["status"] for row in record["rows"])
    if not status:
        return "nothing"
    if not status["global"]:
        return "all"
    return "part" if status["local"] else "none"


def write_table(results: Record, path: Path) -> None:
    """Write the page."""
    tolerance = {key: f"{value:.0e}" for key, value in results["tolerance"].items()}
    lines = [INTRODUCTION.format(**tolerance)]
    if official := results.get("official"):
        repositories = len({record["repository"] for record in official})
        lines += [OFFICIAL, _totals(official, f"{repositories} repositories"), ""]
        columns = [*COLUMNS, "theirs", "source"]
        rows = [[*_row(r), _theirs(r), f"{r['repository']} {r['commit'][:7]}"] for r in official]
        lines += [*_markdown([columns, *rows]), *_left(official)]
    if networks := results.get("networks"):
        architectures = len({record["architecture"] for record in networks})
        lines += [SPANDREL, _totals(networks, f"{architectures} architectures"), ""]
        lines += [*_markdown([COLUMNS, *map(_row, networks)]), *_left(networks)]
    spandrel = f", spandrel {results['spandrel']}" if results["spandrel"] else ""
    lines += ["", f"torch {results['torch']}{spandrel}."]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _left(networks: list[Record]) -> list[str]:
    """The operations that stayed global and the networks that did not run, with the reasons."""
    lines: list[str] = []
    if left := [record for record in networks if outcome(record) in ("part", "none")]:
        lines += ["", "Left global:", ""]
        lines += _markdown([["network", "operations", "why"], *_reasons(left)])
    if failed := [record for record in networks if "error" in record]:
        lines += ["", "Errors:", ""]
        lines += _markdown(
            [["network", "outcome", "stage", "error", "where"]]
            + [
                [
                    r["name"],
                    OUTCOMES[outcome(r)],
                    r["stage"],
                    _cell(r["error"]),
                    _cell(r.get("cause", "–")),
                ]
                for r in failed
            ]
        )
    return lines


def _totals(networks: list[Record], of: str) -> str:
    count = Counter(outcome(record) for record in networks)
    listed = "; ".join(f"{count[key]} {text}" for key, text in OUTCOMES.items() if count[key])
    checked = [record["equal"] for record in networks if "equal" in record]
    return (
        f"**{len(networks)} networks of {of}: {listed}.** "
        f"Of the {sum(count[key] for key in ('all', 'part'))} converted, {sum(checked)} equal "
        "their original at the training size."
    )


def _row(record: Record) -> list[str]:
    rows = record.get("rows")
    by = Counter(row["by"] for row in rows or ())
    mark = "*" if record.get("dtype") == "float32" else ""
    converted = "equal" in record
    crop = record["train_size"]
    size = str(crop) if isinstance(crop, int) else "×".join(map(str, crop))
    return [
        record["name"],
        record["purpose"],
        size if record.get("train_size_from", True) else f"{size}?",
        _operations(rows) if rows else "–",
        *(str(by[key] or "–") if rows is not None else "" for key in ("rule", "rewrite", "none")),
        f"{record['difference']:.0e}{mark}{'' if record['equal'] else ' no'}" if converted else "–",
        f"{record['effect']:.0e}" if converted and "effect" in record else "–",
        f"{record['seconds']:.0f}" if "seconds" in record else "–",
    ]


def _theirs(record: Record) -> str:
    compared = "their_local" in record and "equal" in record
    return f"{record['their_local']:.0e}" if compared else "–"


def _operations(rows: Iterable[Record]) -> str:
    names = Counter(name for row in rows for name in row["operation"].split(", "))
    return ", ".join(f"{number} {name}" for name, number in sorted(names.items()))


def _reasons(networks: Iterable[Record]) -> Iterable[list[str]]:
    for record in networks:
        left = [row for row in record["rows"] if row["status"] == "global"]
        for how in dict.fromkeys(row["how"] for row in left):
            same = [row for row in left if row["how"] == how]
            places = Counter(f"{row['operation']} ({row['line']})" for row in same)
            listed = ", ".join(f"{number} {place}" for place, number in places.items())
            yield [record["name"], listed, _cell(how)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _markdown(table: list[list[str]]) -> list[str]:
    head, *body = table
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]
