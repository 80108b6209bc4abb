"""Times the matrix products that decode a text, for one row, five and eight: prints two Markdown tables.

    python -m scripts.measure_kernels

Weights in float32 are torch's plain product, oneDNN's packed one and Helix's own; in eight bits every kernel that can
be had. The products of one shape take turns. A column that this machine does not have is left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from helix_cli.model.float_native import NativeLinear, open_float
from helix_cli.model.int8_kernels import INT8_KERNELS, Int8Kernel, open_kernel
from helix_cli.model.linear import Linear, can_pack

Product = Callable[[Tensor], Tensor]
Shape = tuple[int, int]
FLOAT_SHAPES: Final[Sequence[Shape]] = ((5632, 2048), (4096, 256), (1408, 256), (256, 704), (512, 256), (256, 256))
INT8_SHAPES: Final[Sequence[Shape]] = ((11264, 2048), (2048, 5632), (2560, 2048), (32000, 2048))
ROWS: Final = (1, 5, 8)
SHORTEST_S: Final = 1e-3
"""Small products are repeated until a sample lasts this long: a clock has its own cost."""


def float_products(shape: Shape) -> dict[str, Product]:
    """Name -> product over one random matrix."""
    weight = torch.randn(shape)
    found: dict[str, Product] = {"plain": Linear(weight)}
    if can_pack(torch.float32):
        found["packed"] = Linear(weight, packed=True)
    function = open_float()
    if function is not None:
        found["compiled"] = NativeLinear(weight, None, function)
    return found


def int8_products(shape: Shape) -> dict[str, Product]:
    """Name -> product over one random matrix of eight bits."""
    values, scales = torch.randint(-127, 128, shape, dtype=torch.int8), torch.rand(shape[0])
    return {name: _int8(kernel, values, scales) for name in INT8_KERNELS if (kernel := open_kernel(name)) is not None}


def _int8(kernel: Int8Kernel, values: Tensor, scales: Tensor) -> Product:
    packed = kernel.pack(values, scales)
    return lambda x: kernel.multiply(x, packed, None, None)


def microseconds(products: dict[str, Product], x: Tensor, runs: int) -> dict[str, float]:
    """The lower third's median for each product, which take turns."""
    samples: dict[str, list[float]] = {name: [] for name in products}
    for _ in range(runs):
        for name, product in products.items():
            count, begun = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - begun) < SHORTEST_S or not count:
                product(x)
                count += 1
            samples[name].append(1e6 * elapsed / count)
    return {name: statistics.median(sorted(times)[: max(1, len(times) // 3)]) for name, times in samples.items()}


def table(title: str, shapes: Sequence[Shape], make: Callable[[Shape], dict[str, Product]], runs: int) -> str:
    """A Markdown table with a line for each shape."""
    lines: list[str] = []
    for shape in shapes:
        products = make(shape)
        by_rows = [microseconds(products, torch.randn(rows, shape[1]), runs) for rows in ROWS]
        if not lines:
            heads = [f"{name}, {rows} row{'s' if rows > 1 else ''}" for rows in ROWS for name in products]
            lines = [f"| {title} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        cells = [f"{found[name]:.0f}" for found in by_rows for name in products]
        lines.append(f"| {shape[0]} x {shape[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"Microseconds a product, {torch.get_num_threads()} threads, torch {torch.__version__}.\n")
    with torch.no_grad():
        print(table("float32", FLOAT_SHAPES, float_products, options.runs), end="\n\n", flush=True)
        print(table("int8", INT8_SHAPES, int8_products, options.runs))


if __name__ == "__main__":
    main()
