"""The proof at the end of `localize`: compares the converted network with the original.

Three questions, answered by running private copies of both on image-like values, in the mode in
which each module is: does the converted network equal the original where every window covers its
map; does it run on a larger image; and is it local, so that no module depends on far pixels
(`locality`). The values of zero-initialised parameters are random in the copies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.conversion.causes import cause_of_difference, cause_of_reach, place, unused_block
from glocal.conversion.locality import Strip, Suspect, suspects
from glocal.conversion.proof_runs import Mode, Network, isolated, near_multiples
from glocal.errors import ConversionError
from glocal.ops.windows import Size, scale_window
from glocal.scanning.analysis import Global
from glocal.scanning.discover import Scan, trace_at
from glocal.scanning.modules import ancestors
from glocal.texts import size_text

__all__ = ["Converted", "Miss", "prove"]

FULL_SIDE = 160
"""Up to this side, equality is checked where the window just covers the image, too."""
LARGEST = 1 << 18
"""Pixels of the largest run, unless four training crops are more."""
STRIP_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 47, 53, 61, 71, 83, 97, 113, 127, 149, 173)
"""A strip is 32 or 64 times one of these long: few numbers of channels look like it."""


@dataclass(frozen=True)
class Converted:
    """A conversion to prove.

    Attributes:
        model, root: the original, and the converted copy.
        scan: of the original.
        train_size, window: (height, width) in input pixels.
        blocks: the converted modules by path, with the global operations of the original in each.
        left: the operations that stay global, as named or allowed.
        excused: paths of modules that are known to be global.
    """

    model: nn.Module
    root: nn.Module
    scan: Scan
    train_size: Size
    window: Size
    blocks: Mapping[str, Sequence[Global]]
    left: Sequence[Global] = ()
    excused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Miss:
    """A part of the proof that fails.

    Attributes:
        path: of the module at fault.
        why: what its code does.
        blocks: the converted modules to put back; empty if none is at fault.
    """

    path: str
    why: str
    blocks: tuple[str, ...] = ()


def prove(converted: Converted) -> Miss | None:
    """Return the first miss; None if the conversion is proven.

    Raises:
        ConversionError: the original does not run on image-like values at the training size, so
            that nothing can be compared.
    """
    proof = _Proof(converted)
    with isolated():
        if not converted.blocks:
            return proof.locality()
        return proof.equality() or proof.larger() or proof.locality()


@dataclass
class _Proof:
    """The runs of one proof; `multiple` is what the original wants sizes to be a multiple of."""

    converted: Converted
    _multiple: int = 1
    _awake: dict[int, nn.Parameter] = field(default_factory=dict)

    @cached_property
    def original(self) -> Network:
        made = self.converted
        return Network(made.model, made.scan.make_args, self._awake)

    @cached_property
    def local(self) -> Network:
        self.original  # noqa: B018  # it draws the random parameters
        made = self.converted
        return Network(made.root, made.scan.make_args, self._awake)

    # ---- equality

    def equality(self) -> Miss | None:
        """Compare the results where every window covers its map."""
        checked = 0
        for sizes, batches, mode in self._equal_sizes():
            for size, batch in ((s, b) for s in sizes for b in batches):
                args = self.original.arguments(size, batch)
                try:
                    wanted = self.original.results(args, mode)
                except Exception:  # the network does not take this size or batch
                    continue
                checked += 1
                miss = self._compare(args, wanted, size, mode)
                if miss:
                    return miss
                break
        if not checked and self._first_is_covered:
            raise ConversionError(
                f"{place(self.converted.model)} cannot be compared with its local form: it does "
                f"not run on random images of {size_text(self.converted.scan.size)} pixels in "
                "the mode that it is in (pass example= with inputs that it accepts, or "
                "verify=False to skip the comparison)"
            )
        return None

    @property
    def _first_is_covered(self) -> bool:
        pairs = zip(self.converted.window, self.converted.train_size, strict=True)
        return all(window >= train for window, train in pairs)

    def _equal_sizes(self) -> Iterator[tuple[list[Size], tuple[int, ...], Mode]]:
        """Alternatives of sizes, batches, and the mode, for each of two or three comparisons."""
        (th, tw), (wh, ww) = self.converted.scan.size, self.converted.window
        if not self._first_is_covered:
            th, tw = min(th, wh), min(tw, ww)
            covered = [s for s in near_multiples((th, tw), up=False) if self._covers(s)]
            yield covered[:3], (2, 1), "no_grad"
            return
        largest = (min(wh, max(th, FULL_SIDE)), min(ww, max(tw, FULL_SIDE)))
        if largest != (th, tw):
            bigger = [s for s in near_multiples(largest, up=False) if s[0] >= th and s[1] >= tw]
            yield [s for s in bigger if s != (th, tw) and self._covers(s)][:2], (1,), "inference"
        yield [(th, tw)], (2, 1), "no_grad"
        smaller = (max(1, (3 * th // 4) - 1 | 1), max(1, (5 * tw // 8) - 1 | 1))
        small = smaller[0] * smaller[1] <= 64 * 64
        fitting = near_multiples(smaller, up=False)
        yield fitting, (1,), "grad" if small else "inference"

    def _covers(self, size: Size) -> bool:
        """True if every window is known to cover its map on an image of this size."""
        made = self.converted
        if all(2 * n <= w for n, w in zip(size, made.window, strict=True)):
            return True
        run = trace_at(made.model, made.scan.make_args, size)
        first, higher, wider = made.scan.traces
        if run is None or [c.name for c in run.calls] != [c.name for c in first.calls]:
            return False
        for operation in (o for inside in made.blocks.values() for o in inside):
            calls = [t.calls[operation.index].refs() for t in (first, higher, wider, run)]
            found = False
            for a, b, c, d in zip(*calls, strict=True):
                tall = [j for i, j in zip(a.shape, range(len(a.shape)), strict=True)
                        if b.shape[j] != i and c.shape[j] == i]  # fmt: skip
                wide = [j for i, j in zip(a.shape, range(len(a.shape)), strict=True)
                        if c.shape[j] != i and b.shape[j] == i]  # fmt: skip
                if not (tall and wide):
                    continue
                found = True
                feature = (a.shape[tall[0]], a.shape[wide[0]])
                window = scale_window(feature, made.window, made.scan.size)
                if d.shape[tall[0]] > window[0] or d.shape[wide[0]] > window[1]:
                    return False
            if not found:
                return False
        return True

    def _compare(self, args: Any, wanted: list[Tensor], size: Size, mode: Mode) -> Miss | None:
        at = f"at {size_text(size)}"
        try:
            got = self.local.results(args, mode)
        except Exception as error:
            return self._crash(error, at)
        difference = _difference(wanted, got)
        if difference <= 1:
            return None
        if difference < 100 and self._agree_in_float64(size):
            return None  # rounding
        return self._differing_block(args, mode, at) or Miss(
            "",
            f"the network computes other values than the original {at}, although each of its "
            "local modules alone computes the same",
            tuple(self.converted.blocks),
        )

    def _agree_in_float64(self, size: Size) -> bool:
        made = self.converted
        awake: dict[int, nn.Parameter] = dict(self._awake)
        try:
            one, two = (
                Network(model, made.scan.make_args, awake).double()
                for model in (made.model, made.root)
            )
            args = one.arguments(size)
            return _difference(one.results(args), two.results(args)) <= 1
        except Exception:  # code that creates float32 tensors, say
            return False

    def _differing_block(self, args: Any, mode: Mode, at: str) -> Miss | None:
        """Run each block and its local form on the same arguments, inside one run."""
        found: list[Miss] = []
        handles = []
        modules = dict(self.original.module.named_modules())
        for path in self.converted.blocks:
            module, local = modules[path], self.local.module.get_submodule(path)
            before: list[Any] = []

            def enter(_: nn.Module, a: Any, k: Any, before: list[Any] = before) -> None:
                state = torch.get_rng_state()
                before.append((*tree_map_only(Tensor, torch.clone, (a, k)), state))

            def leave(
                module: nn.Module, a: Any, k: Any, out: Any,
                path: str = path, local: nn.Module = local, before: list[Any] = before,
            ) -> None:  # fmt: skip
                own, keywords, state = before.pop()
                after = torch.get_rng_state()
                torch.set_rng_state(state)
                try:
                    got = _tensors(local(*own, **keywords))
                    if _difference(_tensors(out), got) > 1:
                        found.append(Miss(path, cause_of_difference(module, at), (path,)))
                    elif _difference(_tensors((a, k)), _tensors((own, keywords))) > 1:
                        why = f"{place(module)} writes to its input, and its local form does not"
                        found.append(Miss(path, why, (path,)))
                except Exception:
                    found.append(Miss(path, _does_not_run(module, at), (path,)))
                finally:
                    torch.set_rng_state(after)

            handles += [
                module.register_forward_pre_hook(enter, with_kwargs=True),
                module.register_forward_hook(leave, with_kwargs=True),
            ]
        try:
            self.original.run(args, mode)
        finally:
            for handle in handles:
                handle.remove()
        return found[0] if found else None

    # ---- a larger image

    def larger(self) -> Miss | None:
        """Run the converted network on an image above its window, odd and not square."""
        made = self.converted
        limit = max(LARGEST, 4 * made.train_size[0] * made.train_size[1])
        (th, tw), (wh, ww) = made.train_size, made.window
        wanted = (max(th, wh) + 1 | 1, max(tw, ww) + 12 | 1)
        if wanted[0] * wanted[1] > limit:
            wanted = (th * 3 // 4 | 1, min(tw * 5 // 4, limit // th) | 1)
        for size in near_multiples(wanted, up=True):
            at = f"at {size_text(size)}"
            args = self.local.arguments(size)
            running = _Running(self.local.module)
            try:
                got = self.local.results(args)
            except Exception as error:
                try:
                    self.original.run(args)
                except Exception:  # nor does the original take this size
                    continue
                return self._crash(error, at, running.path)
            finally:
                running.remove()
            if all(_is_finite(t) for t in got) or not all(
                _is_finite(t) for t in self.original.results(args)
            ):
                return None
            why = f"the local form returns values that are not finite {at}, and the original none"
            path = next(iter(made.blocks))
            return Miss(path, why, tuple(made.blocks))
        return None

    def _crash(self, error: Exception, at: str, path: str | None = None) -> Miss:
        if path is None:
            path = ""
        blocks = self.converted.blocks
        for above in ancestors(path):
            hit = [b for b in blocks if above in ancestors(b) or b in ancestors(above)]
            if hit:
                inner = dict(self.converted.model.named_modules()).get(path, self.converted.model)
                return Miss(path, _does_not_run(inner, at), tuple(hit))
        return Miss(path, _does_not_run(self.converted.model, at), tuple(blocks))

    # ---- locality

    def locality(self) -> Miss | None:
        """Look for modules that depend on far pixels, on a wide strip and on a high one."""
        made = self.converted
        excused = set(made.excused)
        for operation in made.left:
            above = ancestors(operation.path)
            stop = above.index(operation.owner) if operation.owner in above else len(above)
            excused.update(above[: stop + 1])
        for axis in (-1, -2):
            miss = self._strip(axis, frozenset(excused))
            if miss:
                return miss
        return None

    def _strip(self, axis: int, excused: frozenset[str]) -> Miss | None:
        made = self.converted
        train, window = made.train_size[axis], made.window[axis]
        band = max(32, min(128, train // 32 * 32))
        limit = max(1 << 16, 2 * made.train_size[0] * made.train_size[1])
        reach = {path: window * len(inside) + 2 * band for path, inside in made.blocks.items()}
        length = 4 * band + max([band, *(r for r in reach.values())])
        earlier: list[Suspect] = []
        while True:
            found = self._run_strip(axis, length, band, limit, reach, excused)
            if found is None:
                return None
            strip, now, called = found
            unused = [path for path in made.blocks if path not in called]
            if unused:
                return Miss(unused[0], unused_block(made.model, unused[0]), (unused[0],))
            before = {s.path: s.distance for s in earlier}
            growing = [s for s in now if s.distance >= 1.5 * before.get(s.path, 1 << 30)]
            if growing:
                return self._far(growing[0])
            if not now:
                return None
            earlier, length = now, 2 * strip.length

    def _run_strip(
        self, axis: int, length: int, band: int, limit: int,
        reach: Mapping[str, int], excused: frozenset[str],
    ) -> tuple[Strip, list[Suspect], set[str]] | None:  # fmt: skip
        """Suspects on the lowest strip that the network takes; None if there is none."""
        other = self.converted.scan.size[-3 - axis]
        for unit in (32, 64):
            prime = next((p for p in STRIP_PRIMES if p * unit >= length), STRIP_PRIMES[-1])
            strip = Strip(prime * unit, axis, band, band)
            for side in sorted({16, 32, 64, 128, other}):
                if side * strip.length > limit and side > 16:
                    break
                size = (side, strip.length) if axis == -1 else (strip.length, side)
                try:
                    args = self.local.arguments(size)
                    now, called, _ = suspects(
                        self.local.module, args, strip, lambda _, a: self.local.run(a), reach,
                        excused,
                    )  # fmt: skip
                except Exception:  # a strip that the network does not take
                    continue
                return strip, now, called
        return None

    def _far(self, suspect: Suspect) -> Miss:
        made = self.converted
        block = next((b for b in made.blocks if b in ancestors(suspect.path)), None)
        path = block if block is not None else suspect.inner
        module = dict(made.model.named_modules()).get(path, made.model)
        why = cause_of_reach(made.model, path, module)
        return Miss(path, why, () if block is None else (block,))


class _Running:
    """Tracks the innermost module that has begun and not ended: after an error, where it arose."""

    def __init__(self, model: nn.Module) -> None:
        self._stack: list[str] = []
        self._handles = []
        for path, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue

            def enter(_: nn.Module, args: Any, path: str = path) -> None:
                self._stack.append(path)

            def leave(*_: Any) -> None:
                self._stack.pop()

            self._handles += [
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave),
            ]

    @property
    def path(self) -> str:
        return self._stack[-1] if self._stack else ""

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def _does_not_run(module: nn.Module, at: str) -> str:
    return f"the code of {place(module)} runs in the original network {at}, not in its local form"


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


def _is_finite(t: Tensor) -> bool:
    return bool(torch.isfinite(t).all())


def _difference(wanted: list[Tensor], got: list[Tensor]) -> float:
    """Largest difference over what rounding explains; infinite for other shapes or NaNs."""
    if [t.shape for t in wanted] != [t.shape for t in got]:
        return float("inf")
    worst = 0.0
    for a, b in zip(wanted, got, strict=True):
        if a.dtype != b.dtype:
            return float("inf")
        if a.numel() == 0 or bool((a == b).all()):
            continue
        if not (a.is_floating_point() or a.is_complex()):
            return float("inf")
        same = (a == b) | (a.isnan() & b.isnan())
        if bool(((a - b).isnan() & ~same).any()):
            return float("inf")
        limit = {torch.float64: 1e-9, torch.float32: 1e-4}.get(a.dtype, 3e-2)
        scale = float(torch.nan_to_num(a.abs(), 0, 0, 0).max())
        most = float(torch.where(same, 0, (a - b).abs()).max())
        worst = max(worst, most / (limit * scale) if scale else float("inf"))
    return worst
