"""An evaluation as one HTML page that needs nothing but the pictures beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from glocal.study.evaluation.pictures import TARGET
from glocal.study.evaluation.records import DEGRADED, Evaluation
from glocal.study.report.crops import Box
from glocal.study.report.tables import Table, comparison_table, image_table, number, summary_table

__all__ = ["Crop", "Shown", "page"]


@dataclass(frozen=True)
class Crop:
    """A place at which the ways differ.

    Attributes:
        box: where.
        pictures: file of each way there, relative to the page.
        psnr: of each way there, in dB; empty where there is no target.
    """

    box: Box
    pictures: Mapping[str, str]
    psnr: Mapping[str, float]


@dataclass(frozen=True)
class Shown:
    """An image that the page shows.

    Attributes:
        image: its name in the data set.
        size: (height, width) of the restored image.
        pictures: file of each way, of the degraded image and the target, relative to the page.
        crops: where the ways differ most.
    """

    image: str
    size: tuple[int, int]
    pictures: Mapping[str, str]
    crops: Sequence[Crop]


def page(evaluation: Evaluation, shown: Sequence[Shown] = ()) -> str:
    """The report as HTML: tables with the protocol, and of each shown image a slider and crops.

    Every name is escaped. The page loads nothing from the network and works from a file.
    """
    protocol = evaluation.protocol
    comparison = comparison_table(evaluation)
    plans = "".join(
        f"<h3>{escape(way)}</h3>\n<pre tabindex=0>{escape(plan)}</pre>\n"
        for way, plan in protocol.plans.items()
    )
    sections = "\n".join(_shown(each, evaluation, index) for index, each in enumerate(shown))
    template = files("glocal.study.report").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(
        title=escape(protocol.network),
        data=escape(protocol.data),
        count="1 image" if protocol.images == 1 else f"{protocol.images} images",
        failures=_failures(evaluation),
        summary=_section(summary_table(evaluation), evaluation),
        comparison="" if comparison is None else _section(comparison, evaluation),
        images=_figure(image_table(evaluation), evaluation),
        shown="<h2>Pictures</h2>\n" + sections if shown else "",
        plans=plans,
    )


def _section(table: Table, evaluation: Evaluation) -> str:
    return f"<h2>{escape(table.title)}</h2>\n{_figure(table, evaluation)}"


def _figure(table: Table, evaluation: Evaluation) -> str:
    """A table and the protocol below it."""
    sentences = "".join(f"<li>{escape(text)}" for text in evaluation.protocol.sentences())
    return (
        f"<figure class=table>\n<div class=scroll tabindex=0 role=region "
        f'aria-label="{escape(table.title)}">\n<table>\n'
        f"<thead><tr>{_cells('th', table.columns, table.texts)}</tr></thead>\n<tbody>\n"
        + "".join(f"<tr>{_cells('td', row, table.texts)}</tr>\n" for row in table.rows)
        + f"</tbody>\n</table>\n</div>\n<figcaption><ul>{sentences}</ul></figcaption>\n</figure>"
    )


def _cells(tag: str, cells: tuple[str, ...], texts: int) -> str:
    """Cells of a row; the names of a row are its heads."""
    row = []
    for index, cell in enumerate(cells):
        scope = "col" if tag == "th" else "row"
        if tag == "th" or index < texts:
            kind = "" if index < texts else " class=number"
            row.append(f"<th scope={scope}{kind}>{escape(cell)}</th>")
        else:
            row.append(f"<td>{escape(cell)}</td>")
    return "".join(row)


def _failures(evaluation: Evaluation) -> str:
    lines = "".join(
        f"<li>{escape(each.image)}{', ' if each.way else ''}{escape(each.way)}: "
        f"{escape(each.error)}"
        for each in evaluation.failures
    )
    return f"<section class=failed><h2>Failed</h2><ul>{lines}</ul></section>" if lines else ""


def _shown(shown: Shown, evaluation: Evaluation, index: int) -> str:
    height, width = shown.size
    names = list(shown.pictures)
    ways = [name for name in names if name not in (DEGRADED, TARGET)]
    sides = [DEGRADED, next((n for n in ways if n in evaluation.protocol.plans), ways[-1])]
    labels = ["left", "right"]
    options = [_options(shown.pictures, side) for side in sides]
    choices = "".join(
        f"<label>{label} <select data-side={label}>{listed}</select></label>"
        for label, listed in zip(labels, options, strict=True)
    )
    views = "".join(
        f'<img class={label} src="{escape(shown.pictures[side])}" alt="{escape(side)}" '
        f"width={width} height={height} loading=lazy>"
        for label, side in zip(labels, sides, strict=True)
    )
    crops = "\n".join(_crop(crop, evaluation) for crop in shown.crops)
    heading = "<h4>Where the ways differ most</h4>" if shown.crops else ""
    return (
        f"<section class=shown aria-labelledby=image-{index}>\n"
        f"<h3 id=image-{index}>{escape(shown.image)} <small>{height} × {width}</small></h3>\n"
        f"{_facts(shown.image, evaluation)}\n"
        f'<div class=compare style="--ratio:{width}/{height};--width:{width}px">\n'
        f"<div class=choices>{choices}</div>\n"
        f"<div class=view>{views}<span class=line aria-hidden=true></span>"
        f"<input type=range min=0 max=100 step=any value=50 "
        f'aria-label="Part of the left picture that is seen, in percent"></div>\n'
        f"</div>\n{heading}\n{crops}\n</section>"
    )


def _options(pictures: Mapping[str, str], chosen: str) -> str:
    return "".join(
        f'<option value="{escape(file)}"{" selected" if name == chosen else ""}>{escape(name)}'
        for name, file in pictures.items()
    )


def _facts(image: str, evaluation: Evaluation) -> str:
    """The first metric of every way on an image."""
    if not evaluation.metrics:
        return ""
    metric = evaluation.metrics[0]
    values = {r.way: r.metrics.get(metric) for r in evaluation.records if r.image == image}
    items = "".join(
        f"<div><dt>{escape(way)}</dt><dd>{escape(number(metric, value))}</dd></div>"
        for way, value in values.items()
    )
    return f'<dl aria-label="{escape(metric)}"><div class=metric>{escape(metric)}</div>{items}</dl>'


def _crop(crop: Crop, evaluation: Evaluation) -> str:
    box = crop.box
    best = max(
        (value for name, value in crop.psnr.items() if name in evaluation.protocol.ways),
        default=None,
    )
    figures = []
    for name, file in crop.pictures.items():
        value = crop.psnr.get(name)
        text = "" if value is None else f"{number('psnr', value)} dB"
        strong = value is not None and value == best and name in evaluation.protocol.ways
        figures.append(
            f'<figure><img src="{escape(file)}" alt="{escape(name)}" width={2 * box.width} '
            f"height={2 * box.height} loading=lazy><figcaption>{escape(name)}"
            f"<span{' class=best' if strong else ''}>{text}</span></figcaption></figure>"
        )
    place = f"{box.height} × {box.width} pixels at row {box.top}, column {box.left}"
    return (
        f"<div class=crops><p>{place}</p>\n<div class=scroll tabindex=0 role=region "
        f'aria-label="{place}">\n' + "\n".join(figures) + "\n</div></div>"
    )
