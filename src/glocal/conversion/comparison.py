"""Compare a converted network with the original, and run it on a larger image."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.conversion.causes import cause_of_difference, place
from glocal.conversion.covering import covers_maps
from glocal.conversion.proof_runs import Miss, Mode, Network, Pair, near_multiples
from glocal.errors import ConversionError
from glocal.ops.windows import Size
from glocal.scanning.discover import trace_at
from glocal.scanning.modules import ancestors
from glocal.shortages import raise_shortage_of
from glocal.texts import size_text

__all__ = ["Comparison", "excess"]

FULL_SIDE = 160
"""Up to this side, equality is checked where the window just covers the image, too."""
SMALL = 64 * 64
"""Pixels up to which a comparison is made with gradients, which keep all activations."""
ROUNDING = 100
"""Times the tolerance within which a comparison in float64 decides whether it is rounding."""
LARGEST = 1 << 18
"""Pixels of the largest run, unless four training crops are more."""


class Comparison(Pair):
    """The original and the converted network, and what is compared of them."""

    # ---- equality

    def equality(self) -> Miss | None:
        """Compare the results where every window covers its map."""
        ran = False
        for sizes, batches, mode in self._equal_sizes():
            for size, batch in ((s, b) for s in sizes for b in batches):
                args = self.original.arguments(size, batch)
                try:
                    wanted = self.original.results(args, mode)
                except Exception as error:  # the network does not take this size or batch
                    raise_shortage_of(error)
                    continue
                ran = True
                try:
                    got = self.local.results(args, mode)
                except Exception as error:
                    raise_shortage_of(error)
                    return self._crash(args, size, mode)
                if self._agree(wanted, got, size):
                    break
                if self._is_covered(size):
                    return self._difference(args, size, mode)
        if not ran:
            raise ConversionError(
                f"{place(self.converted.model)} cannot be compared with its local form: it does "
                f"not run on random images of {size_text(self.converted.scan.size)} pixels in "
                "the mode that it is in (pass example= with inputs that it accepts, or "
                "verify=False to skip the comparison)"
            )
        return None

    def _equal_sizes(self) -> Iterator[tuple[list[Size], tuple[int, ...], Mode]]:
        """Yield alternative sizes and batches, and the mode, of each comparison."""
        train, (wh, ww) = self.converted.train_size, self.converted.window
        th, tw = train
        most = (min(wh, max(th, FULL_SIDE)), min(ww, max(tw, FULL_SIDE)))
        if most[0] > th or most[1] > tw:
            bigger = near_multiples(most, train, up=False)
            yield [s for s in bigger if s[0] > th or s[1] > tw], (1,), "inference"
        th, tw = min(th, wh), min(tw, ww)
        yield (
            [*near_multiples((th, tw), train, up=False), self.converted.scan.size],
            (1,),
            "no_grad",
        )
        smaller = (max(1, 5 * th // 8 - 1 | 1), max(1, tw // 2 - 1 | 1))
        small = smaller[0] * smaller[1] <= SMALL
        yield near_multiples(smaller, train, up=False), (2, 1), "grad" if small else "inference"

    def _is_covered(self, size: Size) -> bool:
        made = self.converted
        axes = zip(size, made.scan.size, made.window, strict=True)
        return all(n <= scanned <= w for n, scanned, w in axes) or covers_maps(made, size)

    def _agree(self, wanted: list[Tensor], got: list[Tensor], size: Size) -> bool:
        difference = excess(wanted, got)
        return difference <= 1 or (difference < ROUNDING and self._agree_in_float64(size))

    def _difference(self, args: Any, size: Size, mode: Mode) -> Miss:
        """The miss where the results differ."""
        at = f"at {size_text(size)}"
        miss = self._differing_block(args, mode, at)
        if miss and (other := self.other_path(size)):
            return Miss(miss.path, f"{other}; its local form computes other values", miss.blocks)
        return miss or Miss(
            "",
            f"the network computes other values than the original {at}, although each of its "
            "local modules alone computes the same",
            tuple(self.converted.blocks),
        )

    def other_path(self, size: Size) -> str | None:
        """Where the original runs other operations at a size than at the training size."""
        made = self.converted
        run, first = trace_at(made.model, made.scan.make_args, size), made.scan.traces[0]
        if run is None:
            return None
        for a, b in zip_longest(first.calls, run.calls):
            if (a and (a.name, a.path)) != (b and (b.name, b.path)):
                call = a or b
                return (
                    f"the code at {call.line or call.function} runs other operations at "
                    f"{size_text(size)} than at {size_text(made.scan.size)}"
                )
        return None

    def _agree_in_float64(self, size: Size) -> bool:
        made = self.converted
        awake: dict[int, nn.Parameter] = {}
        try:
            one, two = (
                Network(model, made.scan.make_args, awake).double()
                for model in (made.model, made.root)
            )
            args = one.arguments(size)
            return excess(one.results(args), two.results(args)) <= 1
        except Exception:  # code that creates float32 tensors, say
            return False

    def _differing_block(self, args: Any, mode: Mode, at: str) -> Miss | None:
        """Run each block and its local form on the same arguments, inside one run."""
        found: list[Miss] = []
        handles = []
        modules = dict(self.original.module.named_modules())
        sources = dict(self.converted.model.named_modules())
        for path in self.converted.blocks:
            module, local = modules[path], self.local.module.get_submodule(path)
            before: list[Any] = []

            def enter(_: nn.Module, a: Any, k: Any, before: list[Any] = before) -> None:
                state = torch.get_rng_state()
                before.append((*tree_map_only(Tensor, torch.clone, (a, k)), state))

            def leave(
                module: nn.Module, a: Any, k: Any, out: Any,
                path: str = path, local: nn.Module = local, before: list[Any] = before,
                source: nn.Module = sources[path],
            ) -> None:  # fmt: skip
                own, keywords, state = before.pop()
                after = torch.get_rng_state()
                torch.set_rng_state(state)
                try:
                    got = _tensors(local(*own, **keywords))
                    if excess(_tensors(out), got) > 1:
                        found.append(Miss(path, cause_of_difference(source, at), (path,)))
                    elif excess(_tensors((a, k)), _tensors((own, keywords))) > 1:
                        why = f"{place(module)} writes to its input, and its local form does not"
                        found.append(Miss(path, why, (path,)))
                except Exception:
                    why = f"{place(source)} runs in the original {at}, not in its local form"
                    found.append(Miss(path, why, (path,)))
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
        for size in near_multiples(wanted, made.train_size, up=True):
            args = self.local.arguments(size)
            try:
                got = self.local.results(args)
            except Exception as error:
                raise_shortage_of(error)
                try:
                    self.original.run(args)
                except Exception:  # nor does the original take this size
                    continue
                return self._crash(args, size, "inference")
            if all(_is_finite(t) for t in got):
                return None
            if any(not _is_finite(t) for t in self.original.results(args)):
                return None
            why = (
                f"the local form returns values that are not finite at {size_text(size)}, where "
                "those of the original are"
            )
            return Miss(next(iter(made.blocks)), why, tuple(made.blocks))
        return None

    def _crash(self, args: Any, size: Size, mode: Mode) -> Miss:
        """The miss where the original runs and the converted network does not."""
        running = _Running(self.local.module)
        with suppress(Exception):
            self.local.run(args, mode)
        running.remove()
        module = dict(self.converted.model.named_modules()).get(running.path, self.converted.model)
        why = (
            f"the code of {place(module)} runs in the original network at {size_text(size)}, "
            "not in its local form"
        )
        blocks = self.converted.blocks
        for above in ancestors(running.path):
            hit = [b for b in blocks if above in ancestors(b) or b in ancestors(above)]
            if hit:
                return Miss(running.path, why, tuple(hit))
        return Miss(running.path, why, tuple(blocks))


class _Running:
    """Tracks the innermost running module: after an error, the one that raised it."""

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


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


def _is_finite(t: Tensor) -> bool:
    return bool(torch.isfinite(t).all())


def excess(wanted: list[Tensor], got: list[Tensor]) -> float:
    """Return the largest difference ÷ tolerance; infinite for other shapes or NaNs."""
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
