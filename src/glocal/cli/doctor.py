"""``glocal doctor``: report what is installed and what is missing."""

import re
from typing import Annotated, Any

import typer

from glocal.cli.reporting import print_columns, print_json

__all__ = ["doctor", "facts"]

Facts = dict[str, Any]
"""Facts under their names, as JSON can hold them."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Report versions, devices, kernels, image formats and optional packages.

    Run it when restoration is slower than expected or a format or a command is unavailable, and
    add its output to a bug report.

    The environment variable GLOCAL_KERNELS selects the kernels: baseline, avx2 or avx512, or 0 for
    none.
    """
    report = facts()
    if as_json:
        print_json(report)
        return
    print_columns(lines(report))


def facts() -> Facts:
    """Return the facts of this installation; a part that fails to load has ``error``."""
    import platform
    from importlib.metadata import version

    return {
        "glocal": version("glocal"),
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": _or_error(_torch),
        "kernels": _or_error(_kernels),
        "libvips": _or_error(_libvips),
        "extras": _extras(),
    }


def lines(report: Facts) -> list[tuple[str, str]]:
    """Return the rows of the report: a name, empty if repeated, and a text."""
    rows = [("glocal", report["glocal"]), ("Python", report["python"])]
    torch, kernels, libvips = report["torch"], report["kernels"], report["libvips"]
    if "error" in torch:
        rows.append(("torch", f"cannot be loaded: {torch['error']}"))
    else:
        rows.append(("torch", f"{torch['version']}, {torch['threads']} threads"))
        rows += _named("devices", torch["devices"])
    if kernels.get("variant"):
        rows += _named("kernels", [f"{kernels['variant']}, on {kernels['threads']}"])
        rows.append(("", kernels["file"]))
        if kernels.get("skipped"):
            rows.append(("", kernels["skipped"]))
    else:
        rows.append(("kernels", f"off: {kernels.get('error') or kernels['reason']}"))
    if "error" in libvips:
        rows.append(("libvips", f"cannot be loaded: {libvips['error']}"))
    else:
        rows.append(("libvips", libvips["version"]))
        for kind, can in libvips["formats"].items():
            verbs = [verb if can[verb] else f"cannot {verb}" for verb in ("read", "write")]
            rows.append(("", f"{kind}: {', '.join(verbs)}"))
    extras = []
    for extra, state in report["extras"].items():
        missing = ", ".join(state["missing"])
        ready = f"{extra}: installed"
        extras.append(f"{extra}: {missing} missing; {state['install']}" if missing else ready)
    return rows + _named("extras", extras)


def _named(name: str, values: list[str]) -> list[tuple[str, str]]:
    """Yield rows, the first one with the name."""
    return [("" if i else name, value) for i, value in enumerate(values)]


def _or_error(part: Any) -> Facts:
    from glocal.texts import one_line

    try:
        result: Facts = part()
    except Exception as error:  # doctor reports what is broken, whatever it raises
        return {"error": one_line(error)}
    return result


def _torch() -> Facts:
    import torch

    from glocal.devices import described, present

    *others, cpu = present()
    devices = [described(device) for device in (cpu, *others)]
    return {"version": torch.__version__, "threads": torch.get_num_threads(), "devices": devices}


def _kernels() -> Facts:
    import warnings

    from glocal.ops.kernels.library import kernels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says why
        found = kernels()
    if found.library is None:
        return {"variant": None, "reason": found.reason}
    return {
        "variant": found.variant,
        "file": str(found.file),
        "skipped": found.skipped,
        "threads": "the threads of torch's OpenMP runtime" if found.openmp else "its own threads",
    }


def _libvips() -> Facts:
    from glocal.images.formats import libvips_version, loaders

    formats = {kind: {"read": r, "write": w} for kind, (r, w) in loaders().items()}
    return {"version": libvips_version(), "formats": formats}


def _extras() -> Facts:
    """Return the optional extras and which of their packages are missing."""
    from importlib.metadata import PackageNotFoundError, requires, version

    extras: Facts = {}
    for requirement in requires("glocal") or []:
        package = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if package is None or extra is None or extra[1] in ("dev", "docs"):
            continue
        install = f"pip install 'glocal[{extra[1]}]'"
        state = extras.setdefault(extra[1], {"missing": [], "install": install})
        try:
            version(package[0])
        except PackageNotFoundError:
            state["missing"].append(package[0])
    return extras
