"""Which image sizes a network accepts, and how an image is padded to one of them.

A network that halves its input or cuts it into windows may accept multiples of some number only.
Its training size is one of them, so a short search below it finds the number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from glocal.errors import GlocalError
from glocal.inference.tensors import reflected
from glocal.ops.windows import Size

__all__ = ["Accepted", "Law", "Padding", "accepted_sizes"]

_USUAL: tuple[Size, ...] = tuple((side, side) for side in (256, 240, 224, 384, 320, 360, 504))
"""Training sizes to search below where none is known: together multiples of 2 to 10, and more."""


@dataclass(frozen=True)
class Law:
    """How the size of the output follows from the size of the input.

    Attributes:
        scale: pixels of the output for each pixel of the input.
        lost: rows and columns of the output that convolutions without padding leave out.
    """

    scale: int = 1
    lost: Size = (0, 0)

    def output(self, size: Size) -> Size:
        """(height, width) of the output for an input."""
        rows, columns = (n * self.scale - lost for n, lost in zip(size, self.lost, strict=True))
        return rows, columns

    @property
    def margin(self) -> Size:
        """Rows above and below, columns left and right that make up for the lost ones."""
        rows, columns = (-(-lost // (2 * self.scale)) for lost in self.lost)
        return rows, columns

    @property
    def is_centred(self) -> bool:
        """True if as many output pixels are lost on each side."""
        return not any(lost % 2 for lost in self.lost)

    @classmethod
    def of(cls, size: Size, output: Size) -> "Law | None":
        """The law of a network that loses no pixels; None if this output is not one of it."""
        scale = output[0] // size[0]
        found = cls(scale)
        return found if scale >= 1 and found.output(size) == output else None

    @classmethod
    def through(cls, first: tuple[Size, Size], second: tuple[Size, Size]) -> "Law | None":
        """The law of two (input, output) sizes, the second higher and wider; None if there is none.

        >>> Law.through(((64, 64), (116, 116)), ((128, 192), (244, 372)))
        Law(scale=2, lost=(12, 12))
        """
        steps = [
            (out - small_out, n - small)
            for small, small_out, n, out in zip(*first, *second, strict=True)
        ]
        scale = steps[0][0] // steps[0][1]
        if scale < 1 or any(out != scale * n for out, n in steps):
            return None
        lost = tuple(n * scale - out for n, out in zip(*first, strict=True))
        return cls(scale, (lost[0], lost[1])) if min(lost) >= 0 else None


@dataclass(frozen=True)
class Padding:
    """Pixels to append to an image by reflection.

    Attributes:
        before: rows above, columns on the left.
        after: rows below, columns on the right.
    """

    before: Size = (0, 0)
    after: Size = (0, 0)

    def size(self, size: Size) -> Size:
        """(height, width) of a padded image."""
        rows, columns = map(sum, zip(size, self.before, self.after, strict=True))
        return rows, columns

    def __call__(self, x: Tensor) -> Tensor:
        """Pad (b, c, h, w)."""
        for dim, above, below in zip((-2, -1), self.before, self.after, strict=True):
            if above:
                x = reflected(x.flip(dim), dim, above).flip(dim)
            x = reflected(x, dim, below)
        return x


@dataclass(frozen=True)
class Accepted:
    """The sizes that a network accepts.

    Attributes:
        multiple: height and width are multiples of these.
        least: smallest height and width.
        square: height and width are equal.
        law: of the size of the output.
    """

    multiple: Size = (1, 1)
    least: Size = (1, 1)
    square: bool = False
    law: Law | None = None

    def padding(self, size: Size) -> Padding:
        """The least padding of an image to a size that is accepted.

        >>> Accepted(multiple=(8, 8)).padding((13, 16))
        Padding(before=(0, 0), after=(3, 0))
        """
        margin = self.law.margin if self.law else (0, 0)
        wanted = [
            max(n + 2 * m, least) for n, m, least in zip(size, margin, self.least, strict=True)
        ]
        if self.square:
            wanted = [max(wanted)] * 2
        wanted = [n + -n % multiple for n, multiple in zip(wanted, self.multiple, strict=True)]
        rows, columns = (w - n - m for w, n, m in zip(wanted, size, margin, strict=True))
        return Padding(margin, (rows, columns))


def accepted_sizes(output: Callable[[Size], Size], train_size: Size | None) -> Iterator[Accepted]:
    """Yield what a network accepts, by a search at small sizes; the next one where one is refused.

    Args:
        output: (height, width) that the network returns for an input size; it raises where the
            network refuses the size.
        train_size: of the network, None if it is not known.

    Raises:
        GlocalError: the network loses more pixels at one border than at the other.
    """
    for train in _USUAL if train_size is None else (train_size,):
        law = _law(output, train)
        if law is not None:
            break
    else:
        return
    if not law.is_centred:
        raise GlocalError(
            f"the output lacks {law.lost[0]} rows and {law.lost[1]} columns, which cannot be the "
            "same number on both sides; pad the image in the network's forward"
        )

    def accepts(size: Size) -> bool:
        return _output(output, size) == law.output(size)

    (h, w) = train
    square = h == w and accepts((2 * h, 2 * w)) and not accepts((2 * h, w))
    found = Accepted(
        (
            _divisor(h, lambda n: accepts((h + n, w + n if square else w))),
            _divisor(w, lambda n: accepts((h + n if square else h, w + n))),
        ),
        square=square,
        law=law,
    )
    yield found
    yield replace(found, least=train)


def _law(output: Callable[[Size], Size], train: Size) -> Law | None:
    first = _output(output, train)
    if first is None:
        return None
    law = Law.of(train, first)
    if law is not None:
        return law
    larger = 2 * train[0], 3 * train[1]
    second = _output(output, larger)
    return None if second is None else Law.through((train, first), (larger, second))


def _output(output: Callable[[Size], Size], size: Size) -> Size | None:
    try:
        return output(size)
    except GlocalError:
        raise
    except Exception:  # a network may refuse a size with any exception
        return None


def _divisor(side: int, accepts: Callable[[int], bool]) -> int:
    """Return the smallest divisor of a side by which the network lets it grow."""
    step = side
    for prime in _primes(side):
        if accepts(step // prime):
            step //= prime
    return step


def _primes(n: int) -> Iterator[int]:
    """Yield the prime factors of a number, each as often as it divides it."""
    factor = 2
    while n > 1:
        if n % factor:
            factor += 1
        else:
            n //= factor
            yield factor
