"""Options for the way to restore images, and what they make of a network."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from glocal.cli.arguments import train_size_of
from glocal.cli.estimates import say_comparison
from glocal.cli.reporting import say, waiting
from glocal.errors import ArgumentError
from glocal.inference.ways import DEFAULT_WAY, Way, check_way
from glocal.texts import size_text

if TYPE_CHECKING:
    from torch import nn

    from glocal.inference.options import Tiles
    from glocal.inference.settings import Settings
    from glocal.networks import LoadedNetwork

__all__ = [
    "Check",
    "FallbackChoice",
    "FallbackOption",
    "SettingsFile",
    "Stride",
    "WayOption",
    "check_options",
    "checked",
    "chosen",
    "fallback_of",
    "prepared",
    "tiles_of",
]

WayOption = Annotated[
    Way | None,
    typer.Option(
        "--way",
        metavar="WAY",
        help="windows (TLC), crops and auto convert the network: its global operations take their "
        "statistics from windows of the map, from crops of the image, or from both. full runs the "
        "original network on the whole image, stitch on blended tiles of the train size. degraded "
        "leaves the photograph as it is.  "
        f"[dim]\\[default: {DEFAULT_WAY}][/dim]",
        rich_help_panel="Local operations (TLC)",
    ),
]
Stride = Annotated[
    float | None,
    typer.Option(
        "--stride",
        metavar="CROPS",
        help="Largest distance between the crops of statistics, as a multiple of their size.  "
        "[dim]\\[default: 1][/dim]",
        rich_help_panel="Local operations (TLC)",
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check/--no-check",
        help="Compare windows, crops and full image on the first photograph, and say what may do "
        "harm. The result is kept for later runs of the network.",
        rich_help_panel="Local operations (TLC)",
    ),
]
FallbackChoice: TypeAlias = Literal["auto", "always", "never"]
FallbackOption = Annotated[
    FallbackChoice,
    typer.Option(
        "--fallback",
        help="Run the original network on each whole photograph too, and take areas from its "
        "result where local ones have colour mosaics or checkerboards. auto does so if the check "
        "finds such areas.",
        rich_help_panel="Local operations (TLC)",
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="Read options from a file written by [bold]glocal tune[/bold]; options on the command "
        "line take precedence.",
        rich_help_panel="Files",
        show_default=False,
    ),
]


def chosen(
    path: Path | None,
    way: Way | None,
    *,
    precision: Literal["exact", "fast"],
    fallback: FallbackChoice,
    smooth_statistics: object = None,
    tile: Any,
    halo: int | None,
    overlap: int | float | None,
    blend: Any,
    **options: Any,
) -> "Settings":
    """Return the settings of a file combined with those of the command line.

    Raises:
        ArgumentError: an option has no effect in this way, or a value is wrong.
    """
    from glocal.inference.settings import Settings

    settings = Settings() if path is None else Settings.read(path)
    way = way or settings.way
    if path and settings.model and options.get("model") not in (None, settings.model):
        say(f"{path} was made for {settings.model}", "yellow", "note")
    stitched = {"tile": None if tile == "auto" else tile, "overlap": overlap, "blend": blend}
    # a converted network takes tiles too, when memory is short, and so does one with a halo
    others = stitched if way in ("full", "degraded") and halo is None else {}
    check_options(way, precision=precision, **options, **others)
    check_way(
        way,
        {
            "fallback": None if fallback == "auto" else fallback,
            "smooth_statistics": smooth_statistics,
        },
        command_line=True,
    )
    if way == "stitch" and halo is not None:
        raise ArgumentError("--halo has no effect with --way stitch, which blends its tiles")
    return settings.changed(way=way, **options, **(stitched if way == "stitch" else {}))


def check_options(way: Way, *, precision: str, **options: Any) -> None:
    """Check that every option that is given has an effect in this way.

    Raises:
        ArgumentError: one has none.
    """
    given = {"precision": None if precision == "exact" else precision, **options}
    check_way(way, given, command_line=True)


def tiles_of(
    settings: "Settings", tile: Any, halo: int | None, overlap: Any, blend: Any
) -> "Tiles":
    """Return how images are divided; the options are those for memory, see `restore`."""
    from glocal.inference.options import Tiles

    if settings.way == "stitch":
        return settings.tiles()
    return Tiles("auto" if tile == "auto" else tile, halo, overlap, blend)


def checked(
    loaded: "LoadedNetwork",
    settings: "Settings",
    source: Path,
    *,
    is_chosen: bool,
    fallback: FallbackChoice,
    expected_s: float | None = None,
    **run: Any,
) -> tuple["Settings", bool]:
    """Return the settings after a look at the first image, and True if it calls for a fallback.

    Prints what may do harm.

    Nothing is looked at if the way converts nothing, or if the image is very large or unreadable.

    Args:
        loaded: the original.
        settings: that were chosen.
        source: the first image of the run.
        is_chosen: keep the way whatever is found.
        fallback: what was chosen; it selects the words alone.
        expected_s: seconds of a pass over that image, None if it is quick.
        run: options of `RunOptions`.
    """
    from glocal.inference.ways import CONVERTING
    from glocal.study.first_look import look
    from glocal.study.options import RunOptions

    if settings.way not in CONVERTING:
        return settings, False
    settings = settings.changed(train_size=train_size_of(loaded, settings.given_train_size))
    with waiting("Comparing windows, crops and full image"):
        seen = look(
            loaded.network, settings, source, is_chosen=is_chosen, run=RunOptions(**run),
            before=partial(say_comparison, expected_s),
        )  # fmt: skip
    if seen.problem:
        say(f"the ways were not compared: {seen.problem}", "yellow", "note")
    found, way = seen.found, seen.settings.way
    if found is None:
        return settings, False
    if found.windows_do_harm:
        then = "compare with --way crops" if is_chosen else "taking --way crops"
        say(f"{found.harm()}; {then}", "yellow", "warning")
    if found.hangs_on_train_size:
        say(found.doubt(), "yellow", "note")
    if seen.has_areas:
        say(f"{found.mosaic(way)}; {_REMEDIES[fallback]}", "yellow", "note")
    return seen.settings, seen.has_areas


_REMEDIES: Mapping[FallbackChoice, str] = {
    "auto": "such areas are taken from the full-image result, unless --fallback never is given",
    "always": "such areas are taken from the full-image result",
    "never": "leave out --fallback never to take such areas from the full-image result",
}


def fallback_of(
    fallback: FallbackChoice, loaded: "LoadedNetwork", network: "nn.Module", *, has_areas: bool
) -> "nn.Module | None":
    """Return the network whose full-image result serves as fallback, or None.

    Args:
        fallback: what was chosen.
        loaded: the original.
        network: the network to run. One in which nothing is local has no use for a fallback.
        has_areas: as `checked` found.
    """
    from glocal.conversion.inside import converted_network, own_plan

    if fallback == "never" or (fallback == "auto" and not has_areas):
        return None
    found = converted_network(network)
    plan = None if found is None else own_plan(found)
    return loaded.network if plan is not None and plan.with_status("local") else None


def prepared(
    loaded: "LoadedNetwork", settings: "Settings", **options: Any
) -> tuple["nn.Module", "Settings", dict[str, str]]:
    """Return the network to run, its complete settings, and a description.

    Args:
        loaded: the original.
        settings: that were chosen.
        options: others of `localize`.

    Raises:
        GlocalError: the training size is unknown, or the network cannot be converted.
    """
    from glocal.conversion.localize import plan_of

    if settings.way == "degraded":
        text = "degraded: no network runs, the photograph stays as it is"
        return settings.network(loaded.network), settings, {"way": text}
    if settings.way == "full":
        return loaded.network, settings, {"way": "full: the original network on the whole image"}
    size = train_size_of(loaded, settings.given_train_size)
    settings = settings.changed(train_size=size)
    if settings.way == "stitch":
        return loaded.network, settings, {"way": f"stitch: {_stitched(settings)}"}
    with waiting("Looking for global operations"):
        network = settings.network(loaded.network, **options)
    plan = plan_of(network)
    for text in plan.warnings():
        say(text, "yellow", "warning")
    done = f"{plan.sources()}; {plan.summary()}" if plan.rows else "no global operations to convert"
    return network, settings, {"way": f"{settings.way}: {done}"}


def _stitched(settings: "Settings") -> str:
    tiles = settings.tiles()
    assert tiles.given_size is not None
    overlap = 1 / 8 if tiles.overlap is None else tiles.overlap
    shared = f"{overlap} pixels" if isinstance(overlap, int) else f"{100 * overlap:g} %"
    blended = {"linear": "faded into each other", "mean": "averaged", "cut": "cut between"}
    return (
        f"the original network on tiles of {size_text(tiles.given_size)} that overlap by {shared} "
        f"or more, {blended[tiles.blend or 'linear']}"
    )
