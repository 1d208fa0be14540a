"""Fall back on the full-image result in the areas where a local one parts from it.

Both networks run on the image. The full-image result comes first: if memory does not suffice for
the whole image at once, there is none, and the local network runs as it would alone.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from glocal.errors import ArgumentError, GlocalWarning
from glocal.inference.areas import Areas, parting_areas
from glocal.inference.run import Progress
from glocal.inference.tensors import AnyImage, as_batch, as_floats
from glocal.texts import share_text

__all__ = ["Fallback", "FallbackLike", "fallback_text", "restored_with_fallback"]


@dataclass(frozen=True)
class Fallback:
    """What an image falls back on, and who is told; see `glocal.restore`.

    Attributes:
        network: the original network, which makes the full-image result.
        found: called with the areas, or with None if there was no full-image result.
    """

    network: nn.Module
    found: Callable[[Areas | None], None]

    @classmethod
    def of(cls, fallback: "FallbackLike", report: Callable[[str], None] | None) -> "Fallback":
        """`fallback` itself; that of a network says in a line what was found.

        Args:
            fallback: or its network.
            report: gets the line. Without it, a warning says that areas were not looked for.
        """
        if isinstance(fallback, Fallback):
            return fallback

        def found(areas: Areas | None) -> None:
            if (text := fallback_text(areas)) and report is not None:
                report(f"fall-back: {text}")
            elif areas is None:
                warnings.warn(f"no fall-back: {NOT_LOOKED}", GlocalWarning, stacklevel=5)

        return cls(fallback, found)


FallbackLike: TypeAlias = Fallback | nn.Module
"""`Fallback`, or its network alone."""

NOT_LOOKED = (
    "areas where local and full-image results part were not looked for, as the image is restored "
    "in tiles or in part, which gives no full-image result"
)


def fallback_text(areas: Areas | None) -> str:
    """What was found, in words; empty if there are no areas.

    >>> import torch
    >>> fallback_text(Areas(torch.full((1, 1, 8, 8), 0.013), 41 / 255))
    '1.3 % of the image as the full-image result, from which the local one parts by up to 41/255'
    """
    if areas is None:
        return NOT_LOOKED
    if not areas.share:
        return ""
    return (
        f"{share_text(areas.share)} of the image as the full-image result, from which the local "
        f"one parts by up to {255 * areas.difference:.0f}/255"
    )


class _InTilesError(Exception):
    """Ends a run that would take tiles, before the first of them."""


def restored_with_fallback(
    image: AnyImage,
    fallback: Fallback,
    calls: int,
    progress: Progress | None,
    run_full: Callable[[Tensor, Progress], Tensor],
    run_local: Callable[[Tensor, Progress], Tensor],
) -> AnyImage:
    """Return the local result, with the full-image result in the areas that it parts in.

    Args:
        image: as for `as_batch`.
        fallback: is told what was found.
        calls: of a network for a whole image.
        progress: called with tiles of both runs.
        run_full: restores (b, c, h, w) by the original network, and reports its tiles.
        run_local: the same by the local network.

    Raises:
        ArgumentError: the two results differ in size or channels.
    """
    source, convert = as_batch(image)
    source = as_floats(source)
    before = calls

    def tell(done: int, total: int) -> None:
        if progress is not None and (done or not before):
            progress(before + done, before + total)

    def tell_whole(done: int, total: int) -> None:
        if total > calls:
            raise _InTilesError
        if progress is not None:
            progress(done, 2 * calls)

    try:
        full = run_full(source, tell_whole)
    except _InTilesError:
        before = 0
        fallback.found(None)
        return convert(run_local(source, tell))
    local = run_local(source, tell)
    if local.shape != full.shape:
        raise ArgumentError(
            f"fallback must be the original of the network: it makes {tuple(full.shape[1:])}, the "
            f"network {tuple(local.shape[1:])} (channels, height, width)"
        )
    areas = parting_areas(local, full, source)
    fallback.found(areas)
    return convert(areas.blended(local, full))
